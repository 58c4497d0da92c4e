"""pytest's hooks and fixtures: they adapt, and decide nothing."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jobs.errors import UsageError
from pytest_jobs.options import Options

if TYPE_CHECKING:
    from pytest_jobs.explore import Exploration, Run
    from pytest_jobs.jobs import Jobs

__all__: list[str] = []

MARKER = (
    "idempotent(*schedules, ignore=(), tasks=(), max_schedules=None): run the test again with its jobs delivered twice, "
    "late, crashed, …, and compare what the world looks like; https://pytest-jobs.readthedocs.io/marker"
)
OPTIONS = pytest.StashKey[Options]()
MARKED = pytest.StashKey[Any]()
SCHEDULE = pytest.StashKey[Any]()
JOBS = pytest.StashKey["Jobs"]()
RUN = pytest.StashKey["Run"]()
FOUND = pytest.StashKey["Exploration"]()
TOLD = pytest.StashKey[bool]()
VACUOUS = pytest.StashKey[list[str]]()


class JobsWarning(UserWarning):
    """Something about the jobs of a test that is no failure, but should not pass in silence."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    parser.addini("jobs_app", 'the Celery app, "module:attribute"; default: every live app', default="")
    parser.addini("jobs_broker", "whose rules apply: auto, redis or memory", default="auto")
    parser.addini("jobs_schedules", "the kinds of schedules a bare idempotent marker stands for", type="args", default=["twice"])
    parser.addini("jobs_max_schedules", "the most schedules explored in one test", default="256")
    parser.addini("jobs_start", "the instant the virtual clock starts at, ISO; default: now", default="")
    parser.addini("jobs_ignore", "patterns of differences that are fine", type="linelist", default=[])
    parser.addini("jobs_source", "what counts as project code: paths and module names", type="args", default=[])
    group = parser.getgroup("jobs", "job resilience (pytest-jobs)")
    group.addoption(
        "--jobs-schedule", dest="jobs_schedule", metavar="ID", default=None,
        help="replay one schedule, by the id a failure names",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Check the settings once."""
    if config.pluginmanager.hasplugin("pytest_idempotent"):
        raise pytest.UsageError(
            "pytest-jobs and pytest-idempotent both own the marker idempotent; "
            "switch one off with -p no:pytest_idempotent or -p no:jobs"
        )
    config.addinivalue_line("markers", MARKER)
    given = {name: config.getini(f"jobs_{name}") for name in ("app", "broker", "schedules", "start", "ignore", "source")}
    with _usage_errors():
        config.stash[OPTIONS] = Options.of(
            **{**given, "app": given["app"] or None}, max_schedules=config.getini("jobs_max_schedules"), root=config.rootpath
        )
        schedule = config.getoption("jobs_schedule")
        if schedule is not None:
            from pytest_jobs.schedules import parse

            parse(schedule)
    config.stash[VACUOUS] = []


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn our UsageError into pytest's, which prints as one sentence."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bring the fixture to marked tests that never mention it."""
    names = getattr(item, "fixturenames", None)
    if item.get_closest_marker("idempotent") is not None and names is not None and "jobs" not in names:
        names.insert(0, "jobs")


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> "Iterator[Jobs]":
    """Run background jobs in this process, in virtual time, through their real worker.

    Returns a `pytest_jobs.Jobs`.
    """
    from pytest_jobs.jobs import open_jobs
    from pytest_jobs.marked import Order

    item = request.node
    options = request.config.stash[OPTIONS]
    marked = _marked(item)
    if marked is not None:
        options = replace(options, ignore=(*options.ignore, *marked.ignore))
    order = item.stash.get(SCHEDULE, None) or Order(start=options.start)
    roots = [request.getfixturevalue("tmp_path")] if "tmp_path" in request.fixturenames else []
    only = marked.tasks if marked is not None else ()
    settings = replace(options, start=order.start)
    with open_jobs(settings, order.schedule, roots, order.wanted, order.record, only) as held:
        item.stash[JOBS] = held
        yield held


def _marked(item: pytest.Item) -> Any:
    """Return what the markers of a test ask for (a `marked.Marked`); the nearest wins, key by key."""
    if MARKED not in item.stash:
        found = list(item.iter_markers("idempotent"))
        if found:
            from pytest_jobs.marked import Marked

            item.stash[MARKED] = Marked.of([(mark.args, mark.kwargs) for mark in found])
        else:
            item.stash[MARKED] = None
    return item.stash[MARKED]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse what a marked test cannot have, before anything of it runs."""
    __tracebackhide__ = True
    _marked(item)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """Explore a marked test before its own run."""
    try:
        marked = _marked(item)
    except UsageError:
        marked = None
    if marked is not None:
        from pytest_jobs import explore, marked as judging, schedules

        options = item.config.stash[OPTIONS]
        kinds, most = judging.options_for(options, marked)
        start = options.start or datetime.now(UTC).replace(microsecond=0)
        wanted = item.config.getoption("jobs_schedule")
        item.stash[SCHEDULE] = judging.Order(start=start)
        item.stash[FOUND] = explore.explore(
            kinds, lambda schedule, wanted: _run_again(item, judging.Order(
                schedule, start, wanted, schedule == schedules.ONCE and not {*kinds} <= {"twice", "late"}
            )), most, lambda done, of: None,
            schedules.parse(wanted) if wanted else None,
        )  # fmt: skip
    return (yield)


def _clone(item: pytest.Item) -> pytest.Item:
    """Make a fresh item of the same test. The only place that touches pytest's private attributes."""
    extra = {
        name: getattr(item, private)
        for name, private in (("callspec", "callspec"), ("fixtureinfo", "_fixtureinfo"), ("originalname", "originalname"))
        if hasattr(item, private)
    }
    clone: pytest.Item = type(item).from_parent(item.parent, name=item.name, **extra)
    clone.own_markers[:] = item.own_markers
    clone.keywords.update(item.keywords)
    return clone


def _run_again(item: pytest.Item, order: Any) -> "Run":
    """Run a clone of the item under a schedule, through the public hooks, without logging anything."""
    from pytest_jobs.marked import failing_run

    clone = _clone(item)
    clone.stash[SCHEDULE] = order
    schedule = order.schedule
    failed: str | None = None
    skipped = False
    hooks = clone.ihook
    stages = (
        ("setup", lambda: hooks.pytest_runtest_setup(item=clone)),
        ("call", lambda: hooks.pytest_runtest_call(item=clone)),
        ("teardown", lambda: hooks.pytest_runtest_teardown(item=clone, nextitem=item)),
    )
    for when, run in stages:
        if when == "call" and (failed is not None or skipped):
            continue
        call = pytest.CallInfo.from_call(run, when=when, reraise=(pytest.exit.Exception, KeyboardInterrupt))  # type: ignore[arg-type]
        report = hooks.pytest_runtest_makereport(item=clone, call=call)
        if report.failed and failed is None and call.excinfo is not None:
            failed = _first_line(when, call.excinfo)
            if RUN in clone.stash or when != "teardown":
                clone.stash[RUN] = failing_run(schedule, failed, clone.stash.get(JOBS, None))
        skipped = skipped or report.skipped
    if skipped and failed is None:
        return failing_run(schedule, "it was skipped", None)
    return clone.stash.get(RUN, None) or failing_run(schedule, failed or "no job ran", None)


def _first_line(when: str, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    text = (str(excinfo.value).strip() or excinfo.typename).splitlines()[0]
    kind = "" if isinstance(excinfo.value, AssertionError) else f"{excinfo.typename}: "
    return f"{'' if when == 'call' else when + ' fails: '}{kind}{text}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Judge after the body passed, in the test's own call phase."""
    __tracebackhide__ = True
    result = yield
    held, marked = item.stash.get(JOBS, None), _marked(item)
    if marked is not None:
        _judge(item, held)
    elif held is not None:
        held._session.check_faults()
        left = held.pending + held.scheduled
        if left:
            _warn(item, f"jobs were still due when {item.name} ended: {', '.join(map(repr, left[:10]))}")
    return result


def _judge(item: pytest.Item, held: Any) -> None:
    __tracebackhide__ = True
    from pytest_jobs import jobs as holding
    from pytest_jobs import marked as judging

    if not isinstance(held, holding.Jobs):
        raise UsageError(f"{item.name} is marked idempotent, but its fixture jobs is not the one of pytest-jobs; rename it")
    found = item.stash.get(FOUND, None)
    if found is not None:
        held._worker.wanted = found.subjects
    own = judging.bring_to_rest(held, item.stash[SCHEDULE].schedule, item.name)
    item.stash[RUN] = own
    if found is None or found.first is None:
        return
    failure, warned, said = judging.verdict(item.name, item.nodeid, found, own, held._session.ignore)
    item.config.stash[VACUOUS].extend(said)
    for text in warned:
        _warn(item, text)
    if failure:
        item.stash[TOLD] = True
        judging.fail_at(inspect.unwrap(item.function), failure)  # type: ignore[attr-defined]


def _warn(item: pytest.Item, text: str) -> None:
    path, line, _ = item.location
    warnings.warn_explicit(JobsWarning(text), None, path, (line or 0) + 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Print misuse as one sentence, and add the timeline to any failing test that used jobs."""
    report = yield
    if call.excinfo is None or not report.failed:
        return report
    if call.when == "setup" and isinstance(call.excinfo.value, UsageError):
        report.longrepr = f"UsageError: {call.excinfo.value}"
    elif call.when == "call" and JOBS in item.stash and TOLD not in item.stash:
        from pytest_jobs.timeline import lines

        told = lines(item.stash[JOBS]._worker)
        if told:
            report.sections.append(("jobs timeline", "\n".join(told)))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say aloud what was not tried."""
    said = config.stash.get(VACUOUS, [])
    if said and not config.getoption("no_summary", False):
        terminalreporter.section("jobs")
        for line in said:
            terminalreporter.line(line)
