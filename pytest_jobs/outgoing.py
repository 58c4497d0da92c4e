"""Calls of the project's own that a test declares to be outgoing."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from pytest_jobs.errors import UsageError
from pytest_jobs.probes.base import Recorder, Transient
from pytest_jobs.records import Effect
from pytest_jobs.targets import Attribute, resolve

if TYPE_CHECKING:
    from pytest_jobs.session import Session

__all__ = ["declare"]
__tracebackhide__ = True

SHOWN = 80


def declare(session: "Session", target: Any, error: Any) -> None:
    """Make every call of a dotted path an effect while the world lasts."""
    made = _maker(error)
    found = resolve(target, session.queue, "jobs.outgoing")
    if not isinstance(found, Attribute):
        raise UsageError(
            f"jobs.outgoing was given the task {found.name}; allowed is a dotted path to a callable, for example "
            "'shop.gateway.charge': a published task is an effect without being declared"
        )
    session.keep(found.replaced(lambda call: _wrapped(call, found.path, session.recorder, made)))


def _maker(error: Any) -> Transient:
    if isinstance(error, BaseException):
        return lambda: error.with_traceback(None)
    if not (isinstance(error, type) and issubclass(error, BaseException)):
        raise UsageError(f"jobs.outgoing was given error={error!r}; allowed is an exception or an exception class")
    try:
        error()
    except TypeError as why:
        raise UsageError(
            f"jobs.outgoing was given the class {error.__name__}, which cannot be made without arguments ({why}); "
            f"give an instance, for example {error.__name__}(…)"
        ) from None
    return error


def _wrapped(call: Callable[..., Any], path: str, recorder: Recorder, error: Transient) -> Callable[..., Any]:
    name = ".".join(path.split(".")[-2:])

    def effect(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Effect:
        given = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
        detail = given if len(given) <= SHOWN else f"{given[: SHOWN - 1]}…"
        return Effect("call", f"call:{path}", f"call {name}", detail=detail)

    # Not atomic: what the call does inside is seen as well, its database rows among it.
    if inspect.iscoroutinefunction(call):

        @wraps(call)
        async def outgoing(*args: Any, **kwargs: Any) -> Any:
            with recorder.doing(effect(args, kwargs), error, atomic=False):
                return await call(*args, **kwargs)

    else:

        @wraps(call)
        def outgoing(*args: Any, **kwargs: Any) -> Any:
            with recorder.doing(effect(args, kwargs), error, atomic=False):
                return call(*args, **kwargs)

    return outgoing
