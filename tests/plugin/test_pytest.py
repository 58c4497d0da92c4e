"""Beside everything else that pytest and its plugins do."""

import json
import re
import sys
from xml.etree import ElementTree

import pytest

MARKED = """
@pytest.mark.idempotent
def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.idempotent
def test_careful(jobs):
    jobs.watch(charged)
    jobs.run(charge_once, 7)
"""


def test_stopping_at_the_first_failure(suite):
    """`-x` stops after the failing test, not after a failing run of it."""
    result = suite.run(MARKED, "-x")
    result.assert_outcomes(failed=1)
    repaired = suite.run(MARKED.replace("jobs.run(charge, 7)", "jobs.run(charge_once, 7)"), "-x")
    repaired.assert_outcomes(passed=2)


def test_running_the_last_failures(suite):
    """`--lf` runs the test that a schedule failed."""
    suite.run(MARKED)
    again = suite.run(None, "--lf")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["run-last-failure: rerun previous 1 failure"])


@pytest.mark.parametrize(
    "args",
    [
        ("--assert=plain",),
        ("-W", "error"),
        ("--show-capture=no",),
        ("--tb=short",),
        ("-p", "no:cacheprovider"),
        ("-p", "no:logging"),
        ("-p", "no:terminalreporter", "-p", "no:junitxml"),
        ("--no-header", "--no-summary"),
        ("-s",),
        ("--capture=sys",),
        ("-p", "no:tmpdir"),
        ("-p", "no:unraisableexception", "-p", "no:threadexception"),
        ("-p", "no:subtests"),
        ("--log-level=DEBUG",),
        ("-p", "no:xdist"),
    ],
    ids=" ".join,
)
def test_the_verdict_does_not_depend_on_options(suite, args):
    """Whatever is switched off, the careless task fails and the careful one passes."""
    suite.test(MARKED)
    reported = []

    class Listener:
        def pytest_runtest_logreport(self, report):
            if report.when == "call":
                reported.append((report.nodeid.rpartition("::")[2], report.outcome, report.longreprtext))

    with suite.quiet():
        suite.pytester.inline_run(*args, plugins=[Listener()])
    assert [(name, outcome) for name, outcome, _ in reported] == [("test_careless", "failed"), ("test_careful", "passed")]
    assert "E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items" in reported[0][2]


def test_on_two_workers(suite):
    """Under xdist each worker explores its own tests; the summary's lines come together."""
    suite.module(test_other="""
import pytest
from shop import charge_once

@pytest.mark.idempotent("twice", "fail")
def test_vacuous(jobs):
    jobs.run(charge_once, 7)
""")
    result = suite.run(MARKED, "-n2", "-p", "xdist", apart=True)
    result.assert_outcomes(failed=1, passed=2, warnings=1)
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items"])
    result.stdout.fnmatch_lines(["test_other.py::test_vacuous: fail found nothing to do"])


