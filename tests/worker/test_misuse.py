"""Misuse is one clear sentence, what was given and what is allowed, and leaves everything as it was."""

import re
import sys
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from celery import Celery
from kombu.exceptions import EncodeError

from pytest_jobs import UsageError, in_process_worker


class Gateway:
    number = 5

    def send(self):
        """Send nothing."""


NO_TASK = "no task is registered as 'shop.ad'; registered are .*"
TARGET = "allowed is a task, its registered name or a dotted path"
SECONDS = "allowed are seconds (a number) or a timedelta"
FORWARD = "time only goes forward, so give zero or more seconds"
SCHEDULES = "allowed are once, twice, late@N, crash@N, fail@N, reply-lost@N, overlap@N, and several joined by +"
JOB = "allowed are a task, a signature and a registered name"
TIMES = "allowed is a whole number from 1, or None for ever"

CASES = {
    "run: no such task": (lambda jobs, add: jobs.run("shop.ad", 1), NO_TASK),
    "run: no task": (lambda jobs, add: jobs.run(5), f"5 is no job; {JOB}"),
    "run: a function": (lambda jobs, add: jobs.run(print, 1), f"<built-in function print> is no job; {JOB}"),
    "run: an empty dict": (lambda jobs, add: jobs.run({}), f"{{}} is no job; {JOB}"),
    "run: a list": (lambda jobs, add: jobs.run([1]), f"[1] is no job; {JOB}"),
    "run: no JSON": (
        lambda jobs, add: jobs.run(add, {1}, 2),
        "the serializer of shop.add refuses its arguments: Object of type set is not JSON serializable",
    ),
    "run: a signature of no JSON": (
        lambda jobs, add: jobs.run(add.s({1}), 2),
        "the serializer of shop.add refuses its arguments: Object of type set is not JSON serializable",
    ),
    "drain: no such task": (
        lambda jobs, add: jobs.drain(task="shop.ad"),
        "jobs.drain was given task='shop.ad'; allowed is a task or its registered name",
    ),
    "drain: no queue": (
        lambda jobs, add: jobs.drain(queue=5), "jobs.drain was given queue=5; allowed is the name of a queue"
    ),
    "drain: a negative limit": (
        lambda jobs, add: jobs.drain(limit=-1), "jobs.drain was given limit=-1; allowed is a whole number from 0"
    ),
    "advance: back": (lambda jobs, add: jobs.advance(-1), f"jobs.advance was given -1 s; {FORWARD}"),
    "advance: back by a timedelta": (
        lambda jobs, add: jobs.advance(timedelta(minutes=-1)), f"jobs.advance was given -60.0 s; {FORWARD}"
    ),
    "advance: a text": (lambda jobs, add: jobs.advance("5"), f"jobs.advance was given '5'; {SECONDS}"),
    "advance: a truth": (lambda jobs, add: jobs.advance(True), f"jobs.advance was given True; {SECONDS}"),
    "advance: no number": (
        lambda jobs, add: jobs.advance(float("nan")),
        "jobs.advance was given nan; allowed are finite seconds or a timedelta",
    ),
    "advance: for ever": (
        lambda jobs, add: jobs.advance(1e20), "jobs.advance was given 1e+20 s; allowed are at most 1,000 years"
    ),
    "settle: back": (lambda jobs, add: jobs.settle(-1), f"jobs.settle was given -1 s; {FORWARD}"),
    "settle: None": (lambda jobs, add: jobs.settle(None), f"jobs.settle was given None; {SECONDS}"),
    "clock: back": (lambda jobs, add: jobs.clock.advance(-1), f"clock.advance was given -1 s; {FORWARD}"),
    "clock: into the past": (
        lambda jobs, add: jobs.clock.move_to(datetime(2000, 1, 1, tzinfo=UTC)),
        "clock.move_to was given 2000-01-01 00:00:00+00:00, which is before now, 2030-01-01 00:00:00+00:00; "
        "time only goes forward",
    ),
    "clock: a date": (
        lambda jobs, add: jobs.clock.move_to(date(2100, 1, 1)),
        "clock.move_to was given datetime.date(2100, 1, 1); allowed is a datetime",
    ),
    "of: no task": (lambda jobs, add: jobs.all.of(5), "of was given 5; allowed is a task or its registered name"),
    "fail: no such module": (
        lambda jobs, add: jobs.fail("nowhere.send", ValueError),
        "jobs.fail was given 'nowhere.send', but there is no task of that name and no module 'nowhere' can be imported",
    ),
    "fail: no such attribute": (
        lambda jobs, add: jobs.fail("misuse_shop.gateway.sned", ValueError),
        "jobs.fail was given 'misuse_shop.gateway.sned', but misuse_shop.gateway has no attribute 'sned' "
        "(did you mean 'send'?)",
    ),
    "fail: nothing callable": (
        lambda jobs, add: jobs.fail("misuse_shop.gateway.number", ValueError),
        "jobs.fail was given 'misuse_shop.gateway.number', which is 5; allowed is something callable",
    ),
    "fail: no path": (
        lambda jobs, add: jobs.fail("shop add", ValueError),
        "jobs.fail was given 'shop add', which is no registered task and no dotted path to a callable "
        "(did you mean 'shop.add'?)",
    ),
    "fail: a number": (lambda jobs, add: jobs.fail(5, ValueError), f"jobs.fail was given 5 as target; {TARGET}"),
    "fail: no exception": (
        lambda jobs, add: jobs.fail(add, "boom"),
        "jobs.fail was given 'boom' to raise; allowed is an exception or an exception class",
    ),
    "fail: an exception that needs more": (
        lambda jobs, add: jobs.fail(add, UnicodeDecodeError),
        "jobs.fail was given the class UnicodeDecodeError, which cannot be made without arguments "
        "(function takes exactly 5 arguments (0 given)); give an instance, for example UnicodeDecodeError(…)",
    ),
    "fail: never": (lambda jobs, add: jobs.fail(add, ValueError, times=0), f"times was given 0; {TIMES}"),
    "fail: after a line": (
        lambda jobs, add: jobs.fail("#paid", ValueError, after=True),
        "jobs.fail was given after=True for '#paid'; a line has no after, so name the line that follows",
    ),
    "crash: no such point": (
        lambda jobs, add: jobs.crash("#paid"),
        "jobs.crash was given '#paid', but no loaded project file has the comment # jobs: paid",
    ),
    "crash: no such file": (
        lambda jobs, add: jobs.crash("nope.py:1"), "jobs.crash was given 'nope.py:1', but there is no file 'nope.py' under .*"
    ),
    "crash: no such task": (
        lambda jobs, add: jobs.crash("shopadd"),
        "jobs.crash was given 'shopadd', which is no registered task and no dotted path to a callable "
        "(did you mean 'shop.add'?)",
    ),
    "hang: no such point": (
        lambda jobs, add: jobs.hang("#paid"),
        "jobs.hang was given '#paid', but no loaded project file has the comment # jobs: paid",
    ),
    "outage: of what": (
        lambda jobs, add: jobs.outage("redis"), "jobs.outage was given 'redis'; allowed are 'broker' and 'results'"
    ),
    "lose: no such task": (
        lambda jobs, add: jobs.lose("shop.ad"),
        "jobs.lose was given 'shop.ad' as target; allowed is a task or its registered name (did you mean 'shop.add'?)",
    ),
    "duplicate: never": (lambda jobs, add: jobs.duplicate(times=0), f"times was given 0; {TIMES}"),
    "postpone: back": (lambda jobs, add: jobs.postpone(by=-5), f"jobs.postpone was given -5 s; {FORWARD}"),
    "redeliver: no job": (
        lambda jobs, add: jobs.redeliver(None), "jobs.redeliver was given None; allowed is a job of this test"
    ),
    "shutdown: how": (
        lambda jobs, add: jobs.shutdown("now"), "jobs.shutdown was given 'now'; allowed are warm, soft, cold, kill"
    ),
    "beat: back": (lambda jobs, add: jobs.beat(-1), f"jobs.beat was given -1 s; {FORWARD}"),
    "beat: none": (lambda jobs, add: jobs.beat(5, beats=0), "jobs.beat was given beats=0; allowed is a whole number from 1"),
    "watch: a number": (
        lambda jobs, add: jobs.watch(5), "jobs.watch was given 5, int; allowed are a callable without arguments, .*"
    ),
    "watch: one pattern": (
        lambda jobs, add: jobs.watch([], ignore="paid"), "ignore='paid' is one string: give a list of patterns, ['paid']"
    ),
    "watch: no pattern": (
        lambda jobs, add: jobs.watch([], ignore=5),
        "ignore=5 is no list: give a list of patterns, ['payments.updated_at']",
    ),
    "check_idempotent: no such task": (lambda jobs, add: jobs.check_idempotent("shop.ad"), NO_TASK),
    "check_delays: no job": (
        lambda jobs, add: jobs.check_delays(None, [1]),
        "jobs.check_delays was given None; allowed is a job, as jobs.run returns it",
    ),
    "outgoing: nothing callable": (
        lambda jobs, add: jobs.outgoing("misuse_shop.gateway.number"),
        "jobs.outgoing was given 'misuse_shop.gateway.number', which is 5; allowed is something callable",
    ),
    "deliver: no schedule": (
        lambda jobs, add: jobs.deliver(add, 1, 2, schedule="thrice"), f"'thrice' is no schedule; {SCHEDULES}"
    ),
    "deliver: no retries": (
        lambda jobs, add: jobs.deliver(add, 1, 2, retries=-1),
        "jobs.deliver was given retries=-1; allowed is a whole number from 0",
    ),
    "a world in a world": (
        lambda jobs, add: in_process_worker().__enter__(),
        "an in-process worker is active already (the fixture jobs, or in_process_worker()); use that one, worlds do not nest",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_misuse_of_jobs(case, monkeypatch):
    """One sentence; no job, no fault, no time has come of it, and the next job runs."""
    monkeypatch.setitem(sys.modules, "misuse_shop", SimpleNamespace(gateway=Gateway()))
    app = Celery("shop", broker="memory://localhost/", set_as_current=False)

    @app.task(name="shop.add", shared=False)
    def add(a, b):
        return a + b

    @app.task(name="shop.running", shared=False)
    def running():
        return jobs.settle()

    misuse, said = CASES[case]
    with in_process_worker(app, start="2030-01-01T00:00:00+00:00") as jobs:
        with pytest.raises(UsageError) as caught:
            misuse(jobs, add)
        pattern = re.escape(said).replace(r"\.\*", ".*")
        assert re.fullmatch(pattern, re.sub(r"Fake(Date|Datetime)\(", r"datetime.date(", str(caught.value)))
        assert (jobs.all, jobs.faults, jobs.clock.elapsed) == ([], (), timedelta(0))
        assert jobs.run(add, 1, 2).result == 3
        assert str(jobs.run(running).error) == (
            "jobs was told to run jobs from inside the task shop.running; only test code may do that"
        )


def test_a_refused_message_is_productions_own_error(world, app):
    """What `.delay()` raises in production is raised by `jobs.run` too."""

    @app.task(shared=False)
    def keep(thing):
        """Keep nothing."""

    for publish in (keep.delay, lambda thing: world.run(keep, thing)):
        with pytest.raises(EncodeError):
            publish(object())
    assert world.all == []


OPTIONS = {
    "broker": ({"broker": "rabbit"}, "jobs_broker is 'rabbit'; allowed are auto, redis, rabbitmq, memory"),
    "name": ({"brokr": "redis"}, "there is no option 'brokr'; allowed are app, broker, schedules, max_schedules, start, ignore, "
        "idempotency_headers, source"),
    "kind": (
        {"schedules": ["thrice"]},
        "jobs_schedules was given the schedule kind 'thrice'; allowed are twice, late, crash, fail, reply-lost, overlap and all",
    ),
    "budget": ({"max_schedules": 0}, "jobs_max_schedules is 0; allowed is a whole number from 1"),
    "start": (
        {"start": "tomorrow"},
        "jobs_start is 'tomorrow'; allowed is an ISO instant, for example 2030-01-31T09:00:00+00:00",
    ),
    "start of another kind": ({"start": 5}, "jobs_start is 5; allowed is an ISO instant or a datetime"),
    "ignore": ({"ignore": [5]}, "jobs_ignore is [5]; allowed are names, as text or a sequence of texts"),
    "source": ({"source": 5}, "jobs_source is 5; allowed are names, as text or a sequence of texts"),
    "source of no place": (
        {"source": "nowhere"}, "jobs_source names 'nowhere'; allowed are paths that exist and importable modules"
    ),
    "app without a colon": ({"app": "shop"}, "jobs_app is 'shop'; allowed is \"module:attribute\", for example \"shop.celery:app\""),
    "app of no module": (
        {"app": "nowhere:app"},
        "jobs_app is 'nowhere:app', which cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
    ),
    "app of no attribute": (
        {"app": "json:app"},
        "jobs_app is 'json:app', which cannot be imported (AttributeError: module 'json' has no attribute 'app')",
    ),
    "no app": ({"app": 5}, "jobs_app is 5, which is 5 and no Celery app"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_misuse_of_options(case):
    """What was given and what is allowed; the next world opens."""
    given, said = OPTIONS[case]
    with pytest.raises(UsageError) as caught, in_process_worker(**given):
        """Never entered."""
    assert str(caught.value) == said
    with in_process_worker() as jobs:
        assert jobs.all == []
