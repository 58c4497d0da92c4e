"""What goes wrong, where, and how often."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import TYPE_CHECKING, Any, Self

from pytest_jobs.errors import UsageError
from pytest_jobs.given import check_exception, check_times, is_line, place, shown
from pytest_jobs.queues.base import Envelope
from pytest_jobs.source import Source
from pytest_jobs.targets import Attribute, TaskBody, resolve

if TYPE_CHECKING:
    from pytest_jobs.execution import Execution

__all__ = ["Fault", "Faults"]
__tracebackhide__ = True


class Fault:
    """One armed fault; leaving its `with` block disarms it.

    Attributes:
        plan: How it was armed, as it prints.
        kind: `fail`, `crash`, `hang`, `outage`, `lose`, `duplicate` or `postpone`.
        fired: How often it struck.
        reached_late: How often its target was reached after it was disarmed.
        hint: What may be wrong when it never fired, else empty.
    """

    def __init__(self, plan: str, kind: str, times: int | None, hint: str = "") -> None:
        self.plan = plan
        self.kind = kind
        self.times = times
        self.fired = 0
        self.reached_late = 0
        self.hint = hint
        self.armed = True
        self.by = 0.0
        self.task: str | None = None
        self.before: tuple[Fault, ...] = ()

    def strikes(self) -> bool:
        """Tell, when the target is reached, whether the fault strikes now; count it."""
        if not self.armed:
            self.reached_late += 1
            return False
        if self._spent or any(each.armed and each.times is not None and not each._spent for each in self.before):
            return False
        self.fired += 1
        return True

    @property
    def _spent(self) -> bool:
        return self.times is not None and self.fired >= self.times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.armed = False

    def __repr__(self) -> str:
        if self.fired:
            state = "fired once" if self.fired == 1 else f"fired {self.fired} times"
        else:
            state = "reached too late" if self.reached_late else "never fired"
        return f"<{self.plan}: {state}>"


class _Failing(Fault):
    """A fault that raises at a call."""

    def __init__(self, plan: str, times: int | None, exc: Any, after: bool) -> None:
        super().__init__(plan, "fail", times)
        self.after = after
        self._make: Callable[[], BaseException] = exc if isinstance(exc, type) else lambda: exc

    def error(self) -> BaseException:
        """Return the exception to raise, with a note that says where it comes from."""
        error = self._make()
        note = f"injected by {self.plan}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)


class Faults:
    """Owns the faults of one world."""

    def __init__(self, current: Callable[[], "Execution | None"]) -> None:
        self._current = current
        self._stack = ExitStack()
        self._bodies: dict[str, list[_Failing]] = {}
        self._deliveries: list[Fault] = []
        self._calls: dict[tuple[int, str], list[Fault]] = {}
        self._acts: dict[str, list[tuple[Fault, Callable[[], None], bool]]] = {}
        self.lines: dict[tuple[str, int], list[tuple[Fault, Callable[[], None]]]] = {}
        self.all: list[Fault] = []

    @property
    def deadly(self) -> Fault | None:
        """The first armed fault that ends or stops a worker, None where there is none."""
        return next((fault for fault in self.all if fault.kind in {"crash", "hang"}), None)

    def close(self) -> None:
        """Take every fault out of the code under test."""
        self._stack.close()

    def fail(self, queue: Any, target: Any, exc: Any, times: int | None, after: bool, find_source: Callable[[], Source]) -> Fault:
        """Arm a fault that raises."""
        given = f"{shown(target)}, {exc!r}" if not isinstance(exc, type) else f"{shown(target)}, {exc.__name__}"
        options = ("" if times is None else f", times={times}") + (", after=True" if after else "")
        plan = f"jobs.fail({given}{options})"
        check_exception(exc)
        check_times(times)
        fault = _Failing(plan, times, exc, after)

        def strike() -> None:
            execution = self._current()
            assert execution is not None
            execution.fault = plan
            raise fault.error()

        if self._at_line(target, fault, strike, after, "jobs.fail", find_source, queue):
            return fault
        found = resolve(target, queue, "jobs.fail")
        fault.hint = found.hint
        if isinstance(found, TaskBody):
            self._bodies.setdefault(found.name, []).append(fault)
        else:
            self._at_call(found, fault, strike, after)
        self.all.append(fault)
        return fault

    def crash(self, queue: Any, target: Any, times: int, after: bool, child: bool, find_source: Callable[[], Source]) -> Fault:
        """Arm a fault that kills."""
        check_times(times)
        options = (f", times={times}" if times != 1 else "") + (", after=True" if after else "")
        plan = f"jobs.crash({shown(target)}{options}{', child=True' if child else ''})"
        fault = Fault(plan, "crash", times)

        def strike() -> None:
            execution = self._current()
            assert execution is not None
            execution.kill(fault.plan, child=child)

        return self._acting(queue, target, fault, strike, after, "jobs.crash", find_source)

    def hang(self, queue: Any, target: Any, times: int, find_source: Callable[[], Source]) -> Fault:
        """Arm a fault that never returns."""
        check_times(times)
        fault = Fault(f"jobs.hang({shown(target)}{f', times={times}' if times != 1 else ''})", "hang", times)

        def strike() -> None:
            execution = self._current()
            assert execution is not None
            execution.hang(fault.plan)

        return self._acting(queue, target, fault, strike, False, "jobs.hang", find_source)

    def _acting(
        self, queue: Any, target: Any, fault: Fault, strike: Callable[[], None], after: bool, caller: str, find_source: Callable[[], Source]
    ) -> Fault:
        """Arm a fault that acts at a body, a call or a line."""
        if self._at_line(target, fault, strike, after, caller, find_source, queue):
            return fault
        found = resolve(target, queue, caller)
        fault.hint = found.hint
        if isinstance(found, TaskBody):
            self._acts.setdefault(found.name, []).append((fault, strike, after))
        else:
            self._at_call(found, fault, strike, after)
        self.all.append(fault)
        return fault

    def _at_call(self, found: Attribute, fault: Fault, strike: Callable[[], None], after: bool) -> None:
        """Arm a fault of a call; faults that strike so many times do so in the order in which they were armed, the last other one after them."""
        others = self._calls.setdefault((id(found.owner), found.name), [])
        fault.before = tuple(others)
        others.append(fault)
        self._stack.enter_context(found.replaced(lambda call: self._around(call, fault, strike, after)))

    def _at_line(
        self, target: Any, fault: Fault, strike: Callable[[], None], after: bool, caller: str,
        find_source: Callable[[], Source], queue: Any,
    ) -> bool:  # fmt: skip
        """Arm a fault whose target is a line; return whether it is one."""
        if not is_line(target):
            return False
        if after:
            raise UsageError(f"{caller} was given after=True for {target!r}; a line has no after, so name the line that follows")
        self.lines.setdefault(place(target, find_source(), queue, caller), []).append((fault, strike))
        self.all.append(fault)
        return True

    def at_line(self, filename: str, line: int) -> None:
        """Strike at a line of project code."""
        for fault, strike in self.lines.get((filename, line), ()):
            if fault.strikes():
                strike()

    def _around(
        self, call: Callable[..., Any], fault: Fault, strike: Callable[[], None], after: bool
    ) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(call):

            @wraps(call)
            async def acting(*args: Any, **kwargs: Any) -> Any:
                struck = self._current() is not None and fault.strikes()
                if struck and not after:
                    strike()
                value = await call(*args, **kwargs)
                if struck and after:
                    strike()
                return value

        else:

            @wraps(call)
            def acting(*args: Any, **kwargs: Any) -> Any:
                struck = self._current() is not None and fault.strikes()
                if struck and not after:
                    strike()
                value = call(*args, **kwargs)
                if struck and after:
                    strike()
                return value

        return acting

    def delivery(self, queue: Any, kind: str, task: Any, times: int, by: float = 0.0) -> Fault:
        """Arm a fault of deliveries: `lose`, `duplicate` or `postpone`."""
        check_times(times)
        found = resolve(task, queue, f"jobs.{kind}", tasks_only=True) if task is not None else None
        given = [shown(task)] if task is not None else []
        given += [f"by={by:g}"] if kind == "postpone" else []
        given += [f"times={times}"] if times != 1 else []
        fault = Fault(f"jobs.{kind}({', '.join(given)})", kind, times)
        fault.by = by
        fault.task = found.name if isinstance(found, TaskBody) else None
        self._deliveries.append(fault)
        self.all.append(fault)
        return fault

    def on_delivery(self, envelope: Envelope) -> Fault | None:
        """Return the delivery fault that strikes this message."""
        for fault in self._deliveries:
            if (fault.task is None or fault.task == envelope.name) and fault.strikes():
                return fault
        return None

    def around_task(self, name: str, execution: "Execution", body: Callable[[], Any]) -> Any:
        """Run a task's body under the faults that name the task."""
        if name not in self._acts and name not in self._bodies:
            return body()
        acts = [(strike, after) for fault, strike, after in self._acts.get(name, ()) if fault.strikes()]
        for strike, after in acts:
            if not after:
                strike()
        late: _Failing | None = None
        for fault in self._bodies.get(name, ()):
            if fault.strikes():
                execution.fault = fault.plan
                if not fault.after:
                    raise fault.error()
                late = fault
        value = body()
        for strike, after in acts:
            if after:
                strike()
        if late is not None:
            raise late.error()
        return value