def test_in_random_order(suite):
    """pytest-randomly seeds every run alike, so random values are the same in each."""
    suite.test("""
import random

@pytest.mark.idempotent("twice", "late")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_random(jobs, n):
    jobs.watch(charged)
    jobs.run(charge_once, random.random())
""")
    suite.ini(uses=["randomly"])
    result = suite.run(None, "-p", "randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=3)


def test_a_time_limit_covers_the_exploration(suite):
    """pytest-timeout ends a test that explores for too long; everything is restored, and the next test runs."""
    pytest.importorskip("pytest_timeout")
    result = suite.run("""
import time
from itertools import repeat

slow = time.sleep

def test_first(jobs):
    "What is loaded at first use is loaded."
    jobs.run(charge, 7)

@pytest.mark.timeout(4)
@pytest.mark.idempotent
def test_slow(jobs):
    job = jobs.run(charge, 7)
    for _ in repeat(None, 2_000_000_000 if len(job.attempts) == 2 else 0):
        pass

def test_next():
    assert time.sleep is slow
""", "-p", "timeout", apart=True)
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines([
        "E           Failed: Timeout (>4.0s) from pytest-timeout.",
        "E           The limit covers every run of a marked test; it struck in its run under twice. Fewer schedules: max_schedules.",
        "",
        "test_shop.py:27: Failed",
    ], consecutive=True)
    assert not re.search(r"pytest_jobs[/\\]", result.stdout.str())


def test_nothing_is_logged_for_an_explored_run(suite):
    """One test is one report, one setup, one teardown, one live log, one warning, one captured text."""
    result = suite.run("""
import logging, warnings

@pytest.fixture
def gateway():
    logging.getLogger("shop").warning("set up")
    yield
    logging.getLogger("shop").warning("torn down")

@pytest.mark.idempotent
def test_loud(jobs, gateway):
    warnings.warn("look out")
    print("printed in the test")
    jobs.watch(charged)
    jobs.run(charge, 7)
""", "--log-cli-level=WARNING", "-v")
    text = result.stdout.str()
    live = text[: text.index("= FAILURES =")]
    assert live.count("set up") == 1
    assert live.count("torn down") == 1
    assert text.count("printed in the test") == 1
    assert text.count("UserWarning: look out") == 1
    result.assert_outcomes(failed=1, warnings=1)


def test_reports_and_durations(suite):
    """The phases of a test are logged once each, with times of the real clock."""
    result = suite.run("""
import time

@pytest.mark.idempotent
def test_hours(jobs):
    charge_once.apply_async((7,), countdown=36000)
    time.sleep(3600)
""", "--durations=0", "-vv")
    lines = re.findall(r"^(\d+\.\d+)s (setup|call|teardown) +test_shop.py::test_hours$", result.stdout.str(), re.MULTILINE)
    assert sorted(phase for _, phase in lines) == ["call", "setup", "teardown"]
    assert all(float(seconds) < 60 for seconds, _ in lines)
    assert float(re.search(r"1 passed in (\d+\.\d+)s", result.stdout.str())[1]) < 60


def test_junit_xml(suite):
    """One case a test, the verdict as its failure, properties once."""
    result = suite.run("""
@pytest.mark.idempotent
def test_careless(jobs, record_property):
    record_property("order", 7)
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.idempotent
def test_careful(jobs):
    jobs.run(charge_once, 7)
""", "--junitxml=report.xml")
    result.assert_outcomes(failed=1, passed=1)
    report = ElementTree.parse(suite.pytester.path / "report.xml").getroot()
    cases = report.findall(".//testcase")
    assert [case.get("name") for case in cases] == ["test_careless", "test_careful"]
    assert [each.get("value") for each in cases[0].iter("property")] == ["7"]
    message = cases[0].find("failure").get("message")
    assert message.startswith("AssertionError: charge is not idempotent at twice: charged 1 -> 2 items")
    assert all(float(case.get("time")) < 60 for case in cases)


def test_wider_fixtures_live_on(suite):
    """Module and session fixtures are made once; function fixtures for each run."""
    result = suite.run("""
made = []

@pytest.fixture(scope="session")
def server():
    made.append("server up")
    yield
    made.append("server down")

@pytest.fixture(scope="module")
def table(server):
    made.append("table up")
    yield
    made.append("table down")

@pytest.fixture(scope="class")
def group():
    made.append("group up")
    yield
    made.append("group down")

@pytest.fixture
def row(table):
    made.append("row up")
    yield
    made.append("row down")

class TestRow:
    @pytest.mark.idempotent("twice", "late")
    def test_row(self, jobs, row, group):
        jobs.run(charge_once, 7)

def test_made(table):
    runs = ["row up", "row down"]
    assert made == ["server up", "table up", "group up", *runs * 4, "group down"]
""")
    result.assert_outcomes(passed=2)


def test_each_run_has_a_folder_of_its_own(suite):
    """`tmp_path` is fresh for every run, and its files are compared."""
    result = suite.run("""
seen = []

@app.task(shared=False)
def write(path):
    with open(path, "a") as file:
        file.write("paid\\n")

@pytest.mark.idempotent
def test_file(jobs, tmp_path):
    assert list(tmp_path.iterdir()) == []
    seen.append(tmp_path)
    jobs.run(write, str(tmp_path / "ledger.txt"))

def test_folders():
    assert len({*seen}) == 3
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E   AssertionError: write is not idempotent at twice: *ledger.txt*"])


def test_the_timeline_of_any_failing_test(suite):
    """A failing test that used jobs shows what they did, unless our own verdict has told it."""
    result = suite.run("""
def test_plain(jobs):
    jobs.run(charge, 7)
    assert charged == [8]

@pytest.mark.idempotent
def test_marked(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

def test_no_jobs():
    assert charged == [8]

def test_none_ran(jobs):
    assert charged == [8]
""")
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines([
        "*- jobs timeline -*",
        "00:00:00  delivery 1  charge(7)  succeeded, acked",
    ], consecutive=True)
    assert result.stdout.str().count("jobs timeline") == 1


def test_jobs_left_over(suite):
    """Jobs that are still due when an unmarked test ends are a warning that names them; a marked test runs them."""
    result = suite.run("""
def test_plain(jobs):
    charge.delay(7)
    charge.apply_async((8,), countdown=60)

@pytest.mark.idempotent
def test_marked(jobs):
    charge_once.apply_async((8,), countdown=60)
    jobs.watch(charged)
""")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines([
        "*JobsWarning: jobs were still due when test_plain ended: "
        "<Job shop.charge(7): pending>, <Job shop.charge(8): scheduled>"
    ])


def test_interrupted(suite):
    """Ctrl-C in the middle of an exploration ends the session, and the process is as it was."""
    suite.module(conftest="""
import time
from datetime import datetime

from kombu import Connection

before = time.sleep, time.time, datetime, Connection.get_transport_cls

def pytest_unconfigure():
    import datetime

    assert (time.sleep, time.time, datetime.datetime, Connection.get_transport_cls) == before
    print("as it was")
""")
    result = suite.run("""
@pytest.mark.idempotent
def test_interrupted(jobs):
    jobs.run(charge, 7)
    if runs.append(1) or len(runs) == 3:
        raise KeyboardInterrupt

runs = []
""", apart=True)
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*", "*no tests ran in*", "as it was"])


def test_failing_fixtures(suite):
    """Whatever fails around a world, the next test has the real clock and the real broker."""
    result = suite.run("""
import time
from datetime import datetime

slow, connect, now = time.sleep, type(app.connection()), datetime

@pytest.fixture
def broken(jobs):
    raise OSError("no disk")

@pytest.fixture
def broken_later(jobs):
    yield
    raise OSError("no disk")

@pytest.mark.idempotent
def test_broken(jobs, broken):
    jobs.run(charge, 7)

def test_broken_plain(jobs, broken):
    jobs.run(charge, 7)

@pytest.mark.idempotent
def test_broken_later(broken_later):
    charge_once.delay(7)

def test_broken_body(jobs):
    jobs.run(charge, 7)
    raise SystemExit

def test_next():
    assert (time.sleep, type(app.connection()), datetime) == (slow, connect, now)
    assert datetime.now().year < 2100
""")
    result.assert_outcomes(errors=3, failed=2, passed=1)


def test_pytest_django(suite):
    """A marked test with a database: each run in a transaction of its own."""
    pytest.importorskip("pytest_django")
    suite.module(
        settings='SECRET_KEY = "x"\nINSTALLED_APPS = ["orders"]\nUSE_TZ = True\n'
        'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}\n',
    )
    orders = suite.pytester.mkpydir("orders")
    orders.joinpath("models.py").write_text(
        "from django.db import models\n\n\nclass Payment(models.Model):\n    order = models.IntegerField()\n"
    )
    suite.ini("DJANGO_SETTINGS_MODULE = settings", uses=["django"])
    suite.test("""
from orders.models import Payment

@app.task(shared=False)
def pay(order):
    Payment.objects.create(order=order)

@app.task(shared=False)
def pay_once(order):
    Payment.objects.get_or_create(order=order)

@pytest.mark.django_db
@pytest.mark.idempotent
def test_careless():
    pay.delay(7)

@pytest.mark.django_db
@pytest.mark.idempotent
def test_careful():
    pay_once.delay(7)

@pytest.mark.django_db
def test_nothing_stays():
    assert Payment.objects.count() == 0
""", head="import pytest\nfrom shop import app\n")
    result = suite.run(None, apart=True)
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["E   AssertionError: pay is not idempotent at twice: orders_payment 1 -> 2 rows"])


def test_pytest_asyncio(suite):
    """A marked coroutine is run by pytest-asyncio in every run, in a loop of its own or in its module's."""
    pytest.importorskip("pytest_asyncio")
    suite.ini("asyncio_default_fixture_loop_scope = function", uses=["asyncio"])
    result = suite.run("""
import asyncio
import pytest_asyncio

loops = []

@pytest_asyncio.fixture
async def order():
    await asyncio.sleep(0.001)
    yield 7
    await asyncio.sleep(0.001)

@pytest.mark.asyncio
@pytest.mark.idempotent
async def test_careless(jobs, order):
    jobs.watch(charged)
    await asyncio.sleep(0.001)
    jobs.run(charge, order)

@pytest.mark.asyncio
@pytest.mark.idempotent("twice", "late")
async def test_careful(jobs, order):
    jobs.watch(charged)
    loops.append(asyncio.get_running_loop())
    await asyncio.to_thread(jobs.run, charge_once, order)
    await asyncio.wait_for(asyncio.sleep(0.001), 60)

@pytest.mark.asyncio
async def test_brought(order):
    assert len({*loops}) == 4

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.idempotent
async def test_never_mentions_jobs():
    assert charge_once.delay(7).get() == "paid"
""", "-p", "asyncio")
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines([">*async def test_careless(jobs, order):", "E   AssertionError: charge is not idempotent at twice: *"])


def test_a_coroutine_that_nothing_runs(suite):
    """Without a plugin for coroutines the test fails with pytest's own sentence."""
    result = suite.run("""
@pytest.mark.idempotent
async def test_careful(jobs):
    jobs.run(charge_once, 7)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["async def functions are not natively supported."])


@pytest.mark.parametrize("by", ["coverage", "pytest-cov"])
def test_with_coverage(suite, by):
    """Lines of tasks are counted while schedules trace them."""
    pytest.importorskip("coverage")
    suite.test("""
import shop

@pytest.mark.idempotent("all")
def test_order(jobs):
    jobs.watch(charged)
    jobs.run(shop.charge_late, 7)
""")
    suite.module(shop=(suite.pytester.path / "shop.py").read_text() + '''

@app.task(shared=False, acks_late=True)
def charge_late(order):
    if order in charged:
        return "paid"  # only a second delivery
    charged.append(order)
    return "paid"
''')
    if by == "coverage":
        command = (sys.executable, "-m", "coverage")
        done = suite.pytester.run(*command, "run", "--include=shop.py", "-m", "pytest")
        suite.pytester.run(*command, "json", "-o", "told.json")
    else:
        pytest.importorskip("pytest_cov")
        done = suite.run(None, "-p", "pytest_cov", "--cov=shop", "--cov-report=json:told.json", apart=True)
    done.stdout.fnmatch_lines(["*1 failed*"])  # two at once charge twice
    told = json.loads((suite.pytester.path / "told.json").read_text())["files"]["shop.py"]
    source = (suite.pytester.path / "shop.py").read_text().splitlines()
    ran = [source[line - 1].strip() for line in told["executed_lines"]]
    assert ran[-4:] == ["if order in charged:", 'return "paid"  # only a second delivery', "charged.append(order)", 'return "paid"']
    assert "return a + b" in [source[line - 1].strip() for line in told["missing_lines"]]
