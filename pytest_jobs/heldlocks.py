"""The locks in memory that a dead task holds: the end of its process would take them along."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import FrameType, MappingProxyType
from typing import Any

__all__ = ["held_locks", "is_held", "let_go"]

LOCK: Any = type(threading.Lock())
RLOCK: Any = type(threading.RLock())
CONTAINERS = (dict, list, tuple)
HOMES = (dict, MappingProxyType)
FEW = 3
MANY = 1_000


def held_locks(frames: Iterable[FrameType], is_project: Callable[[str], bool]) -> list[Any]:
    """Return the locks which dying project code can name, and which somebody holds now.

    Nobody can ask a lock who holds it. What is looked at are local and global names of the frames, attributes of
    what these name, and what stands in their lists and dicts.
    """
    found: dict[int, Any] = {}
    for frame in frames:
        if is_project(frame.f_code.co_filename):
            for value in _named(frame):
                for lock in _inside(value) if issubclass(type(value), CONTAINERS) else (value,):
                    if is_held(lock):
                        found[id(lock)] = lock
    return list(found.values())


def let_go(locks: Iterable[Any]) -> None:
    """Release locks, as often as they were taken."""
    for lock in locks:
        while is_held(lock):
            with suppress(RuntimeError):
                lock.release()
                continue
            break


def _named(frame: FrameType) -> Iterator[Any]:
    names = frozenset(frame.f_code.co_names)
    values = list(frame.f_locals.values())
    values += [frame.f_globals[name] for name in names if name in frame.f_globals]
    for value in values:
        yield value
        for home in (_own(value), *map(vars, type(value).__mro__)):
            if type(home) in HOMES:
                yield from (home[name] for name in names & home.keys())


def _inside(value: Any) -> Iterable[Any]:
    """Return what a container holds, where it is one of locks as far as its first parts tell."""
    kind: Any = type(value)
    parts = iter(dict.values(value)) if issubclass(kind, dict) else (list if issubclass(kind, list) else tuple).__iter__(value)
    with suppress(RuntimeError):  # another thread changes it
        there = list(islice(parts, MANY))
        return there if any(type(part) in (LOCK, RLOCK) for part in there[:FEW]) else ()
    return ()


def _own(value: Any) -> Any:
    """Return an object's own attributes, without asking a class of the project's."""
    with suppress(Exception):
        return object.__getattribute__(value, "__dict__")
    return None


def is_held(value: Any) -> bool:
    """Tell whether something is a lock in memory, and held: a reentrant one by the calling thread."""
    kind = type(value)
    if kind is LOCK:
        return bool(value.locked())
    if kind is RLOCK:
        return bool(value._is_owned())
    if issubclass(kind, threading.Condition):
        return is_held(getattr(value, "_lock", None))
    waiting = getattr(sys.modules.get("asyncio"), "Lock", LOCK)
    return issubclass(kind, waiting) and bool(value.locked())
