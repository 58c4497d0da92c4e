"""Where a task can be interrupted, and the kill that runs no cleanup."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NoReturn, TypeVar
from weakref import WeakSet

from pytest_jobs.dying import Killed, places, running_frames
from pytest_jobs.remains import Remains, bury
from pytest_jobs.source import Source
from pytest_jobs.threads import Followed, stop_threads

__all__ = ["Killed", "Trace", "Watch"]
__tracebackhide__ = True

T = TypeVar("T")
OnLine = Callable[[str, int], None]
MODULE = "<module>"


class Trace:
    """One run of one task's body, in which every line of project code can be seen, and be the last.

    From `kill` until `close` no project code runs in the dead task's threads: no `finally`, no `except`, no `__exit__`.

    Attributes:
        dead: Whether the task was killed.
        thread: The thread that runs the body.
        on_line: Told of each line of project code in that thread, before it runs.
        importing: Whether a project module may be on its way in: its lines run once a process, and are no points.
        hushed: Whether its lines are not seen for a while.
    """

    def __init__(self, watch: "Watch", on_line: OnLine | None = None, owner: Any = None, end: CodeType | None = None) -> None:
        self.watch = watch
        self.owner = owner
        self.dead = False
        self.on_line = on_line
        self.importing = False
        self.hushed = False
        self.thread = get_ident()
        self.threads: WeakSet[threading.Thread] = WeakSet()
        self._end = end
        self._outer: Trace | None = None
        self._remains: Remains | None = None
        self._open = False

    def run(self, body: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run the body; raise `Killed` when it died, whatever it made of that itself."""
        self._enter()
        outcome: list[tuple[bool, Any]] = []
        for _ in _apart(lambda: body(*args, **kwargs), outcome):
            raise AssertionError("a body is no iterator")
        succeeded, value = outcome.pop()
        if self.dead:
            if not succeeded:
                bury(value)
            del value
            raise Killed(self)
        self.close()
        if succeeded:
            return value  # type: ignore[no-any-return]
        try:
            raise value
        finally:
            del value

    def kill(self) -> NoReturn:
        """Die here."""
        if not self._open:
            self._enter()
        self.listen()
        if not self.dead:
            self.dead = True
            assert self._remains is not None
            frames = list(self.frames())
            self._remains.strike(frames, self.watch.source.is_project)
            self.watch.condemn(frames)
            del frames
        raise Killed(self)

    def hush(self) -> None:
        """See no lines of this run, which cost time, until `listen`; not where others than its own thread may be killed."""
        if self._outer is None and not any(trace is self and thread != self.thread for thread, trace in self.watch.traces.items()):
            self.hushed = True
            self.watch.hush()

    def listen(self) -> None:
        """See its lines again; only its own thread can."""
        if self.hushed and get_ident() == self.thread:
            self.hushed = False
            self.watch.listen(self._end)

    def refuse(self) -> None:
        """Stop what a dead task, or a thread that is left of one, is about to do."""
        trace = self.watch.traces.get(get_ident(), self)
        if self.dead or trace.dead:
            raise Killed(self if self.dead else trace)

    def close(self, bury_world: Callable[[], None] = lambda: None) -> None:
        """Let go: from here on project code runs again.

        Args:
            bury_world: Does to connections and the like what the end of a process does to them.
        """
        if not self._open:
            return
        self._open = False
        self.listen()
        assert self._remains is not None
        if self.dead:
            self._remains.unlock()
            self.watch.left += stop_threads(self)
            with self.watch.apart():
                bury_world()
            self._remains.clear(self.watch.source.is_project)
        self._remains.release()
        self.watch.leave(self, self._outer)

    def in_import(self) -> bool:
        """Tell whether a module is being imported right here."""
        self.importing = any(frame.f_code.co_name == MODULE for frame in places(sys._getframe(2), self._end))
        return self.importing

    def frames(self) -> Iterator[FrameType]:
        """Yield the frames of every thread of the task."""
        running = running_frames()
        for thread, trace in list(self.watch.traces.items()):
            if trace is self and thread in running:
                yield from places(running[thread], self._end)

    def _enter(self) -> None:
        self._open = True
        self.thread = get_ident()
        self._outer = self.watch.enter(self)
        self._remains = Remains()


def _apart(body: Callable[[], Any], outcome: list[tuple[bool, Any]]) -> Iterator[None]:
    """Run a body in a generator, which has an error state of its own.

    A kill between two instructions that cannot fail leaves a handler without the step that takes its error off again.
    """
    try:
        outcome.append((True, body()))
    except BaseException as error:  # noqa: BLE001 - handed over
        outcome.append((False, error))
    return
    yield


class Watch:
    """Owns what sees the lines of one world, and knows which thread runs which task.

    Attributes:
        traces: The run of each thread; of nested ones the innermost.
        left: What is left of killed tasks and cannot be stopped, in words.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.traces: dict[int, Trace] = {}
        self.left: list[str] = []
        self._followed = Followed(self)
        self._lines: Any = _lines(self)

    def enter(self, trace: Trace) -> Trace | None:
        """Let a run begin in this thread; return the one that it interrupts."""
        thread = get_ident()
        outer = self.traces.get(thread)
        self._followed.install()
        self.traces[thread] = trace
        self._lines.arm()
        return outer

    def leave(self, trace: Trace, outer: Trace | None) -> None:
        """Let a run end."""
        thread = get_ident()
        if outer is not None:
            self.traces[thread] = outer
        else:
            self.traces.pop(thread, None)
            self._lines.rest()
        if trace.dead and not any(each.dead for each in self.traces.values()):
            self._lines.pardon()
        if not self.traces:
            self._followed.remove()

    def hush(self) -> None:
        """See no lines of the calling thread."""
        self._lines.hush()

    def listen(self, end: CodeType | None) -> None:
        """See the lines of the calling thread again, down to the frame that runs `end`."""
        self._lines.listen(places(sys._getframe(1), end))

    @staticmethod
    def refresh(trace: Trace | None) -> None:
        """Let frames that are being traced know what others wrote to their closures meanwhile."""
        # Up to Python 3.11 a tracer that ends writes back what it saw there when it began.
        if trace is not None and sys.version_info < (3, 12):
            for frame in trace.frames():
                _ = frame.f_locals

    def condemn(self, frames: list[FrameType]) -> None:
        """Let no frame of a dead task run on."""
        self._lines.condemn(frames)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let the calling thread work for nobody for a while."""
        thread = get_ident()
        there = self.traces.pop(thread, None)
        try:
            yield
        finally:
            if there is not None:
                self.traces[thread] = there

    @contextmanager
    def inside(self, trace: Trace) -> Iterator[None]:
        """Let the calling thread work for a run, until it dies."""
        if trace.dead:
            raise Killed(trace)
        outer = self.enter(trace)
        try:
            yield
        finally:
            self.leave(trace, outer)

    def close(self) -> None:
        """Give everything back, whatever is left."""
        for trace in dict.fromkeys(self.traces.values()):
            trace.close()
        self.traces.clear()
        self._followed.remove()
        self._lines.disarm()


def _lines(watch: Watch) -> Any:
    if sys.version_info >= (3, 12):
        from pytest_jobs.monitoring import Monitoring

        return Monitoring(watch)
    from pytest_jobs.tracing import Tracing

    return Tracing(watch)
