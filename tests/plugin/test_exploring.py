"""What is explored, and how much of it: the command line, the ini file, the cache, the terminal."""

import os
import pty
import re
import shlex
import sys
from subprocess import Popen

import pytest

CARELESS = """
@pytest.mark.idempotent
def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
"""
CAREFUL = """
@pytest.mark.idempotent
def test_careful(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)
"""
CAREFUL_TASK = """
from shop import app

@app.task(shared=False, acks_late=True)
def careful(order):
    if order in charged:
        return "paid"
    charged.append(order)
    return "paid"
"""
TWO_STEPS = '''
"""An order is mailed, then marked."""

import sqlite3

from celery import Celery

app = Celery("steps", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
sent = []


@app.task(shared=False, acks_late=True)
def ship(order):
    if order in sent:
        return
    first = order
    sent.append(first)
    second = order
    sent.append(second)
'''


def notes(result):
    """Return the lines of our section of the summary."""
    text = result.stdout.str()
    found = re.search(r"=+ jobs =+\n(.*?)\n=+ ", text, re.DOTALL)
    return found[1].splitlines() if found else []


def test_replaying_one_schedule(suite):
    """The command of a failure runs that schedule, and no other."""
    suite.test(CARELESS)
    late = suite.run(None, "--jobs-schedule", "late@1")
    late.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at late@1: charged 1 -> 2 items"])
    once = suite.run(None, "--jobs-schedule", "once")
    once.assert_outcomes(passed=1)


def test_a_schedule_that_finds_nothing_is_said(suite):
    """A replay that cannot strike proves nothing."""
    result = suite.run(CARELESS, "--jobs-schedule=crash@99")
    result.assert_outcomes(passed=1, warnings=1)
    assert notes(result) == ["test_shop.py::test_careless: crash@99 found nothing to do"]


def test_exploring_gives_marked_tests_every_kind(suite):
    """`--jobs-explore` leaves unmarked tests alone."""
    suite.module(steps=TWO_STEPS)
    source = """
import steps

@pytest.mark.idempotent
def test_ship(jobs):
    jobs.watch(steps.sent)
    steps.sent.clear()
    jobs.run(steps.ship, 7)

def test_plain(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
"""
    plain = suite.run(source)
    plain.assert_outcomes(passed=2)
    explored = suite.run(None, "--jobs-explore")
    explored.assert_outcomes(passed=1, failed=1)
    explored.stdout.fnmatch_lines(["E   AssertionError: ship is not idempotent at *: sent 2 -> * items"])


def test_exploring_some_kinds(suite):
    """`--jobs-explore=late,twice` names them."""
    result = suite.run(CARELESS, "--jobs-explore=late,twice")
    result.stdout.fnmatch_lines(["E   AssertionError: charge is not idempotent at late@1: charged 1 -> 2 items"])


def test_kinds_that_found_nothing(suite):
    """A kind that was asked for by name and found nothing is a warning and a line; of `all` it is only a line."""
    source = CAREFUL_TASK + """
@pytest.mark.idempotent("twice", "fail")
def test_named(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)

@pytest.mark.idempotent("all")
def test_all(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)
"""
    result = suite.run(source)
    assert notes(result) == [
        "test_shop.py::test_named: fail found nothing to do",
        "test_shop.py::test_all: fail, reply-lost found nothing to do",
    ]
    result.stdout.fnmatch_lines(["*JobsWarning: fail found nothing to do in test_named: it is vacuous, not passed"])
    strict = suite.run(None, "-W", "error")
    strict.assert_outcomes(failed=2)
    strict.stdout.fnmatch_lines(["E   pytest_jobs.JobsWarning: fail found nothing to do in test_named: *"])


def test_every_test_that_runs_a_job_is_treated_as_marked(suite):
    """`--jobs-all`: tests without jobs stay what they are."""
    source = """
def test_careful(jobs):
    jobs.watch(charged)
    jobs.run(charge_once, 7)

def test_no_job():
    assert 1 + 1 == 2

def test_wrong():
    assert 1 + 1 == 3

def test_uses_the_fixture_only(jobs):
    assert jobs.all == []
"""
    suite.run(source).assert_outcomes(passed=3, failed=1)
    result = suite.run(None, "--jobs-all", "-rA")
    result.stdout.fnmatch_lines(["PASSED test_shop.py::test_no_job", "FAILED test_shop.py::test_wrong - assert *"])
    assert notes(result) == []
    result.assert_outcomes(passed=3, failed=1)


