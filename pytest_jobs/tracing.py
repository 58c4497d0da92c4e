"""Lines seen, and dead frames stopped, by `sys.settrace` (Python 3.11)."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_jobs.dying import Killed, lets_go, waiting_exits

if TYPE_CHECKING:
    from pytest_jobs.points import Watch

__all__ = ["Tracing"]
__tracebackhide__ = True

MODULE = "<module>"


class _Phoenix:
    """Sets the tracer again: CPython throws it out when it raised, and clears `f_trace` with this in it last."""

    __slots__ = ("_again",)

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again

    def __del__(self) -> None:
        self._again()


class _Beside:
    """One frame's local tracer beside that of a debugger or of coverage."""

    __slots__ = ("_line", "inner")

    def __init__(self, line: Any, inner: Any) -> None:
        self._line = line
        self.inner = inner

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if self.inner is not None:
            self.inner = self.inner(frame, event, arg)
        self._line(frame, event, arg)
        return self


class Tracing:
    """Owns the trace function of each thread that runs a task, beside one that was there before."""

    def __init__(self, watch: "Watch") -> None:
        self._traces = watch.traces
        self._project = watch.source.is_project
        self._foreign = watch.source.foreign
        self._alone = True
        self._before: dict[int, Any] = {}
        self._exits: Any = frozenset()
        self._call_hook = self._call
        self._line_hook = self._line
        self._dying_hook = partial(self._dying, None)

    def arm(self) -> None:
        """Look at this thread; more than once is fine."""
        thread = get_ident()
        if thread not in self._before:
            self._before[thread] = sys.gettrace()
            self._alone = not any(self._before.values())
            sys.settrace(self._call_hook)
        elif self._before[thread] is None and sys.gettrace() is None:
            sys.settrace(self._call_hook)  # another run begins within one that is hushed

    def rest(self) -> None:
        """Give this thread's tracer back; say so when somebody else has taken its place."""
        thread = get_ident()
        if thread in self._before:
            before = self._before.pop(thread)
            if sys.gettrace() is self._call_hook:
                sys.settrace(before)

    def disarm(self) -> None:
        """Nothing is left to give back."""
        self.rest()

    def hush(self) -> None:
        """See no lines of this thread for a while; whoever traced before us does."""
        if self._alone and sys.gettrace() is self._call_hook:
            sys.settrace(None)

    def listen(self, frames: Iterable[FrameType]) -> None:
        """See the lines of this thread again, also those of frames that were entered meanwhile."""
        if self._before.get(get_ident(), self) is None:
            for frame in frames:
                if frame.f_trace is None and self._project(frame.f_code.co_filename):
                    frame.f_trace = self._line_hook
            sys.settrace(self._call_hook)

    def condemn(self, frames: Iterable[FrameType]) -> None:
        """Let the frames, and whatever else of project code a dead thread enters, run no further."""
        self.arm()
        self._exits = waiting_exits()
        for frame in frames:
            if self._project(frame.f_code.co_filename):
                local = frame.f_trace
                inner = local.inner if isinstance(local, _Beside) else None if local is self._line_hook else local
                self._condemn(frame, inner)

    def pardon(self) -> None:
        """Nobody is dead any more."""
        self._exits = frozenset()

    def _condemn(self, frame: FrameType, inner: Any) -> None:
        frame.f_trace = self._dying_hook if inner is None else partial(self._dying, inner)
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if self._alone and frame.f_code.co_filename in self._foreign and not self._exits:
            return None  # a library calls itself, which it does all the time
        thread = get_ident()
        before = self._before.get(thread)
        inner = None
        if before is not None:
            inner = before(frame, event, arg)
            sys.settrace(self._call_hook)
        code = frame.f_code
        if not self._project(code.co_filename) and code not in self._exits:
            return inner
        trace = self._traces.get(thread)
        if trace is None:
            return inner
        if trace.dead:
            self._condemn(frame, inner)
            return frame.f_trace
        if trace.on_line is None or thread != trace.thread:
            return inner
        if code.co_name == MODULE:
            trace.importing = True
            return inner
        return self._line_hook if inner is None else _Beside(self._line_hook, inner)

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event != "line":
            return self._line_hook
        trace = self._traces.get(get_ident())
        if trace is None or trace.on_line is None or trace.hushed or (trace.importing and trace.in_import()):
            return self._line_hook
        try:
            trace.on_line(frame.f_code.co_filename, frame.f_lineno)
        except BaseException:
            self._survive(frame)
            raise
        return self._line_hook

    def _dying(self, inner: Any, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            trace = self._traces.get(get_ident())
            if trace is not None and trace.dead and not lets_go(frame.f_code, frame.f_lasti):
                self._survive(frame)
                raise Killed(trace)
        elif inner is not None and event == "return":
            inner(frame, event, arg)
        return frame.f_trace

    def _survive(self, frame: FrameType) -> None:
        phoenix: Any = _Phoenix(partial(self._again, frame, frame.f_trace))
        frame.f_trace = phoenix
        del phoenix

    def _again(self, frame: FrameType, local: Any) -> None:
        frame.f_trace = local
        sys.settrace(self._call_hook)
