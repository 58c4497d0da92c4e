"""`@pytest.mark.idempotent` and `@given` on one test, and Hypothesis's own features under frozen time."""

import re

import pytest

HEAD = """
import pytest
import time
from celery import Celery
from hypothesis import HealthCheck, assume, given, note, reproduce_failure, settings, strategies as st, target

app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
charged = []
# On a busy machine the usual 200 ms are over soon, and a late example would be one more failure.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@app.task(shared=False, acks_late=True)
def charge(order):
    if order > 3:
        charged.append(order)


@app.task(shared=False, acks_late=True)
def charge_once(order):
    if order not in charged:
        charged.append(order)


@pytest.fixture(autouse=True)
def watched(jobs):
    charged.clear()
    jobs.watch(charged)


"""
SOME = "settings(max_examples=30, derandomize=True, **UNHURRIED)"


@pytest.fixture
def run(pytester):
    """Run tests with Hypothesis's plugin, in a process of its own."""
    pytester.makeini("[pytest]\naddopts = -p no:randomly -p no:django -p no:xdist\nfilterwarnings = default\n")

    def run(source, *args):
        if source is not None:
            pytester.makepyfile(test_shop=HEAD + source)
        return pytester.runpytest_subprocess(*args)

    return run


def test_each_example_is_explored(run):
    """The value is shrunk to the smallest at which a second delivery makes a difference; a repaired task passes."""
    result = run(f"""
@pytest.mark.idempotent("twice", "crash")
@{SOME}
@given(order=st.integers())
def test_charge(order):
    charge.delay(order)

class TestOnce:
    @pytest.mark.idempotent("twice", "crash")
    @{SOME}
    @given(order=st.integers())
    def test_charge(self, order):
        charge_once.delay(order)

class TestTwice:
    @pytest.mark.idempotent
    @{SOME}
    @given(order=st.integers())
    @pytest.mark.parametrize("more", [0])
    def test_charge(self, order, more):
        charge.delay(order + more)
""")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items",
            "E    00:00:00  delivery 2  charge(4)  redelivered, succeeded, acked",
            "E   Replay:  pytest test_shop.py::test_charge --jobs-schedule twice",
            "E       order=4,",
            "E   Replay:  pytest 'test_shop.py::TestTwice::test_charge[[]0[]]' --jobs-schedule twice",
            "E       order=4,",
        ]
    )
    result.stdout.no_fnmatch_line("*HealthCheck*")


def test_replaying_one_schedule(run):
    """The printed id, given to `--jobs-schedule`, is the only one tried in each example."""
    source = f"""
@pytest.mark.idempotent("twice", "crash")
@{SOME}
@given(order=st.integers())
def test_charge(order):
    charge.delay(order)
"""
    found = run(source)
    schedule = re.search(r"--jobs-schedule (\S+)", found.stdout.str())[1]
    again = run(None, "--jobs-schedule", schedule)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E *AssertionError: charge is not idempotent at twice: charged 1 -> 2 items", "E *order=4,"])
    other = run(None, "--jobs-schedule", "crash@1")
    other.assert_outcomes(passed=1)


def test_an_example_without_a_job_is_no_pass(run):
    """A test in which no example ran a job fails; one in which some did passes, also when an assumption fails."""
    result = run(f"""
@pytest.mark.idempotent
@{SOME}
@given(order=st.integers())
def test_none(order):
    pass

@pytest.mark.idempotent
@{SOME}
@given(order=st.integers(0, 3))
def test_some(order):
    assume(order)
    charge_once.delay(order).get()
    assume(charged.count(order) == 1)

@pytest.mark.idempotent("twice", "reply-lost")
@{SOME}
@given(order=st.integers(0, 3))
def test_vacuous(order):
    charge.delay(order)
""")
    result.assert_outcomes(passed=2, failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "E   AssertionError: test_none is marked idempotent, but no job ran in it: *",
            "*JobsWarning: reply-lost found nothing to do in test_vacuous: it is vacuous, not passed",
            "test_shop.py::test_vacuous: reply-lost found nothing to do",
        ]
    )


def test_the_fixture_as_a_parameter_is_explained(run):
    """Hypothesis's health check stays, with one sentence on what to do; doing it works."""
    result = run("""
@given(order=st.integers())
def test_plain(jobs, order):
    jobs.run(charge, order)

@pytest.mark.idempotent
@given(order=st.integers())
def test_marked(jobs, order):
    jobs.run(charge, order)

ALLOWED = settings(
    max_examples=20, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

@ALLOWED
@given(order=st.integers())
def test_fresh(jobs, order):
    with jobs.fresh():
        jobs.run(charge, order)
        assert len(jobs.all) == 1

@pytest.mark.idempotent
@ALLOWED
@given(order=st.integers())
def test_marked_fresh(jobs, order):
    with jobs.fresh():
        jobs.run(charge_once, order)
""")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "    pytest-jobs opens jobs once for all examples: let each begin anew in `with jobs.fresh():`, and allow that with"
            " @settings(suppress_health_check=[[]HealthCheck.function_scoped_fixture[]])",
            "    pytest-jobs gives each example of a marked test a fresh world: leave jobs out of the parameters, or allow it with"
            " @settings(suppress_health_check=[[]HealthCheck.function_scoped_fixture[]])",
        ]
    )


