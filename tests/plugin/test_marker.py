"""The marker on every kind of test that pytest knows."""

import pytest


def test_on_a_test_that_uses_jobs(suite):
    """The careless task fails, its careful twin passes."""
    result = suite.run("""
@pytest.mark.idempotent
def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.idempotent
def test_careful(jobs):
    jobs.watch(charged)
    jobs.run(charge_once, 7)
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items"])


def test_on_a_test_that_never_mentions_jobs(suite):
    """The plugin brings the fixture, and settles what the test published."""
    result = suite.run("""
@pytest.fixture
def outbox(jobs):
    jobs.watch(charged)

@pytest.mark.idempotent
def test_careless(outbox):
    charge.delay(7)

@pytest.mark.idempotent
def test_careful():
    assert charge_once.delay(7).get() == "paid"
""")
    result.assert_outcomes(failed=1, passed=1)


def test_on_parametrised_tests(suite):
    """Each parameter is explored by itself, indirect ones too."""
    result = suite.run("""
@pytest.fixture
def order(request):
    return request.param * 10

@pytest.mark.idempotent
@pytest.mark.parametrize("task", [charge, charge_once], ids=["careless", "careful"])
@pytest.mark.parametrize("order", [1, 2], indirect=True)
def test_order(jobs, task, order):
    assert order in (10, 20)
    jobs.watch(charged)
    jobs.run(task, order)
""", "-v")
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines([
        "E   Replay:  pytest 'test_shop.py::test_order[[]1-careless]' --jobs-schedule twice",
        "E   Replay:  pytest 'test_shop.py::test_order[[]2-careless]' --jobs-schedule twice",
    ])


def test_on_one_parameter_only(suite):
    """A mark on a parameter is a mark on that test."""
    result = suite.run("""
@pytest.mark.parametrize("task", [charge, pytest.param(charge, marks=pytest.mark.idempotent)], ids=["plain", "marked"])
def test_order(jobs, task):
    jobs.watch(charged)
    jobs.run(task, 7)
""", "-rA")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["PASSED test_shop.py::test_order[[]plain]", "FAILED test_shop.py::test_order[[]marked]*"])


def test_on_a_class(suite):
    """Each run has an instance of its own, its set-up methods included."""
    result = suite.run("""
@pytest.mark.idempotent
class TestCharging:
    made = []

    def setup_method(self):
        self.order = 7
        self.made.append(id(self))

    def test_careless(self, jobs):
        jobs.watch(charged)
        jobs.run(charge, self.order)

    def test_careful(self, jobs):
        assert not hasattr(self, "seen")
        self.seen = True
        jobs.watch(charged)
        jobs.run(charge_once, self.order)

def test_instances():
    assert len(TestCharging.made) == 6
""")
    result.assert_outcomes(failed=1, passed=2)


def test_on_a_unittest_class(suite):
    """`unittest.TestCase` is explored as any test; its failures are seen under a schedule too."""
    result = suite.run("""
import unittest

@pytest.mark.idempotent
class TestCharging(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def bring(self, jobs):
        self.jobs = jobs

    def setUp(self):
        self.order = 7

    def test_careless(self):
        self.jobs.run(charge, self.order)
        self.assertEqual([7], charged)

    def test_careful(self):
        self.jobs.run(charge_once, self.order)
        self.assertEqual([7], charged)

    def test_watched(self):
        self.jobs.watch(charged)
        charge.delay(self.order).get()

    @pytest.mark.xfail
    def test_expected(self):
        self.jobs.watch(charged)
        charge.delay(self.order).get()

    def test_wrong(self):
        self.jobs.run(charge_once, self.order)
        self.assertEqual([8], charged)

    def test_skipped(self):
        self.skipTest("not today")
""", "-rA")
    result.stdout.fnmatch_lines([
        "E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items",
        "PASSED test_shop.py::TestCharging::test_careful",
        "FAILED test_shop.py::TestCharging::test_careless - AssertionError: charge is *",
        "FAILED test_shop.py::TestCharging::test_watched - AssertionError: charge is *",
        "FAILED test_shop.py::TestCharging::test_wrong - AssertionError: Lists differ:*",
    ])
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: the test fails: Lists differ: *"])
    result.assert_outcomes(failed=3, passed=1, xfailed=1, skipped=1)


def test_a_path_below_tmp_path_is_the_same_in_each_run(suite):
    """A task may return where it wrote, and keep it: the test is no less reproducible."""
    suite.run("""
@app.task(shared=False)
def export(folder):
    charged[:] = [f"{folder}/orders.csv"]
    return charged[0]

@pytest.mark.idempotent
def test_export(jobs, tmp_path):
    jobs.watch(charged)
    export.delay(str(tmp_path))
""").assert_outcomes(passed=1)


def test_a_unittest_test_ends_before_its_own_teardown(suite):
    """What `setUp` made is still there for jobs that the test left, for second deliveries, and when the world is read."""
    result = suite.run("""
import unittest

class TestCharging(unittest.TestCase):
    def setUp(self):
        self.addCleanup(charged.clear)
        self.addCleanup(charged.append, "closed")

    def tearDown(self):
        charged.append("torn down")

    @pytest.mark.idempotent
    def test_careless(self):
        charge.delay(7)

    @pytest.mark.idempotent
    def test_careful(self):
        charge_once.delay(7)

    @pytest.mark.idempotent
    def test_fails(self):
        charge_once.delay(7).get()
        assert charged == [8]

@pytest.fixture(autouse=True)
def watched(jobs):
    jobs.watch(charged)
    yield
    assert charged == []
""")
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items"])
    result.stdout.fnmatch_lines(["E       assert [[]7[]] == [[]8[]]"])
    result.assert_outcomes(failed=2, passed=1)


def test_on_a_coroutine(suite):
    """A plugin for coroutines runs the body of every run."""
    pytest.importorskip("anyio")
    suite.ini("anyio_mode = auto")
    result = suite.run("""
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.idempotent
async def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.anyio
@pytest.mark.idempotent
async def test_careful(jobs):
    jobs.watch(charged)
    charge_once.delay(7)
""", "-p", "anyio")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([">*async def test_careless(jobs):", "E   AssertionError: charge is not idempotent at twice: *"])


def test_expected_failures(suite):
    """The verdict falls in the call phase, so `xfail` is honoured, the strict one too."""
    result = suite.run("""
@pytest.mark.xfail(strict=True)
@pytest.mark.idempotent
def test_known(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.xfail(strict=True)
@pytest.mark.idempotent
def test_cured(jobs):
    jobs.watch(charged)
    jobs.run(charge_once, 7)

@pytest.mark.xfail(raises=AssertionError)
@pytest.mark.idempotent
def test_raises(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)

@pytest.mark.xfail(run=False)
@pytest.mark.idempotent
def test_not_run(jobs):
    raise SystemExit

@pytest.mark.xfail
@pytest.mark.idempotent
def test_wrong(jobs):
    jobs.run(charge, 7)
    assert charged == [8]

@pytest.mark.xfail(strict=True)
@pytest.mark.idempotent
def test_own_assertion(jobs):
    jobs.run(charge, 7)
    assert charged == [7]
""", "-rA")
    result.assert_outcomes(failed=1, xfailed=5)
    result.stdout.fnmatch_lines(["*XPASS(strict)*", "FAILED test_shop.py::test_cured*"])
    result.stdout.fnmatch_lines(["XFAIL test_shop.py::test_own_assertion*"])


def test_an_expected_failure_says_why_it_failed_under_a_schedule(suite):
    """What the test asserts under a schedule is told, not that it was expected to fail."""
    result = suite.run("""
@pytest.mark.xfail
@pytest.mark.idempotent
def test_own_assertion(jobs):
    jobs.run(charge, 7)
    assert len(charged) == 1
""", "--runxfail")
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: the test fails: assert 2 == 1"])


def test_skipped_tests(suite):
    """A skipped test is skipped, wherever it decides to."""
    result = suite.run("""
ran = []

@pytest.mark.skip
@pytest.mark.idempotent
def test_skip(jobs):
    raise SystemExit

@pytest.mark.idempotent
def test_inside(jobs):
    pytest.skip("not today")

@pytest.mark.skipif(True, reason="never")
@pytest.mark.idempotent
def test_never(jobs):
    raise SystemExit
""")
    result.assert_outcomes(skipped=3)


def test_a_skip_under_a_schedule_is_told(suite):
    """A test that skips only when disturbed proves nothing there."""
    result = suite.run("""
@pytest.mark.idempotent
def test_order(jobs):
    jobs.run(charge, 7)
    if len(charged) > 1:
        pytest.skip("charged twice")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: the test fails: skipped: charged twice"])


def test_subtests(suite):
    """A failing subtest fails the test as ever; one that fails only under a schedule is found."""
    result = suite.run("""
@pytest.mark.idempotent
def test_good(jobs, subtests):
    with subtests.test("once"):
        jobs.run(charge_once, 7)
        assert charged == [7]

@pytest.mark.idempotent
def test_only_disturbed(jobs, subtests):
    with subtests.test("once"):
        jobs.run(charge, 7)
        assert charged == [7]

@pytest.mark.idempotent
def test_always(jobs, subtests):
    with subtests.test("never"):
        jobs.run(charge_once, 7)
        assert charged == [8]
""", "-rA")
    result.stdout.fnmatch_lines([
        "E   AssertionError: charge is not idempotent at twice: the test fails: *",
        "PASSED test_shop.py::test_good",
        "FAILED test_shop.py::test_only_disturbed - *",
    ])
    assert result.parseoutcomes()["passed"] == 1


def test_the_nearest_marker_wins_key_by_key(suite):
    """A test adds to what its class and module say."""
    result = suite.run("""
pytestmark = pytest.mark.idempotent("twice", ignore=["charged"])

class TestCharging:
    def test_ignored(self, jobs):
        jobs.watch(charged)
        jobs.run(charge, 7)

    @pytest.mark.idempotent("late")
    def test_late(self, jobs):
        jobs.watch(charged)
        jobs.run(charge, 7)

    @pytest.mark.idempotent(ignore=[])
    def test_strict(self, jobs):
        jobs.watch(charged)
        jobs.run(charge, 7)
""", "-rA")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["FAILED test_shop.py::TestCharging::test_strict*"])


def test_only_the_named_tasks_are_disturbed(suite):
    """`tasks` names them, by name or object."""
    result = suite.run("""
@pytest.mark.idempotent(tasks=["shop.charge_once"])
def test_other(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
    jobs.run(charge_once, 8)

@pytest.mark.idempotent(tasks=[charge])
def test_this(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
""", "-rA")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["PASSED test_shop.py::test_other", "FAILED test_shop.py::test_this*"])


def test_the_kinds_of_a_bare_marker_come_from_the_ini_file(suite):
    """`jobs_schedules` says what a bare marker stands for."""
    suite.ini("jobs_schedules = late")
    result = suite.run("""
@pytest.mark.idempotent
def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
""")
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at late@1: charged 1 -> 2 items"])


def test_the_help_shows_the_signature(suite):
    """`pytest --markers` names every argument with its default."""
    result = suite.run("", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.idempotent(*schedules, ignore=(), tasks=(), max_schedules=None): *"])


def test_nothing_was_seen(suite):
    """A pass that rests on results alone says so."""
    result = suite.run("""
@pytest.mark.idempotent
def test_unseen(jobs):
    jobs.run(charge, 7)

@pytest.mark.idempotent
def test_seen(jobs):
    jobs.watch(charged)
    jobs.run(charge_once, 7)
""")
    result.assert_outcomes(passed=2)
    told = "test_shop.py::test_unseen: no probe saw anything that its jobs did, so only their results were compared"
    assert [line for line in result.outlines if "no probe saw" in line] == [told]


def test_a_runner_that_takes_the_instances_method(suite):
    """pytest-django's does, for Django's test cases: their verdict falls before the teardown too, and is never left out."""
    result = suite.run("""
import unittest

class TestCharging(unittest.TestCase):
    def setUp(self):
        self.addCleanup(charged.clear)

    @pytest.mark.idempotent
    def test_careless(self):
        charge.delay(7)

@pytest.fixture(autouse=True)
def own_runtest(request, jobs):
    jobs.watch(charged)
    request.node.runtest = lambda: request.node.instance(result=request.node)
""")
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items"])
    result.assert_outcomes(failed=1)
