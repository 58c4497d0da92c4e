"""pytest's hooks and fixtures: they adapt, and decide nothing."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jobs.errors import RunawayJobs, UsageError
from pytest_jobs.options import Options, declare

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
SUBTESTS = pytest.StashKey[list[str]]()
CLONE = pytest.StashKey[bool]()
CALLING = pytest.StashKey[bool]()
LEAKS = (
    "The same test passed in its first undisturbed run: what one run leaves behind reaches the next. "
    "Make it in a function-scoped fixture, fresh for each run."
)


class JobsWarning(UserWarning):
    """Something about the jobs of a test that is no failure, but should not pass in silence."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings."""
    declare(parser)


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
        explored = config.getoption("jobs_explore")
        if explored is not None:
            from pytest_jobs.schedules import kinds

            found = kinds([name for name in explored.split(",") if name], "--jobs-explore")
            config.stash[OPTIONS] = replace(config.stash[OPTIONS], explore=found)
    config.stash[VACUOUS] = []
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Gather(config.stash[VACUOUS]), "jobs-gather")


class _Gather:
    """Owns the way of the summary's lines from xdist's workers to its controller."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what this worker has to say."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["jobs_said"] = list(self._said)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has to say."""
        self._said.extend(getattr(node, "workeroutput", {}).get("jobs_said", ()))


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn our UsageError into pytest's, which prints as one sentence."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bring the fixture to marked tests that never mention it."""
    if not isinstance(item, pytest.Function) or "jobs" in item.fixturenames:
        return
    if item.get_closest_marker("idempotent") is not None or item.config.getoption("jobs_all"):
        known = _private(item)["fixtureinfo"].name2fixturedefs
        scopes = [known[name][-1].scope if known.get(name) else "function" for name in item.fixturenames]
        item.fixturenames.insert(scopes.index("function") if "function" in scopes else len(scopes), "jobs")


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
    settings = replace(options, start=order.begins)
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
        elif item.config.getoption("jobs_all") and isinstance(item, pytest.Function):
            from pytest_jobs.marked import Marked

            item.stash[MARKED] = Marked(implied=True)
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
    if marked is not None and isinstance(item, pytest.Function) and not item.config.getoption("setuponly", False):
        from pytest_jobs import explore, marked as judging, schedules

        options = item.config.stash[OPTIONS]
        kinds, most = judging.options_for(options, marked)
        start = options.start or datetime.now(UTC).replace(microsecond=0)
        wanted = item.config.getoption("jobs_schedule")
        item.stash[SCHEDULE] = judging.Order(start=start)
        item.stash[FOUND] = explore.explore(
            kinds, lambda schedule, wanted: _run_again(item, judging.Order(
                schedule, start, wanted, schedule == schedules.ONCE and not {*kinds} <= {"twice", "late"}
            )), most, judging.progress(item), schedules.parse(wanted) if wanted else None, judging.remembered(item),
        )  # fmt: skip
    return (yield)


class _Quiet:
    """Owns the hooks of a clone: whatever it does, nothing is logged."""

    def __init__(self, hooks: Any) -> None:
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        if name in {"pytest_runtest_logreport", "pytest_exception_interact"}:
            return lambda **_: None
        return getattr(self._hooks, name)


def _private(item: pytest.Item) -> dict[str, Any]:
    """Return what a clone must share. The only place that touches pytest's private attributes."""
    names = (("callspec", "callspec"), ("fixtureinfo", "_fixtureinfo"), ("originalname", "originalname"))
    return {name: getattr(item, private) for name, private in names if hasattr(item, private)}


def _clone(item: pytest.Item) -> pytest.Item:
    """Make a fresh item of the same test, which logs nothing."""
    kind = type(item)
    quiet = type(kind.__name__, (kind,), {"ihook": property(lambda self: _Quiet(kind.ihook.fget(self)))})  # type: ignore[attr-defined]
    clone: pytest.Item = quiet.from_parent(item.parent, name=item.name, **_private(item))  # type: ignore[attr-defined]
    clone.stash[CLONE] = True
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
    if not isinstance(item, pytest.Function):
        return (yield)
    subtests = item.stash[SUBTESTS] = []
    _at_the_test(item, _refuse)
    item.stash[CALLING] = True
    try:
        result = yield
    except Exception as error:
        found = item.stash.get(FOUND, None)
        if found is not None and found.first is not None:
            error.add_note(LEAKS)
        raise
    finally:
        del item.stash[CALLING]
    if not subtests:
        _at_the_test(item, _judge)
    elif CLONE in item.stash:
        raise AssertionError(subtests[0])
    return result


def _at_the_test(item: pytest.Function, check: Callable[[pytest.Function], None]) -> None:
    """Let what a check raises point at the test."""
    __tracebackhide__ = True
    try:
        check(item)
    except (AssertionError, UsageError, RunawayJobs, JobsWarning) as error:
        told = error
    else:
        return
    from pytest_jobs.marked import fail_at

    fail_at(item.function, told)


def _refuse(item: pytest.Function) -> None:
    marked = _marked(item)
    if marked is not None and not marked.implied and JOBS not in item.stash:
        raise UsageError(f"{item.name} is marked idempotent, but its fixture jobs is not the one of pytest-jobs; rename it")


def _judge(item: pytest.Function) -> None:
    held, marked = item.stash.get(JOBS, None), _marked(item)
    if held is None:
        return
    if marked is None:
        held._session.check_faults()
        left = held.pending + held.scheduled
        if left:
            more = f" and {len(left) - 10} more" if len(left) > 10 else ""
            _warn(item, f"jobs were still due when {item.name} ended: {', '.join(map(repr, left[:10]))}{more}")
        return
    from pytest_jobs import marked as judging

    found = item.stash.get(FOUND, None)
    if found is not None:
        held._worker.wanted = found.subjects
    own = judging.bring_to_rest(held, item.stash[SCHEDULE].schedule, item.name, marked.implied)
    item.stash[RUN] = own
    if found is None or (found.first is None and not found.spoiled):
        return
    failure, warned, said, failing = judging.verdict(
        item.name, item.nodeid, found, own, held._session.ignore, item.config.stash[OPTIONS].ignore, marked.implied
    )
    judging.remember(item, failing)
    item.config.stash[VACUOUS].extend(said)
    for text in warned:
        try:
            _warn(item, text)
        except JobsWarning:
            if not failure:
                raise
    if failure:
        item.stash[TOLD] = True
        raise AssertionError(failure)


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
    elif call.when == "call" and CALLING in item.stash:
        item.stash[SUBTESTS].append(_first_line("call", call.excinfo))
        if CLONE in item.stash:
            report.outcome = "passed"
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
