"""Where a fault strikes: a task's body, an attribute, a line."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pytest_jobs.errors import UsageError

__all__ = ["Attribute", "TaskBody", "resolve"]
__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class TaskBody:
    """The body of a task."""

    name: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A callable that a dotted path names: an attribute of a module, class or instance."""

    path: str
    owner: Any
    name: str
    hint: str = ""

    @contextmanager
    def replaced(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
        """Put a wrapper in the attribute's place, and the attribute back at the end."""
        own = vars(self.owner).get(self.name, _MISSING) if hasattr(self.owner, "__dict__") else _MISSING
        raw = inspect.getattr_static(self.owner, self.name) if isinstance(self.owner, type) else None
        if isinstance(raw, staticmethod | classmethod):
            wrapper: Any = type(raw)(wrap(raw.__func__))
        elif raw is not None:
            wrapper = wrap(raw)
        else:
            wrapper = wrap(getattr(self.owner, self.name))
        setattr(self.owner, self.name, wrapper)
        try:
            yield
        finally:
            if own is _MISSING:
                delattr(self.owner, self.name)
            else:
                setattr(self.owner, self.name, own)


_MISSING = object()


def resolve(target: Any, queue: Any, caller: str, *, tasks_only: bool = False) -> TaskBody | Attribute:
    """Find what a fault's target names.

    Raises:
        UsageError: When there is no such task or attribute; it names the nearest ones.
    """
    task = queue.resolve(target)
    if task is not None:
        return TaskBody(task.name)
    if not isinstance(target, str) or tasks_only:
        allowed = "a task or its registered name" if tasks_only else "a task, its registered name or a dotted path"
        raise UsageError(f"{caller} was given {target!r} as target; allowed is {allowed}{_near(target, queue.names())}")
    if "." not in target:
        raise UsageError(
            f"{caller} was given {target!r}, which is no registered task and no dotted path to a callable"
            f"{_near(target, queue.names())}"
        )
    owner, name = _walk(target, queue, caller)
    found = getattr(owner, name)
    if not callable(found):
        raise UsageError(f"{caller} was given {target!r}, which is {found!r}; allowed is something callable")
    return Attribute(target, owner, name, _copies(target, owner, name, found))


def _walk(path: str, queue: Any, caller: str) -> tuple[Any, str]:
    """Return the object that holds the last name of a dotted path."""
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UsageError(f"{caller} was given {path!r}; allowed is a task, its registered name or a dotted path")
    owner: Any = None
    used = 0
    for used in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:used])
        try:
            owner = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
                raise
    if owner is None:
        raise UsageError(
            f"{caller} was given {path!r}, but there is no task of that name and no module {parts[0]!r} can be imported"
            f"{_near(path, queue.names())}"
        )
    for number, part in enumerate(parts[used:], start=used):
        if not hasattr(owner, part):
            here = ".".join(parts[:number])
            raise UsageError(f"{caller} was given {path!r}, but {here} has no attribute {part!r}{_near(part, dir(owner))}")
        if number < len(parts) - 1:
            owner = getattr(owner, part)
    return owner, parts[-1]


def _near(name: Any, names: list[str]) -> str:
    close = get_close_matches(str(name), names, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _copies(path: str, owner: Any, name: str, found: Any) -> str:
    """Say which modules hold the same callable under a name of their own, for a fault that never fires."""
    if not inspect.ismodule(owner):
        return ""
    holders = [
        f"{module.__name__}.{name}"
        for module in list(sys.modules.values())
        if inspect.ismodule(module) and module is not owner and vars(module).get(name, _MISSING) is found
    ]
    return f"the same callable is also known as {', '.join(sorted(holders)[:3])}: name the one that is called" if holders else ""
