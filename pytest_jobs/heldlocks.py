"""The locks in memory that a dead task holds: the end of its process would take them along."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["held_locks", "let_go"]

LOCK: Any = type(threading.Lock())
RLOCK: Any = type(threading.RLock())


def held_locks(frames: Iterable[FrameType], is_project: Callable[[str], bool]) -> list[Any]:
    """Return the locks which dying project code can name, and which somebody holds now.

    Nobody can ask a lock who holds it. What is looked at are local and global names of the frames, and attributes of
    what these name.
    """
    found: dict[int, Any] = {}
    for frame in frames:
        if is_project(frame.f_code.co_filename):
            for lock in _named(frame):
                if _held(lock):
                    found[id(lock)] = lock
    return list(found.values())


def let_go(locks: Iterable[Any]) -> None:
    """Release locks, as often as they were taken."""
    for lock in locks:
        while _held(lock):
            with suppress(RuntimeError):
                lock.release()
                continue
            break


def _named(frame: FrameType) -> Iterator[Any]:
    names = frame.f_code.co_names
    values = list(frame.f_locals.values())
    values += [frame.f_globals[name] for name in names if name in frame.f_globals]
    for value in values:
        yield value
        homes = [getattr(value, "__dict__", {}), *(vars(kind) for kind in type(value).__mro__)]
        for name in names:
            yield next((home[name] for home in homes if name in home), None)


def _held(value: Any) -> bool:
    if isinstance(value, threading.Condition):
        value = getattr(value, "_lock", None)
    if isinstance(value, RLOCK):
        return bool(value._is_owned())
    waiting = getattr(sys.modules.get("asyncio"), "Lock", LOCK)
    return isinstance(value, LOCK | waiting) and bool(value.locked())
