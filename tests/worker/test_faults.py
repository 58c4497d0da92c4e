"""Failing calls and tasks, lost, doubled and late messages."""

import asyncio
import sys
import types
from datetime import timedelta

import pytest

from pytest_jobs import UsageError, in_process_worker


class TransientError(Exception):
    pass


class PermanentError(Exception):
    pass


class Gateway:
    def __init__(self):
        self.sent = []

    def send(self, user, template):
        self.sent.append((user, template))
        return "ok"

    @staticmethod
    def ping():
        return "pong"

    @classmethod
    def make(cls):
        return cls.__name__

    async def later(self):
        return "later"


@pytest.fixture
def shop():
    """A module of the application, with a gateway object."""
    module = types.ModuleType("fault_shop")
    module.gateway = Gateway()
    module.Gateway = Gateway
    module.number = 5
    sys.modules["fault_shop"] = module
    yield module
    del sys.modules["fault_shop"]


@pytest.fixture
def send_email(app, shop):
    @app.task(bind=True, max_retries=5, shared=False)
    def send_email(self, user_id, template):
        try:
            return shop.gateway.send(user_id, template)
        except TransientError as exc:
            raise self.retry(exc=exc, countdown=30 * 2**self.request.retries) from exc

    return send_email


def test_gives_up_after_five(world, send_email):
    """The issue's example: a permanent outage runs through the whole schedule."""
    world.fail("fault_shop.gateway.send", TransientError("503"))
    job = world.run(send_email, 7, "welcome")
    assert job.dead
    assert len(job.attempts) == 6
    world.check_delays(job, [30, 60, 120, 240, 480])


def test_permanent_is_not_retried(world, send_email):
    """The issue's example: one attempt."""
    world.fail("fault_shop.gateway.send", PermanentError("404"))
    assert len(world.run(send_email, 7, "welcome").attempts) == 1


def test_transient(world, send_email, shop):
    """Twice down, then up."""
    fault = world.fail("fault_shop.gateway.send", TransientError, times=2)
    job = world.run(send_email, 7, "welcome")
    assert (job.result, len(job.attempts), fault.fired) == ("ok", 3, 2)
    assert shop.gateway.sent == [(7, "welcome")]
    assert job.attempts[0].fault == "jobs.fail('fault_shop.gateway.send', TransientError, times=2)"


def test_after_lets_the_call_take_effect(world, send_email, shop):
    """A lost reply: sent, then the error."""
    world.fail("fault_shop.gateway.send", TransientError("timeout"), times=1, after=True)
    assert world.run(send_email, 7, "welcome").succeeded
    assert len(shop.gateway.sent) == 2


def test_a_task_as_target_fails_inside_autoretry(world, app):
    """A task's body raises, and its own retry options answer."""

    @app.task(shared=False, autoretry_for=(TransientError,), retry_backoff=True, retry_jitter=False)
    def flaky():
        return "done"

    world.fail(flaky, TransientError("down"), times=2)
    job = world.run(flaky)
    assert (job.result, job.delays) == ("done", [1, 2])


def test_a_task_that_fails_after_its_body(world, app):
    """The body ran, then raised."""
    ran = []

    @app.task(shared=False)
    def note():
        ran.append(1)

    world.fail(note, ValueError("late"), after=True)
    assert (world.run(note).state, ran) == ("failed", [1])


def test_injected_errors_carry_a_note(world, send_email):
    """Nobody takes an injected error for a real one."""
    world.fail("fault_shop.gateway.send", PermanentError("404"))
    assert world.run(send_email, 7, "x").error.__notes__ == [
        "injected by jobs.fail('fault_shop.gateway.send', PermanentError('404'))"
    ]


@pytest.mark.parametrize("name", ["ping", "make"])
def test_static_and_class_methods(world, app, shop, name):
    """They fail, and are themselves again afterwards."""
    kept = vars(Gateway)[name]

    @app.task(shared=False)
    def call():
        return getattr(shop.Gateway, name)()

    fault = world.fail(f"fault_shop.Gateway.{name}", ValueError("no"), times=1)
    assert world.run(call).failed
    assert world.run(call).succeeded
    assert fault.fired == 1
    world._session.faults.close()
    assert vars(Gateway)[name] is kept


