"""Lines seen, and dead frames stopped, by `sys.monitoring` (Python 3.12 and later)."""

import sys
from collections.abc import Iterable
from threading import get_ident
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from pytest_jobs.dying import Killed, lets_go, waiting_exits
from pytest_jobs.errors import UsageError

if TYPE_CHECKING:
    from pytest_jobs.points import Watch

__all__ = ["Monitoring", "free_tool"]
__tracebackhide__ = True

# Free by convention first, then the profiler's, the optimiser's and the debugger's; never coverage's.
TOOLS = (4, 3, 2, 5, 0)
MODULE = "<module>"


def free_tool() -> int:
    """Return a tool id that nobody uses.

    Raises:
        UsageError: When there is none.
    """
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    for tool in TOOLS:
        if monitoring.get_tool(tool) is None:
            return tool
    taken = ", ".join(str(monitoring.get_tool(tool)) for tool in TOOLS)
    raise UsageError(f"points in tasks need one sys.monitoring tool id, but all are taken ({taken}); free one of them")


class Monitoring:
    """Owns one tool id while a world is open.

    Only project code is watched: every function of a library is seen once, when it is first called, and then no more.
    """

    def __init__(self, watch: "Watch") -> None:
        self._traces = watch.traces
        self._project = watch.source.is_project
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        self._tool: int | None = None
        free_tool()
        self._seen: set[CodeType] = set()
        self._condemned: set[CodeType] = set()

    def arm(self) -> None:
        """Look at this process; more than once is fine."""
        if self._tool is not None:
            return
        self._tool = tool = free_tool()
        monitoring = self._monitoring
        monitoring.use_tool_id(tool, "pytest-jobs")
        for event, callback in self._callbacks():
            monitoring.register_callback(tool, event, callback)
        # What an earlier world has switched off for this tool id is not switched off here.
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.PY_START | monitoring.events.PY_RESUME)

    def rest(self) -> None:
        """Look no more at lines, when no run is left that wants them, and nobody dead who could go on."""
        if any(trace.dead or trace.on_line is not None for trace in self._traces.values()):
            return
        for code in (*self._seen, *self._condemned):
            self._monitoring.set_local_events(self._tool, code, 0)
        self._seen.clear()
        self._condemned.clear()
        if self._tool is not None:
            events = self._monitoring.events
            self._monitoring.set_events(self._tool, events.PY_START | events.PY_RESUME)

    def disarm(self) -> None:
        """Give everything back."""
        if self._tool is None:
            return
        self.rest()
        self._monitoring.set_events(self._tool, 0)
        for event, _ in self._callbacks():
            self._monitoring.register_callback(self._tool, event, None)
        self._monitoring.free_tool_id(self._tool)
        self._tool = None

    def hush(self) -> None:
        """See no lines for a while."""
        for code in self._seen:
            self._monitoring.set_local_events(self._tool, code, self._kept(code))
        self._seen.clear()

    def listen(self, frames: Iterable[FrameType]) -> None:
        """See lines again, first of all those of these frames."""
        for frame in frames:
            if self._project(frame.f_code.co_filename):
                self._see(frame.f_code)

    def _see(self, code: CodeType) -> None:
        if code not in self._seen:
            self._seen.add(code)
            self._monitoring.set_local_events(self._tool, code, self._monitoring.events.LINE | self._kept(code))

    def _kept(self, code: CodeType) -> int:
        return self._monitoring.events.INSTRUCTION if code in self._condemned else 0

    def condemn(self, frames: Iterable[FrameType]) -> None:
        """Let the frames, and whatever else of project code a dead thread enters, run no further."""
        self.arm()
        events = self._monitoring.events
        for code in waiting_exits():
            self._condemn(code)
        for frame in frames:
            if self._project(frame.f_code.co_filename):
                self._condemn(frame.f_code)
        self._monitoring.set_events(self._tool, events.PY_START | events.PY_RESUME | events.PY_THROW)

    def _condemn(self, code: CodeType) -> None:
        if code not in self._condemned:
            self._condemned.add(code)
            self._monitoring.set_local_events(self._tool, code, self._monitoring.events.INSTRUCTION)

    def pardon(self) -> None:
        """Nobody is dead any more."""
        events = self._monitoring.events
        for code in self._condemned:
            self._monitoring.set_local_events(self._tool, code, events.LINE if code in self._seen else 0)
        self._condemned.clear()
        self._monitoring.set_events(self._tool, events.PY_START | events.PY_RESUME)

    def _callbacks(self) -> tuple[tuple[int, Any], ...]:
        events = self._monitoring.events
        return (
            (events.PY_START, self._start),
            (events.PY_RESUME, self._start),
            (events.PY_THROW, self._throw),
            (events.LINE, self._line),
            (events.INSTRUCTION, self._instruction),
        )

    def _start(self, code: CodeType, offset: int) -> Any:
        if not self._project(code.co_filename):
            return self._monitoring.DISABLE
        thread = get_ident()
        trace = self._traces.get(thread)
        if trace is None:
            return None
        if trace.dead:
            self._condemn(code)
            raise Killed(trace)
        if trace.on_line is not None and thread == trace.thread:
            if code.co_name == MODULE:
                trace.importing = True
            elif not trace.hushed:
                self._see(code)
        return None

    def _throw(self, code: CodeType, offset: int, error: BaseException) -> None:
        trace = self._traces.get(get_ident())
        if trace is not None and trace.dead and self._project(code.co_filename):
            self._condemn(code)

    def _line(self, code: CodeType, line: int) -> None:
        thread = get_ident()
        trace = self._traces.get(thread)
        if trace is None:
            return
        if trace.dead:
            raise Killed(trace)
        if trace.on_line is not None and thread == trace.thread and not trace.hushed and not (trace.importing and trace.in_import()):
            trace.on_line(code.co_filename, line)

    def _instruction(self, code: CodeType, offset: int) -> None:
        trace = self._traces.get(get_ident())
        if trace is not None and trace.dead and not lets_go(code, offset):
            raise Killed(trace)