def test_every_test_is_judged(suite):
    """What an unmarked test watches is compared under `--jobs-all`, and the replay says so."""
    result = suite.run("""
def test_careless(jobs):
    jobs.watch(charged)
    charge.delay(7)
    jobs.drain()
""", "--jobs-all")
    result.stdout.fnmatch_lines([
        "E   AssertionError: charge is not idempotent at twice: charged 1 -> 2 items",
        "E   Replay:  pytest test_shop.py::test_careless --jobs-all --jobs-schedule twice",
    ])


def test_the_budget(suite):
    """The rest is counted aloud, in the failure and in the summary; the marker's own budget comes first."""
    suite.ini("jobs_max_schedules = 2")
    result = suite.run(CAREFUL_TASK + """
@pytest.mark.idempotent("crash", "late", "twice")
def test_ini(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)

@pytest.mark.idempotent("crash", "late", "twice", max_schedules=3)
def test_own(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)

@pytest.mark.idempotent("crash", "late", "twice", max_schedules=20)
def test_all(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)

@pytest.mark.idempotent("twice", "late", max_schedules=1)
def test_careless(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
""")
    assert notes(result) == [
        "test_shop.py::test_ini: 2 more schedules were not tried: the budget is 2 (max_schedules).",
        "test_shop.py::test_own: 1 more schedule was not tried: the budget is 3 (max_schedules).",
        "test_shop.py::test_careless: 1 more schedule was not tried: the budget is 1 (max_schedules).",
    ]
    result.stdout.fnmatch_lines(["E   1 more schedule was not tried: the budget is 1 (max_schedules)."])


def test_what_failed_last_is_tried_first(suite):
    """The cache remembers failing schedules, so a budget of one finds them again; a repaired test forgets."""
    source = CAREFUL_TASK + """
@pytest.mark.idempotent("twice", "late"{more})
def test_order(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)
    {wrong}
"""
    wrong = "jobs.duplicate(careful); jobs._session.schedule.kind == 'late' and charged.append(8)"
    wrong = "charged.extend([8] * (jobs._session.schedule.kind == 'late'))"
    first = suite.run(source.format(more="", wrong=wrong))
    first.stdout.fnmatch_lines(["E   AssertionError: * is not idempotent at late@1: *"])
    again = suite.run(source.format(more=", max_schedules=1", wrong=wrong))
    again.stdout.fnmatch_lines(["E   AssertionError: * is not idempotent at late@1: *"])
    suite.run(source.format(more="", wrong="")).assert_outcomes(passed=1)
    forgotten = suite.run(source.format(more=", max_schedules=1", wrong=wrong))
    forgotten.assert_outcomes(passed=1)


def test_without_a_cache(suite):
    """`-p no:cacheprovider` only forgets."""
    suite.run(CARELESS, "-p", "no:cacheprovider").assert_outcomes(failed=1)


def on_a_terminal(suite, *args):
    """Run the suite's tests with a terminal; return what was written to it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", *args]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    env.pop("PY_COLORS", None)
    with Popen(command, cwd=suite.pytester.path, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            if not chunk:
                break
            written += chunk
        process.wait(timeout=60)
    os.close(ours)
    return written.decode()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo terminals here")
def test_progress_on_a_terminal(suite):
    """How far an exploration is stands beside the line that pytest has begun, and is taken away again."""
    suite.test(CAREFUL_TASK + """
def test_plain():
    pass

@pytest.mark.idempotent("twice", "late", "crash")
def test_order(jobs):
    jobs.watch(charged)
    jobs.run(careful, 7)
""")
    written = on_a_terminal(suite)
    assert "\x1b7\x1b[K  test_order: 1/4 schedules\x1b8" in written
    assert "\x1b7\x1b[K  test_order: 3/4 schedules\x1b8" in written
    assert "4/4" not in written
    assert "\x1b7\x1b[K\x1b8" in written
    lines = re.sub(r"\x1b7.*?\x1b8|\x1b\[[0-9;]*[mK]", "", written).splitlines()
    assert f"{'test_shop.py ..':73}[100%]" in [line.rstrip() for line in lines]


def test_no_progress_elsewhere(suite):
    """In a file or a pipe nothing of it is written."""
    result = suite.run(CARELESS)
    assert "schedules\x1b" not in result.stdout.str()
    assert "1/1" not in result.stdout.str()


def test_patterns_that_are_ignored(suite):
    """A pattern that hid something is printed where something else failed; one that matched nothing is a warning."""
    result = suite.run("""
paid = []

@app.task(shared=False)
def pay(order):
    charged.append(order)
    paid.append(order)

@pytest.mark.idempotent(ignore=["paid", "refunds.*"])
def test_used_and_not(jobs):
    paid.clear()
    jobs.watch(charged)
    jobs.watch(paid)
    jobs.run(pay, 7)