def test_coroutine_functions(world, app, shop):
    """An async call raises when it is awaited."""

    @app.task(shared=False)
    def call():
        return asyncio.run(shop.gateway.later())

    world.fail("fault_shop.gateway.later", ValueError("no"), times=1)
    assert isinstance(world.run(call).error, ValueError)
    assert world.run(call).result == "later"


def test_test_code_is_not_hit(world, send_email, shop):
    """A fault strikes only while a job runs."""
    with world.fail("fault_shop.gateway.send", PermanentError("404")):
        assert shop.gateway.send(1, "x") == "ok"
        world.run(send_email, 7, "x")


def test_a_block_limits_a_fault(world, send_email):
    """After its block a fault does not strike."""
    with world.fail("fault_shop.gateway.send", PermanentError("404")) as fault:
        assert world.run(send_email, 7, "x").failed
    assert world.run(send_email, 7, "x").succeeded
    assert (fault.fired, fault.reached_late) == (1, 1)


def test_everything_is_put_back(send_email, shop):
    """The attribute is itself again."""
    with in_process_worker() as jobs:
        jobs.fail("fault_shop.gateway.send", PermanentError("404"))
        jobs.run(send_email, 7, "x")
    assert "send" not in vars(shop.gateway)


def test_a_fault_that_never_fires_fails(send_email):
    """Silence would be a false pass."""
    never = pytest.raises(AssertionError, match=r"jobs\.fail\('fault_shop\.gateway\.ping', .*never fired")
    with never, in_process_worker() as jobs:
        jobs.fail("fault_shop.gateway.ping", PermanentError("404"))
        jobs.run(send_email, 7, "x")


@pytest.mark.parametrize(
    ("target", "exc", "says"),
    [
        ("nowhere.send", ValueError, "no module 'nowhere'"),
        ("fault_shop.gatewey.send", ValueError, "has no attribute 'gatewey' (did you mean 'gateway' or 'Gateway'?)"),
        ("fault_shop.gateway.sned", ValueError, "has no attribute 'sned' (did you mean 'send'?)"),
        ("fault_shop.number", ValueError, "allowed is something callable"),
        ("sendemail", ValueError, "no registered task"),
        (5, ValueError, "was given 5 as target"),
        ("fault_shop.gateway.send", "ValueError", "allowed is an exception"),
        ("fault_shop.gateway.send", int, "allowed is an exception"),
        ("fault_shop.gateway.send", UnicodeDecodeError, "cannot be made without arguments"),
    ],
)
def test_misuse(world, shop, target, exc, says):
    """One clear sentence: what was given, what is allowed."""
    with pytest.raises(UsageError) as caught:
        world.fail(target, exc)
    assert says in str(caught.value)
    assert world.faults == ()


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "2"])
def test_times_is_checked(world, shop, times):
    """So is how often."""
    with pytest.raises(UsageError, match="allowed is a whole number from 1"):
        world.fail("fault_shop.gateway.send", ValueError, times=times)


def test_faults_of_one_call_strike_in_turn(world, send_email, shop):
    """First those that strike so many times, as they were armed; what lasts comes after them, the last of it first."""
    path = "fault_shop.gateway.send"
    lasting = world.fail(path, PermanentError("410"))
    killed = world.crash(path)
    twice = world.fail(path, TransientError("503"), times=2)
    with world.fail(path, PermanentError("404")) as last:
        assert world.run(send_email, 7, "x").lost
        job = world.run(send_email, 7, "x")
        assert [repr(attempt.error) for attempt in job.attempts] == [
            "TransientError('503')", "TransientError('503')", "PermanentError('404')"
        ]  # fmt: skip
    assert str(world.run(send_email, 7, "x").error) == "410"
    assert [fault.fired for fault in (lasting, killed, twice, last)] == [1, 1, 2, 1]


