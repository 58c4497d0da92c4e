"""pytest's hooks and fixtures: they adapt, and decide nothing."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jobs.case import Case, first_line, private
from pytest_jobs.errors import JobsWarning, RunawayJobs, UsageError
from pytest_jobs.options import Options, configured, declare
from pytest_jobs.testcases import ending

if TYPE_CHECKING:
    from pytest_jobs.jobs import Jobs
    from pytest_jobs.marked import Marked

__all__: list[str] = []

MARKER = (
    "idempotent(*schedules, ignore=(), tasks=(), max_schedules=None): run the test again with its jobs delivered twice, "
    "late, crashed, …, and compare what the world looks like; https://pytest-jobs.readthedocs.io/marker"
)
OPTIONS = pytest.StashKey[Options]()
CASE = pytest.StashKey[Case]()
SAID = pytest.StashKey[list[str]]()


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
    with _usage_errors():
        config.stash[OPTIONS] = configured(config)
    config.stash[SAID] = []
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Gather(config.stash[SAID]), "jobs-gather")


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
        known = private(item)["fixtureinfo"].name2fixturedefs
        scopes = [known[name][-1].scope if known.get(name) else "function" for name in item.fixturenames]
        item.fixturenames.insert(scopes.index("function") if "function" in scopes else len(scopes), "jobs")


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> "Iterator[Jobs]":
    """Run background jobs in this process, in virtual time, through their real worker.

    Returns a `pytest_jobs.Jobs`.
    """
    from pytest_jobs.jobs import open_jobs
    from pytest_jobs.marked import Order

    options = request.config.stash[OPTIONS]
    case, marked = _case(request.node), _marked(request.node)
    if marked is not None:
        options = replace(options, ignore=(*options.ignore, *marked.ignore))
    order = case.order or Order(start=options.start)
    roots = [request.getfixturevalue("tmp_path")] if "tmp_path" in request.fixturenames else []
    only = marked.tasks if marked is not None else ()
    settings = replace(options, start=order.begins)
    with open_jobs(settings, order.schedule, roots, order.wanted, order.record, only) as held:
        case.jobs = held
        yield held


def _case(item: pytest.Item) -> Case:
    return item.stash.setdefault(CASE, Case())


def _marked(item: pytest.Item) -> "Marked | None":
    """Return what the markers of a test ask for; the nearest wins, key by key."""
    case = _case(item)
    if not case.read:
        found = list(item.iter_markers("idempotent"))
        implied = item.config.getoption("jobs_all") and isinstance(item, pytest.Function)
        if found or implied:
            from pytest_jobs.marked import Marked

            case.marked = Marked.of([(mark.args, mark.kwargs) for mark in found]) if found else Marked(implied=True)
        case.read = True
    return case.marked


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse what a marked test cannot have, before anything of it runs."""
    __tracebackhide__ = True
    _marked(item)
    late = _case(item).late
    if late is not None and late.when == "setup":
        raise late.error


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """Explore a marked test before its own run."""
    try:
        marked = _marked(item)
    except UsageError:
        marked = None
    if marked is not None and isinstance(item, pytest.Function) and not item.config.getoption("setuponly", False):
        from pytest_jobs.examples import generated
        from pytest_jobs.rerun import OutOfTime, explored

        try:
            if generated(item) is None:
                _case(item).found = explored(item, item.config.stash[OPTIONS], marked, _case, _phase)
        except OutOfTime as late:
            _case(item).late = late
    try:
        return (yield)
    finally:
        if CASE in item.stash:  # its world would live as long as the item: to the end of the session
            del item.stash[CASE]


def _phase(run: Callable[[], Any], when: Any) -> pytest.CallInfo[Any]:
    return pytest.CallInfo.from_call(run, when=when, reraise=(pytest.exit.Exception, KeyboardInterrupt))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Judge after the body passed, in the test's own call phase."""
    __tracebackhide__ = True
    if not isinstance(item, pytest.Function):
        return (yield)
    case = _case(item)
    case.subtests.clear()
    _at_the_test(item, _refuse)
    if case.late is not None:
        raise case.late.error
    case.calling = True
    end = partial(_at_the_test, item, _judge)
    try:
        with _examples(item), ending(item, end) as ended:
            result = yield
    except Exception as error:
        if case.found is not None and case.found.first is not None:
            from pytest_jobs.marked import LEAKS

            error.add_note(LEAKS)
        raise
    finally:
        case.calling = False
    if not ended:
        end()
    return result


@contextmanager
def _examples(item: pytest.Function) -> Iterator[None]:
    """Let Hypothesis's examples of a marked test be explored one by one, in fresh worlds of the one that is open."""
    case, marked = _case(item), _marked(item)
    if marked is None or case.jobs is None:
        yield
        return
    from pytest_jobs.examples import generated, replaced

    if generated(item) is None:
        yield
        return
    with replaced(item, case.jobs, marked, item.config.stash[OPTIONS]) as case.examples:
        yield


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Explore examples of coroutines too, now that their own plugin has made plain functions of them."""
    if (examples := _case(pyfuncitem).examples) is not None:
        examples.begin()


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
    if marked is not None and not marked.implied and _case(item).jobs is None:
        raise UsageError(f"{item.name} is marked idempotent, but its fixture jobs is not the one of pytest-jobs; rename it")


def _judge(item: pytest.Function) -> None:
    case = _case(item)
    if case.subtests and case.clone:
        raise AssertionError(case.subtests[0])
    if case.subtests or case.jobs is None:
        return
    from pytest_jobs import marked as judging

    options = item.config.stash[OPTIONS]
    failure, warned, said = case.examples.verdict() if case.examples else judging.judged(case, item, options)
    item.config.stash[SAID].extend(said)
    for text in warned:
        try:
            _warn(item, text)
        except JobsWarning:
            if not failure:
                raise
    if failure:
        case.told = True
        raise AssertionError(failure)


def _warn(item: pytest.Item, text: str) -> None:
    path, line, _ = item.location
    warnings.warn_explicit(JobsWarning(text), None, path, (line or 0) + 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Print misuse as one sentence, and add the timeline to any failing test that used jobs."""
    if call.excinfo is not None:
        _explain(item, call.excinfo.value)
    report = yield
    if call.excinfo is None or not report.failed:
        return report
    case = _case(item)
    if call.when == "setup" and isinstance(call.excinfo.value, UsageError):
        report.longrepr = f"UsageError: {call.excinfo.value}"
    elif call.when == "call" and case.calling:
        case.subtests.append(first_line("call", call.excinfo.value))
        if case.clone:
            report.outcome = "passed"
    elif call.when == "call" and case.jobs is not None and not case.told:
        from pytest_jobs.timeline import lines

        told = lines(case.jobs._worker)
        if told:
            report.sections.append(("jobs timeline", "\n".join(told)))
    return report


def _explain(item: pytest.Item, error: BaseException) -> None:
    """Say what a health check of Hypothesis (some write "fixgure") means for the fixture `jobs`."""
    if type(error).__name__ == "FailedHealthCheck" and re.search("function-scoped fix[a-z]+ 'jobs'", str(error)):
        from pytest_jobs.render_checks import shared_fixture

        error.add_note(shared_fixture(_marked(item) is not None))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say aloud what was not tried."""
    said = config.stash.get(SAID, [])
    if said and not config.getoption("no_summary", False):
        terminalreporter.section("jobs")
        for line in said:
            terminalreporter.line(line)
