"""The threads that a task starts: they are its own, and die with it."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_jobs.dying import Killed, places, running_frames

if TYPE_CHECKING:
    from pytest_jobs.points import Trace, Watch

__all__ = ["Followed", "stop_threads"]
__tracebackhide__ = True

GRACE = 0.05  # seconds of real time for the threads of a dead task to come to their end
TRIES = 10


class Followed:
    """Owns what tells which task a thread, or a call handed to a pool of threads, works for."""

    def __init__(self, watch: "Watch") -> None:
        self._watch = watch
        self._originals: tuple[Any, Any] | None = None
        self._installed: tuple[Any, Any] = (None, None)

    def install(self) -> None:
        """Follow threads from now on."""
        if self._originals is not None:
            return
        watch = self._watch
        start: Any = threading.Thread.start
        submit: Any = ThreadPoolExecutor.submit
        self._originals = (start, submit)

        @wraps(start)
        def followed_start(thread: threading.Thread) -> None:
            trace = watch.traces.get(get_ident())
            if trace is not None:
                trace.refuse()
                trace.listen()
                trace.threads.add(thread)
                vars(thread)["run"] = _within(watch, trace, thread, thread.run)
            start(thread)

        @wraps(submit)
        def followed_submit(pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            trace = watch.traces.get(get_ident())
            if trace is None:
                return submit(pool, call, *args, **kwargs)
            trace.refuse()
            trace.listen()

            def work() -> Any:
                with watch.inside(trace):
                    return call(*args, **kwargs)

            return submit(pool, work)

        self._installed = (followed_start, followed_submit)
        self._put(*self._installed)

    def remove(self) -> None:
        """Leave the classes as they were; what somebody else has replaced since stays."""
        if self._originals is None:
            return
        there = (threading.Thread.start, ThreadPoolExecutor.submit)
        pairs = zip(there, self._installed, self._originals, strict=True)
        self._put(*(before if now is ours else now for now, ours, before in pairs))
        self._originals = None

    @staticmethod
    def _put(start: Any, submit: Any) -> None:
        threading.Thread.start, ThreadPoolExecutor.submit = start, submit  # type: ignore[method-assign]


def _within(watch: "Watch", trace: "Trace", thread: threading.Thread, run: Callable[[], None]) -> Callable[[], None]:
    def watched() -> None:
        vars(thread).pop("run", None)
        try:
            with watch.inside(trace):
                run()
        except Killed:
            return

    return watched


def stop_threads(trace: "Trace") -> list[str]:
    """Wait until no thread of a dead task runs its code; say which ones cannot be stopped.

    A thread that only waits for work, as those of a pool do, belongs to the process and is let go.
    """
    with _untraced():
        busy = _wait_for(trace)
    for thread in trace.threads:
        if thread not in busy and thread.ident is not None and thread.ident != get_ident():
            trace.watch.traces.pop(thread.ident, None)
    left = []
    for thread in busy:
        frame = _place(trace, thread)
        if frame is not None:
            where = trace.watch.source.label(frame.f_code.co_filename, frame.f_lineno)
            left.append(f"the thread {thread.name!r} still waits at {where}")
    return left


def _wait_for(trace: "Trace") -> list[threading.Thread]:
    """Wait for the threads of a dead task, and raise in those that take their time; return those that go on nevertheless."""
    busy = [thread for thread in trace.threads if thread.ident not in {None, get_ident()}]
    for round_number in range(TRIES):
        busy = [thread for thread in busy if thread.is_alive() and _place(trace, thread) is not None]
        if not busy:
            break
        if round_number == TRIES // 2:
            for thread in busy:
                _raise_in(thread.ident, Killed)
        busy[0].join(GRACE / TRIES)
    if LOOPS and round_number >= TRIES // 2:
        for thread in busy:
            _raise_in(thread.ident, None)
        with suppress(Killed):
            _raise_in(get_ident(), Killed)
            while True:
                pass
    return busy


# On Python 3.11 a function that is called where somebody traces never begins while an error waits for another thread.
LOOPS = sys.version_info < (3, 12)


def _raise_in(thread: int | None, kind: type[BaseException] | None) -> None:
    raised = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread or 0), raised)


@contextmanager
def _untraced() -> Iterator[None]:
    before = sys.gettrace()
    if LOOPS:
        sys.settrace(None)
    try:
        yield
    finally:
        if LOOPS:
            sys.settrace(before)


def _place(trace: "Trace", thread: threading.Thread) -> FrameType | None:
    """Return the innermost frame of project code that a thread runs."""
    is_project = trace.watch.source.is_project
    running = running_frames().get(thread.ident or 0)
    return next((frame for frame in places(running, None) if is_project(frame.f_code.co_filename)), None)
