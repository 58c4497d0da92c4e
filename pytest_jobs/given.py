"""What the faults of `jobs` may be given."""

import inspect
import re
import sys
from typing import Any

from pytest_jobs.errors import UsageError
from pytest_jobs.source import Source

__all__ = ["check_exception", "check_times", "is_line", "place", "shown"]
__tracebackhide__ = True

LINE = re.compile(r"[^:#]+\.py:[1-9]\d*")


def is_line(target: Any) -> bool:
    """Tell whether a target names a line."""
    return isinstance(target, str) and (target.startswith("#") or LINE.fullmatch(target) is not None)


def place(target: str, source: Source, queue: Any, caller: str) -> tuple[str, int]:
    """Find the line that `billing/tasks.py:42` or `#charged` names; files that define a task count, tests or not.

    Raises:
        UsageError: When there is no such line.
    """
    for name in queue.names():
        code = getattr(inspect.unwrap(queue.resolve(name).run), "__code__", None)
        if code is not None:
            source.include(code.co_filename)
    if not target.startswith("#"):
        return source.find_line(target, caller)
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return source.find_named(target[1:], caller, [str(file) for file in loaded if file])


def shown(target: Any) -> str:
    """Name a target as the user wrote it."""
    return repr(target) if isinstance(target, str) else str(getattr(target, "name", target))


def check_exception(exc: Any) -> None:
    """Refuse what cannot be raised.

    Raises:
        UsageError: When it is neither an exception nor a class that makes one without arguments.
    """
    if isinstance(exc, BaseException):
        return
    if not (isinstance(exc, type) and issubclass(exc, BaseException)):
        raise UsageError(f"jobs.fail was given {exc!r} to raise; allowed is an exception or an exception class")
    try:
        exc()
    except TypeError as error:
        raise UsageError(
            f"jobs.fail was given the class {exc.__name__}, which cannot be made without arguments ({error}); "
            f"give an instance, for example {exc.__name__}(…)"
        ) from None


def check_times(times: Any) -> None:
    """Refuse what is no number of times.

    Raises:
        UsageError: When it is neither a whole number from 1 nor None.
    """
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        raise UsageError(f"times was given {times!r}; allowed is a whole number from 1, or None for ever")
