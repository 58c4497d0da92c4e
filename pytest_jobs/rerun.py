"""Run a test again: clones of its item, taken through pytest's public hooks, of which nothing is logged."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_jobs import schedules
from pytest_jobs.case import Case, first_line, private
from pytest_jobs.explore import explore
from pytest_jobs.marked import Order, failing_run, options_for, remembered
from pytest_jobs.render_checks import out_of_time
from pytest_jobs.runs import Exploration, Run

if TYPE_CHECKING:
    from pytest_jobs.marked import Marked
    from pytest_jobs.options import Options

__all__ = ["OutOfTime", "explored"]

CaseOf = Callable[[Any], Case]
Call = Callable[[Callable[[], Any], str], Any]


class OutOfTime(Exception):
    """Tell that the test's time limit struck in a run of it; the limit does not strike twice, so nothing more may run.

    Attributes:
        when: The phase in which it struck.
        error: What pytest-timeout raised there.
    """

    def __init__(self, when: str, error: BaseException) -> None:
        super().__init__(when, error)
        self.when = when
        self.error = error


def explored(item: Any, options: "Options", marked: "Marked", case_of: CaseOf, call: Call) -> Exploration:
    """Run a test undisturbed and under every schedule, before its own run.

    Args:
        item: The test.
        options: The settings.
        marked: What its markers ask for.
        case_of: Finds what is known of an item.
        call: Runs one phase of an item and says how it went, as pytest's `CallInfo.from_call`.

    Raises:
        OutOfTime: When the test's time limit struck.
    """
    kinds, most = options_for(options, marked)
    start = options.start or datetime.now(UTC).replace(microsecond=0)
    only = item.config.getoption("jobs_schedule")
    case_of(item).order = Order(start=start)

    def run(schedule: schedules.Schedule, wanted: frozenset[str], record: bool) -> Run:
        return _run_again(item, Order(schedule, start, wanted, record), case_of, call)

    with _unlogged():
        wanted = schedules.parse(only) if only else None
        return explore(kinds, run, most, _progress(item), wanted, remembered(item))


class _Quiet:
    """Owns the hooks of a clone: whatever it does, nothing is logged."""

    def __init__(self, hooks: Any) -> None:
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        if name in {"pytest_runtest_logreport", "pytest_exception_interact"}:
            return lambda **_: None
        return getattr(self._hooks, name)


def _clone(item: Any) -> Any:
    """Make a fresh item of the same test, which logs nothing."""
    kind = type(item)
    quiet = type(kind.__name__, (kind,), {"ihook": property(lambda self: _Quiet(kind.ihook.fget(self)))})
    clone = quiet.from_parent(item.parent, name=item.name, **private(item))  # type: ignore[attr-defined]
    clone.own_markers[:] = item.own_markers
    clone.keywords.update(item.keywords)
    return clone


def _run_again(item: Any, order: Order, case_of: CaseOf, call: Call) -> Run:
    """Run a clone of the item under a schedule, through the public hooks."""
    clone = _clone(item)
    case = case_of(clone)
    case.clone, case.order = True, order
    hooks = clone.ihook
    stages = (
        ("setup", lambda: hooks.pytest_runtest_setup(item=clone)),
        ("call", lambda: hooks.pytest_runtest_call(item=clone)),
        ("teardown", lambda: hooks.pytest_runtest_teardown(item=clone, nextitem=item)),
    )
    failed = ""
    late: OutOfTime | None = None
    for when, run in stages:
        if when == "call" and failed:
            continue
        info = call(run, when)
        if info.excinfo is not None and str(info.excinfo.value).endswith("from pytest-timeout."):
            late = late or OutOfTime(when, info.excinfo.value)
        report = hooks.pytest_runtest_makereport(item=clone, call=info)
        if late is not None:
            failed = "out of time"
        if failed or info.excinfo is None or report.passed:
            continue
        if report.failed or hasattr(report, "wasxfail"):
            failed = first_line(when, info.excinfo.value)
        else:
            failed = f"skipped: {info.excinfo.value}"
        if when != "teardown":
            case.run = failing_run(order.schedule, failed, case.jobs)
        elif case.run is not None:
            case.run = replace(case.run, outcome="failed", message=failed)
    if late is not None:
        late.error.add_note(out_of_time(str(order.schedule)))
        raise late
    return case.run or failing_run(order.schedule, failed or "no job ran", None)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep warnings and log records of clones from being told again: the item's own run tells them."""
    live = [handler for handler in logging.getLogger().handlers if type(handler).__module__.startswith("_pytest.")]
    for handler in live:
        handler.addFilter(_nothing)
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        for handler in live:
            handler.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _progress(item: Any) -> Callable[[int, int], None]:
    """Return what shows `test_charge: 14/37 schedules` at the end of a terminal's line, and nothing elsewhere."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or os.environ.get("TERM") == "dumb" or reporter.verbosity < 0:
        return lambda done, of: None
    writer = item.config.get_terminal_writer()
    room = writer.fullwidth - writer.width_of_current_line - 3

    def show(done: int, of: int) -> None:
        # Raw, between saving and restoring the cursor: the line that pytest has begun must stay, and stay counted.
        text = f"  {item.name}: {done}/{of} schedules"[: max(room, 0)] if done < of else ""
        writer.write_raw(f"\x1b7\x1b[K{text}\x1b8", flush=True)

    return show
