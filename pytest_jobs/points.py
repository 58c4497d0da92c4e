"""Where a task can be interrupted, and the kill that runs no cleanup."""

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

from pytest_jobs.source import Source

__all__ = ["Killed", "Trace"]

T = TypeVar("T")
OnLine = Callable[[str, int, FrameType], None]


class Killed(BaseException):
    """Raised where a task is killed, and again wherever its code would go on.

    Attributes:
        trace: The run that is dead.
    """

    def __init__(self, trace: "Trace") -> None:
        super().__init__("killed by pytest-jobs")
        self.trace = trace


class Trace:
    """One run of one task's body, in which every line of project code can be seen, and be the last.

    From `kill` until `close` no line of project code runs in the dead task's threads: no `finally`, no `except`, no
    `__exit__`. Traces nest; only the innermost is watched.
    """

    def __init__(self, source: Source, on_line: OnLine | None = None, owner: Any = None) -> None:
        self.source = source
        self.owner = owner
        self.dead = False
        self._on_line = on_line
        self._watch: Any = None
        self._others = frozenset(thread.ident for thread in threading.enumerate()) - {threading.get_ident()}
        self._unraisable: Callable[[Any], Any] | None = None

    def run(self, body: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run the body; raise `Killed` when it died, whatever it made of that itself."""
        if self._on_line is not None:
            self._arm()
        try:
            value = body(*args, **kwargs)
        except BaseException as error:
            if self.dead and not isinstance(error, Killed):
                raise Killed(self) from None
            raise
        finally:
            if not self.dead:
                self.close()
        if self.dead:
            raise Killed(self)
        return value

    def kill(self) -> NoReturn:
        """Die here."""
        self.dead = True
        if self._unraisable is None:
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._quiet
        self._arm()
        self._watch.die()
        raise Killed(self)

    def refuse(self) -> None:
        """Stop what a dead task is about to do."""
        if self.dead:
            raise Killed(self)

    def close(self) -> None:
        """Let go: from here on project code runs again."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._unraisable is not None:
            sys.unraisablehook = self._unraisable
            self._unraisable = None

    def _arm(self) -> None:
        if self._watch is None:
            self._watch = _Monitoring(self) if sys.version_info >= (3, 12) else _Tracing(self)
            self._watch.start()

    def _quiet(self, event: Any) -> None:
        """Swallow the noise of suspended generators that are freed after the kill, and nothing else."""
        if not isinstance(event.exc_value, Killed) and self._unraisable is not None:
            self._unraisable(event)

    def belongs(self) -> bool:
        """Whether the calling thread is the task's."""
        return threading.get_ident() not in self._others

    def line(self, filename: str, line: int, frame: FrameType) -> None:
        """See one line of project code."""
        if not self.belongs():
            return
        if self.dead:
            raise Killed(self)
        if self._on_line is not None and threading.current_thread() is threading.main_thread():
            self._on_line(filename, line, frame)


class _Monitoring:
    """Lines by `sys.monitoring` (Python 3.12 and later)."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._tool: int | None = None
        self._outer: Any = None

    def start(self) -> None:
        monitoring = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        for tool in (4, 3, 5, 2):
            if monitoring.get_tool(tool) is None:
                monitoring.use_tool_id(tool, "pytest-jobs")
                self._tool = tool
                break
        else:
            raise RuntimeError("every sys.monitoring tool id is taken; pytest-jobs needs one to see lines")
        monitoring.register_callback(self._tool, monitoring.events.LINE, self._line)
        monitoring.restart_events()
        monitoring.set_events(self._tool, monitoring.events.LINE)

    def _line(self, code: Any, line: int) -> Any:
        if not self._trace.source.is_project(code.co_filename):
            return sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore]
        self._trace.line(code.co_filename, line, sys._getframe(1))
        return None

    def die(self) -> None:
        """Nothing more to do: a raising callback stays armed."""

    def stop(self) -> None:
        if self._tool is not None:
            monitoring = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
            monitoring.set_events(self._tool, 0)
            monitoring.register_callback(self._tool, monitoring.events.LINE, None)
            monitoring.free_tool_id(self._tool)
            self._tool = None


class _Tracing:
    """Lines by `sys.settrace` (Python 3.11), beside a tracer that was there before.

    CPython disarms a trace or profile function that raises. So a dead run has both: each arms the other before it
    raises, and what the one misses the other stops.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._before: Any = None
        self._profile: Any = None
        self._thread: Any = None

    def start(self) -> None:
        self._before, self._profile = sys.gettrace(), sys.getprofile()
        self._thread = threading.gettrace() if hasattr(threading, "gettrace") else None
        threading.settrace(self._call)
        sys.settrace(self._call)

    def stop(self) -> None:
        threading.settrace(self._thread)
        sys.settrace(self._before)
        sys.setprofile(self._profile)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        inner = None
        if self._before is not None:
            inner = self._before(frame, event, arg)
            sys.settrace(self._call)
        if not self._trace.source.is_project(frame.f_code.co_filename):
            return inner
        if self._trace.dead:
            self._arm(profile=True)
            raise Killed(self._trace)

        def local(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal inner
            if inner is not None:
                inner = inner(frame, event, arg)
            if event == "line":
                try:
                    self._trace.line(frame.f_code.co_filename, frame.f_lineno, frame)
                except Killed:
                    self._arm(profile=True)
                    raise
            return local

        return local

    def _dead_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "return" or not self._trace.belongs():
            return None
        if self._trace.source.is_project(frame.f_code.co_filename):
            self._arm(profile=True)
            raise Killed(self._trace)
        return None

    def _dead_call(self, frame: FrameType, event: str, arg: Any) -> None:
        if event not in {"call", "c_call"} or not self._trace.belongs():
            return
        project = self._trace.source.is_project
        above = frame.f_back
        called = event == "call" and above is not None and project(above.f_code.co_filename)
        if project(frame.f_code.co_filename) or called:
            self._arm(profile=False)
            raise Killed(self._trace)

    def die(self) -> None:
        self._arm(profile=True)
        self._arm(profile=False)

    def _arm(self, *, profile: bool) -> None:
        if profile:
            sys.setprofile(self._dead_call)
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if self._trace.source.is_project(frame.f_code.co_filename):
                frame.f_trace = self._dead_line
                frame.f_trace_lines = True
            frame = frame.f_back
        sys.settrace(self._dead_line)


