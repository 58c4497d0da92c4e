"""An end for a delivery that runs inside another one, in its thread, and waits for what only that one can let go of."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from pytest_jobs.strands import GLANCE, Gaze, shut

__all__ = ["watched"]
__tracebackhide__ = True

BRIEF = 0.05  # seconds of real time in which most are over
LOOKS = 200  # at a thread that does not move, until it is known to wait; one that waits for a slow server is tried again elsewhere
SIGNAL = getattr(signal, "SIGUSR2", None)


@contextmanager
def watched(abandon: Callable[[], None], apart: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Interrupt the main thread where it stands still in the block for too long; other threads cannot be interrupted.

    A lock of this process or of a database is known before (`held_locks`, `Recorder.holds`). This is for the others:
    a lock on a file, of a library in C, of a server that nobody knows.

    Args:
        abandon: Raises what ends the block.
        apart: Lets a thread be started that belongs to no job.
    """
    main = threading.main_thread()
    # A handler in C, which Python tells as None, could not be put back.
    if SIGNAL is None or threading.current_thread() is not main or signal.getsignal(SIGNAL) is None:
        yield
        return
    over = shut()
    armed = True

    def look() -> None:
        gaze = Gaze(main)
        patience = BRIEF
        while not over.acquire(timeout=patience):
            patience = GLANCE
            if gaze.stands(LOOKS):
                signal.pthread_kill(main.ident or 0, SIGNAL)
                gaze = Gaze(main)

    def strike(number: int, frame: FrameType | None) -> None:
        if armed:
            abandon()

    watching = threading.Thread(target=look, name="jobs-watchman", daemon=True)
    before = signal.signal(SIGNAL, strike)
    try:
        with apart():
            watching.start()
        try:
            yield
        finally:  # of its own: struck at its very end, the block is still cleaned up after
            armed = False
    finally:
        over.release()
        watching.join()
        signal.signal(SIGNAL, before)