def test_a_disarmed_fault_lets_the_next_one_strike(world, send_email, shop):
    """It has strikes left, and nobody waits for them."""
    with world.fail("fault_shop.gateway.send", TransientError("503"), times=3):
        send_email.delay(7, "x")
        world.drain()
    world.fail("fault_shop.gateway.send", PermanentError("404"), times=1)
    world.settle()
    assert str(world.all.one.error) == "404"


def test_lose(world, send_email, shop):
    """A lost message never arrives; its job is lost."""
    fault = world.lose(send_email)
    assert world.run(send_email, 7, "x").lost
    assert (shop.gateway.sent, fault.fired) == ([], 1)
    assert world.run(send_email, 8, "x").succeeded


def test_duplicate(world, send_email, shop):
    """A doubled message runs twice, the second time marked."""
    world.duplicate()
    job = world.run(send_email, 7, "x")
    assert [attempt.redelivered for attempt in job.attempts] == [False, True]
    assert len(shop.gateway.sent) == 2


def test_postpone(world, send_email):
    """A postponed message comes later."""
    world.postpone(send_email, by=timedelta(hours=2))
    job = world.run(send_email, 7, "x")
    assert job.attempts[0].started_at - job.published_at == timedelta(hours=2)


def test_negative_postpone(world, send_email):
    """Time only goes forward."""
    with pytest.raises(UsageError, match="time only goes forward"):
        world.postpone(send_email, by=-5)


def test_faults_print(world, send_email):
    """Every plan is data that prints."""
    world.fail("fault_shop.gateway.send", TransientError("503"), times=1)
    world.run(send_email, 7, "x")
    assert repr(world.faults) == (
        "(<jobs.fail('fault_shop.gateway.send', TransientError('503'), times=1): fired once>,)"
    )


def test_the_log_of_a_failing_task_shows_the_project(world, app, shop, caplog):
    """Of our own files one line stands between the worker and the body, none below it."""

    @app.task(shared=False)
    def ping():
        shop.gateway.send(1, "x")

    world.fail("fault_shop.gateway.send", ValueError("refused"))
    assert world.run(ping).failed
    frames = [line for line in caplog.text.splitlines() if line.lstrip().startswith("File ")]
    assert [line.rpartition("in ")[2] for line in frames] == ["trace_task", "run", "ping"]


@pytest.fixture
def pay(app):
    """A task of two steps; between them stands a named point."""

    @app.task(bind=True, shared=False, acks_late=True, autoretry_for=(TransientError,), soft_time_limit=60)
    def pay(self, steps):
        steps = LEDGER.setdefault(self.request.id, [])
        steps.append("charged")
        steps.append("booked")  # jobs: booked

    LEDGER.clear()
    return pay


LEDGER = {}


def test_a_named_point_fails_hangs_and_is_crashed_at(world, pay):
    """The line that carries the name does not run; what came before it stays."""
    world.fail("#booked", TransientError("503"), times=1)
    failed = world.run(pay, [])
    assert ([attempt.outcome for attempt in failed.attempts], failed.delays) == (["retried", "succeeded"], (180.0,))
    assert LEDGER[failed.id] == ["charged", "charged", "booked"]
    assert failed.attempts[0].fault == "jobs.fail('#booked', TransientError('503'), times=1)"
    world.hang("#booked")
    hung = world.run(pay, [])
    assert (type(hung.error).__name__, LEDGER[hung.id]) == ("SoftTimeLimitExceeded", ["charged"])
    world.crash("#booked")
    killed = world.run(pay, [])
    assert LEDGER[killed.id] == ["charged", "charged", "booked"]
    assert [attempt.outcome for attempt in killed.attempts] == ["killed", "succeeded"]


def test_two_faults_at_one_line(world, pay):
    """Each strikes in its turn."""
    line = f"tests/worker/test_faults.py:{pay.run.__wrapped__.__code__.co_firstlineno + 4}"
    world.fail(line, TransientError("first"), times=1)
    world.fail(line, TransientError("second"), times=2)
    job = world.run(pay, [])
    assert [str(attempt.error) for attempt in job.attempts[:3]] == ["first", "second", "second"]
    assert job.succeeded
