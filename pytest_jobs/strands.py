"""One thread that runs only while it holds the baton."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pytest_jobs.dying import running_frames

__all__ = ["Strand", "kernel", "shut", "stance_of"]
__tracebackhide__ = True


def kernel(thread: threading.Thread, what: str) -> str:
    """Return what Linux says of a thread, nothing elsewhere."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/{what}", encoding="ascii") as told:
            return told.read()
    except OSError:
        return ""


def shut() -> Any:
    """Make a lock that is taken: unlike a semaphore it waits in real time while time is frozen."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Strand:
    """One thread, and what belongs to it while it does not run."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.thread: Any = None
        self.ident = 0
        self.go = shut()
        self.waits = True
        self.done = False
        self.ended = False
        self.wakes: datetime | None = None
        self.kept: tuple[Any, Any] = (None, None)
        self.error: BaseException | None = None


def stance_of(strand: Strand) -> Any:
    """Return where a thread stands: the same again when it has not moved."""
    frame = running_frames().get(strand.thread.ident)
    if frame is None or kernel(strand.thread, "stat").rpartition(") ")[2][:1] in ("R", "D"):
        # Under way, however long a busy machine lets it stand: never the same as before.
        return object()
    return id(frame), frame.f_lasti