@pytest.mark.idempotent(ignore=["charged", "refunds"])
def test_unused(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
""")
    result.assert_outcomes(failed=1, passed=1, warnings=1)
    result.stdout.fnmatch_lines(["E    ignored: paid"])
    result.stdout.fnmatch_lines(["*JobsWarning: ignore='refunds' of test_unused matched nothing"])


def test_at_most_once_is_accepted(suite):
    """The word `lost` has been of use although, with it, no job is lost."""
    suite.run("""
@app.task(shared=False)
def early(order):
    charged[:] = [order]

@pytest.mark.idempotent("crash", ignore=["lost"])
def test_early(jobs):
    jobs.watch(charged)
    jobs.run(early, 7)
""").assert_outcomes(passed=1, warnings=0)


def test_patterns_of_the_ini_file_need_not_match(suite):
    """They are for every test, so none has to use them."""
    suite.ini("jobs_ignore =", "    charged", "    refunds")
    result = suite.run(CARELESS)
    result.assert_outcomes(passed=1, warnings=0)


def test_jobs_of_another_service(suite):
    """Nobody here runs them, so to publish one twice is a difference; a job of our own is judged by what it does."""
    source = """
@app.task(shared=False)
def tell(order):
    app.send_task("billing.notify", args=[order])

@app.task(shared=False)
def tell_once(order):
    if order not in charged:
        app.send_task("billing.notify", args=[order])
        charged.append(order)

@app.task(shared=False)
def ask(order):
    charge_once.delay(order)

@pytest.mark.idempotent
def test_tell(jobs):
    jobs.run(tell, 7)

@pytest.mark.idempotent(ignore=["publish:billing.*"])
def test_ignored(jobs):
    jobs.run(tell, 7)

@app.task(shared=False)
def tell_by_id(order):
    app.send_task("billing.notify", args=[order], task_id=f"notify-{order}")

@pytest.mark.idempotent
def test_tell_by_id(jobs):
    jobs.run(tell_by_id, 7)

@pytest.mark.idempotent
def test_tell_once(jobs):
    jobs.run(tell_once, 7)

@pytest.mark.idempotent
def test_ask(jobs):
    jobs.run(ask, 7)
"""
    result = suite.run(source)
    result.assert_outcomes(failed=1, passed=4)
    result.stdout.fnmatch_lines([
        "E   AssertionError: tell is not idempotent at twice: billing.notify 1 -> 2 jobs",
        "E   ",
        "E                      once     now",
        "E    billing.notify    1 job    2 jobs    <- published, not run here",
    ], consecutive=True)


def test_headers_of_the_ini_file_carry_idempotency_keys(suite):
    """A request that comes again with the project's own key header is no second request."""
    source = """
import requests
import responses

@app.task(shared=False)
def pay(order):
    requests.post("https://pay.example/charges", headers={"X-Order-Key": f"order-{order}"}, timeout=5)

@pytest.mark.idempotent
def test_pay(jobs):
    with responses.RequestsMock() as mock:
        mock.post("https://pay.example/charges")
        jobs.run(pay, 7)
"""
    result = suite.run(source, apart=True)
    result.stdout.fnmatch_lines(["E   AssertionError: pay is not idempotent at twice: POST https://…/charges 1 -> 2 requests"])
    suite.ini("jobs_idempotency_headers = X-Order-Key X-Other")
    suite.run(source, apart=True).assert_outcomes(passed=1)


def test_two_undisturbed_runs_that_differ(suite):
    """That is no bug of the task, and said so."""
    result = suite.run("""
runs = []

@pytest.mark.idempotent
def test_random(jobs):
    runs.append(1)
    jobs.watch(charged)
    jobs.run(charge_once, len(runs))
""")
    result.stdout.fnmatch_lines(["E   AssertionError: two undisturbed runs of test_random differ: *, so nothing was compared"])


def test_a_test_that_fails_the_second_time(suite):
    """The note says what one run left to the next."""
    result = suite.run("""
runs = []

@pytest.mark.idempotent
def test_leaks(jobs):
    jobs.run(charge, 7)
    runs.append(1)
    assert len(runs) < 3
""")
    result.stdout.fnmatch_lines([
        "E       assert 3 < 3",
        "E       The same test passed in its first undisturbed run: what one run leaves behind reaches the next. *",
    ])


def test_no_job_ran(suite):
    """A marked test that runs no job proves nothing."""
    result = suite.run("""
@pytest.mark.idempotent
def test_nothing(jobs):
    pass
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   AssertionError: test_nothing is marked idempotent, but no job ran in it: *"])


def test_jobs_that_a_failed_job_publishes_when_it_is_run_again(suite):
    """It gave up before it published them, or after: none is missing, none is one too many."""
    suite.module(post="""
from celery import Celery

app = Celery("post", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
seen = []


def ask(order):
    seen.append(order)


@app.task(shared=False)
def tell(order):
    return order


@app.task(shared=False)
def before(order):
    tell.delay(order)
    ask(order)


@app.task(shared=False)
def after(order):
    ask(order)
    tell.delay(order)

""")
    result = suite.run("""
import post

@pytest.fixture(autouse=True)
def unseen():
    post.seen.clear()

@pytest.mark.idempotent("fail", "reply-lost", ignore=["call:post.ask"])
@pytest.mark.parametrize("name", ["before", "after"])
def test_post(jobs, name):
    jobs.outgoing("post.ask")
    jobs.run(getattr(post, name), 7)
""")
    result.assert_outcomes(passed=2)


def test_recoveries(suite):
    """What a run does only after a fault is struck as well, unless the run already shows what is wrong."""
    result = suite.run("""
from pathlib import Path

runs = {"careful": 0, "careless": 0}

@app.task(shared=False, acks_late=True)
def ship(folder, tidy):
    started, done, noted = (Path(folder, name) for name in ("started", "done", "noted"))
    if started.exists() and not done.exists():
        noted.write_text("again")
    started.write_text("yes")
    if tidy:
        noted.unlink(missing_ok=True)
    done.write_text("yes")

@pytest.mark.idempotent("crash")
def test_careful(jobs, tmp_path):
    runs["careful"] += 1
    jobs.run(ship, str(tmp_path), True)

@pytest.mark.idempotent("crash")
def test_careless(jobs, tmp_path):
    runs["careless"] += 1
    jobs.run(ship, str(tmp_path), False)

def test_count():
    assert runs["careful"] > 2 * runs["careless"]
""", "-p", "no:xdist")
    result.assert_outcomes(passed=2, failed=1)
    assert "+crash" not in result.stdout.str()


REPLAYED = """
class Gateway:
    def charge(self, order):
        pass

gateway = Gateway()

@app.task(shared=False, acks_late=True, bind=True, max_retries=None)
def insist(self, order):
    try:
        gateway.charge(order)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=60)

@pytest.mark.parametrize("order", ["one two", "it's [7]; ${HOME}"])
@pytest.mark.idempotent
def test_named(jobs, order):
    jobs.watch(charged)
    jobs.run(charge, order)

class TestGroup:
    @pytest.mark.idempotent("fail")
    def test_inside(self, jobs):
        jobs.outgoing(f"{__name__}.gateway.charge")
        jobs.run(insist, 7)

def test_implied(jobs):
    jobs.watch(charged)
    jobs.run(charge, 7)
"""


def test_the_printed_command_shows_the_failure_again(suite):
    """It can be pasted into a shell as it stands, whatever the test is called, and runs one schedule of one test."""
    first = suite.run(REPLAYED, "--jobs-all")
    first.assert_outcomes(failed=4)
    commands = [line.partition("Replay:  ")[2] for line in first.outlines if "Replay:  " in line]
    heads = [line for line in first.outlines if line.startswith("E   AssertionError")]
    assert [command.split("--")[-1] for command in commands] == ["jobs-schedule twice"] * 2 + ["jobs-schedule fail@1-", "jobs-schedule twice"]
    for command, head in zip(commands, heads, strict=True):
        name, *args = shlex.split(command)
        assert name == "pytest"
        again = suite.run(None, *args)
        again.assert_outcomes(failed=1)
        assert [line for line in again.outlines if line.startswith("E   AssertionError")] == [head]


def test_an_odd_retry_policy_is_told(suite):
    """Whoever retries one transient error and not another one may mean it: it is said, and fails nothing."""
    result = suite.run("""
class Gateway:
    def charge(self, order):
        "A call of ours."

    def note(self, order):
        "Another one, whose error nobody expects."

gateway = Gateway()

@app.task(shared=False, acks_late=True, autoretry_for=(ConnectionError,), default_retry_delay=60)
def pay(order):
    gateway.charge(order)
    gateway.note(order)

@app.task(shared=False, acks_late=True, autoretry_for=(Exception,), max_retries=2, default_retry_delay=60)
def stumble(order):
    return {}[order]

@pytest.mark.idempotent("fail", ignore=["call:*"])
def test_pay(jobs):
    jobs.outgoing("test_shop.gateway.charge")
    jobs.outgoing("test_shop.gateway.note", error=TimeoutError)
    jobs.run(pay, 7)

@pytest.mark.idempotent("late")
def test_stumble(jobs):
    assert jobs.run(stumble, 7).dead
""")
    result.assert_outcomes(passed=2)
    assert notes(result) == [
        "test_shop.py::test_pay: pay is not retried after TimeoutError, as it is after other errors: call gateway.note",
        "test_shop.py::test_stumble: stumble is retried after KeyError, which no retry repairs",
    ]