def test_what_is_drawn_meanwhile_cannot_be_run_again(run):
    """`data()` in a marked test is refused in one sentence."""
    result = run("""
@pytest.mark.idempotent
@given(data=st.data())
def test_charge(data):
    charge.delay(data.draw(st.integers()))
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*UsageError: test_charge is marked idempotent and draws from data=data() while it runs, so no example can be run again; *"]
    )


def test_a_failing_body_fails_as_itself(run):
    """What the body asserts undisturbed is told first, with the timeline of its world."""
    result = run(f"""
@pytest.mark.idempotent
@{SOME}
@given(order=st.integers())
def test_charge(order):
    charge.delay(order).get()
    assert not charged
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert not [[]4[]]", "E *jobs timeline:", "E *00:00:00  delivery 1  charge(4)  succeeded, acked"])


def test_coroutines_are_explored(run):
    """Through pytest-asyncio and through anyio, which make plain functions of them."""
    result = run("""
FEW = settings(max_examples=8, derandomize=True, **UNHURRIED)

@pytest.mark.asyncio
@pytest.mark.idempotent
@FEW
@given(order=st.integers(3, 5))
async def test_asyncio(order):
    charge.delay(order)

@pytest.mark.anyio
@pytest.mark.idempotent
@FEW
@given(order=st.integers(3, 5))
async def test_anyio(order, anyio_backend_name):
    charge.delay(order)

@pytest.mark.asyncio
@pytest.mark.idempotent
@FEW
@given(order=st.integers(3, 5))
async def test_once(order):
    charge_once.delay(order)

@pytest.fixture(params=["asyncio"], scope="module")
def anyio_backend(request):
    return request.param

@pytest.fixture(scope="module")
def anyio_backend_name(anyio_backend):
    return anyio_backend
""")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["E *AssertionError: charge is not idempotent at twice: charged 1 -> 2 items", "*order=4,*"] * 2)


def test_deadlines_are_about_real_time(run):
    """A slow example misses its deadline though time is frozen; virtual hours and further deliveries do not count."""
    result = run("""
def chosen(deadline):
    return settings(max_examples=3, deadline=deadline, derandomize=True, suppress_health_check=list(HealthCheck))

@chosen(100)
@given(order=st.integers(0, 1))
def test_slow(jobs, order):
    with jobs.fresh():
        until = time.process_time_ns() + 300_000_000
        while time.process_time_ns() < until:
            pass

@chosen(3_600_000)
@given(order=st.integers(0, 1))
def test_late(jobs, order):
    with jobs.fresh():
        charge.apply_async((order,), countdown=86_400)
        jobs.settle()

class Stopwatch:
    read, ran = 0.0, 0

    @pytest.fixture(autouse=True)
    def stopwatch(self, jobs):
        jobs._session.clock.unfrozen.read = lambda: Stopwatch.read
        Stopwatch.ran = 0

    def take(self, run):
        # In the first example: 1 warms up, 2 is the example, 3 its second delivery.
        Stopwatch.ran += 1
        if Stopwatch.ran == run:
            Stopwatch.read += 7200

class TestMarked(Stopwatch):
    @pytest.mark.idempotent
    @chosen(3_600_000)
    @given(order=st.integers(0, 1))
    def test_warming_up(self, order):
        self.take(1)
        charge_once.delay(order)

    @pytest.mark.idempotent
    @chosen(3_600_000)
    @given(order=st.integers(0, 1))
    def test_itself(self, order):
        self.take(2)
        charge_once.delay(order)

    @pytest.mark.idempotent
    @chosen(3_600_000)
    @given(order=st.integers(0, 1))
    def test_again(self, order):
        self.take(3)
        charge_once.delay(order)
""")
    result.assert_outcomes(passed=3, failed=2)
    told = result.stdout.str()
    assert re.search(r"DeadlineExceeded: Test took [\d.]+ms, which exceeds the deadline of 100.00ms", told)
    # Hypothesis takes off what the garbage collector took.
    took = re.search(r"Test took ([\d.]+)ms, which exceeds the deadline of 3600000.00ms", told)
    assert took is not None
    assert float(took[1]) == pytest.approx(7_200_000, abs=1_000)
    result.stdout.fnmatch_lines(["FAILED test_shop.py::test_slow *", "FAILED test_shop.py::TestMarked::test_itself *"])


def test_derandomize_and_the_database(run, pytester):
    """The same examples come each time, and a failing one is kept and tried first."""
    source = """
@pytest.mark.idempotent("twice")
@settings(SETTINGS, report_multiple_bugs=False, **UNHURRIED)
@given(order=st.integers())
def test_charge(order):
    with open("seen.txt", "a") as file:
        file.write(f"{order} ")
    charge.delay(order)
"""
    seen = pytester.path / "seen.txt"
    told = []
    for _ in range(2):
        run(source.replace("SETTINGS", "max_examples=30, derandomize=True")).assert_outcomes(failed=1)
        told.append(seen.read_text())
        seen.unlink()
    assert told[0] == told[1]
    kept = source.replace("SETTINGS", "max_examples=200")
    run(kept).assert_outcomes(failed=1)
    seen.unlink()
    run(kept).assert_outcomes(failed=1)
    assert seen.read_text().startswith("4 4 4 ")


def test_reproducing_a_failure(run):
    """The blob that Hypothesis prints reproduces the example under its schedules; what the test notes is told once."""
    source = """
@pytest.mark.idempotent("twice")
@settings(max_examples=50, derandomize=True, print_blob=True, **UNHURRIED)
@given(order=st.integers())
def test_charge(order):
    note(f"to be charged: {order}")
    target(order % 7, label="a week")
    charge.delay(order)
"""
    found = run(source)
    assert found.stdout.str().count("to be charged: 4") == 1
    blob = re.search(r"@reproduce_failure\(.*?\)", found.stdout.str())[0]
    again = run(source.replace("@pytest.mark", f"{blob}\n@pytest.mark"))
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E *AssertionError: charge is not idempotent at twice: charged 1 -> 2 items", "*    order=4,"])
