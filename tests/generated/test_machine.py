"""State machines of jobs: what they find, how it is told, and what they leave alone."""

import pytest
from celery import Celery
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

import pytest_jobs
from pytest_jobs import JobMachine, UsageError, in_process_worker
from pytest_jobs.story import Call

charged = []
app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)


@app.task(shared=False, acks_late=True)
def charge(order: int):
    charged.append(order)


@app.task(shared=False, acks_late=True)
def charge_once(order: int):
    charged[:] = sorted({*charged, order})


@app.task(shared=False)
def charge_early(order: int):
    order = int(order)
    if order not in charged:
        charged.append(order)


class Machine(JobMachine):
    """Watches what is charged."""

    tasks = (charge_once,)
    options = {"source": [__file__]}  # noqa: RUF012

    def setup(self):
        charged.clear()
        self.jobs.watch(charged, name="charged")


class Careless(Machine):
    """Charges again and again; one disturbance shows it, so every search ends with one story."""

    tasks = (charge,)
    disturb = ("redeliver",)


class Careful(Machine):
    """Charges an order once."""


def play(machine, *steps):
    """Play a story; return the text of its failure, empty when there is none."""
    state, made = machine(), []
    for name, *args in steps:
        bound = [made[arg] if name in {"redeliver", "revoke"} else arg for arg in args]
        made.append(getattr(state, name)(*bound))
    try:
        state.teardown()
    except AssertionError as error:
        return str(error)
    return ""


def check(text, expected):
    """Compare a text with the one drawn in the test."""
    assert text.splitlines() == expected.strip("\n").splitlines()


def run(machine, number=0, **chosen):
    """Run a machine as its TestCase does."""
    case = seed(number)(machine).TestCase
    case.settings = settings(case.settings, database=None, **chosen)
    test = case("runTest")
    test.setUp()
    try:
        test.runTest()
    finally:
        test.doCleanups()


ORDER = Call(charge, (7,), {})
ONCE = Call(charge_once, (7,), {})
EARLY = Call(charge_early, (7,), {})


def test_the_machine_is_a_public_name():
    """It is imported when it is first asked for, and not listed for those who look at every name."""
    assert pytest_jobs.JobMachine is JobMachine
    assert "JobMachine" in pytest_jobs.__all__
    assert "JobMachine" not in dir(pytest_jobs)


def test_a_story_is_found_shrunk_and_told():
    """The whole text: what differs, the deliveries, the steps."""
    with pytest.raises(AssertionError) as found:
        run(Careless, max_examples=100)
    text = "\n".join([str(found.value), *found.value.__notes__])
    check(
        text.replace("Falsifying example:", "Failing test case: <state machine>"),  # as older Hypotheses say
        """
Careless does not recover: charged 1 -> 2 items

            once      now
 charged    1 item    2 items
   [1]      –         0      <- added

 00:00:00  delivery 1  charge(0)  redelivered, succeeded, acked
 00:00:00  delivery 2  charge(0)  succeeded, acked

Fix:     https://pytest-jobs.readthedocs.io/failures#state
What happened is listed below, step by step; the undisturbed world (once) ran each job as soon as it was
published, and let the same time pass.
Failing test case: <state machine>
state = Careless()
job_0 = state.publish(call=charge(0))
state.redeliver(job=job_0)
state.teardown()
""",
    )


def test_a_repaired_task_survives():
    """Every disturbance, in any order."""
    run(Careful, max_examples=20)


@pytest.mark.parametrize(
    "steps",
    [
        [("deliver",), ("redeliver", 0)],
        [("crash", 1)],
        [("overlap", 1)],
        [("restart", "warm"), ("restart", "kill"), ("deliver",)],
        [("revoke", 0)],
        [("revoke", 0), ("restart", "kill"), ("deliver",)],
        [("advance", 60), ("advance", 3600)],
        [("fail", 1, False), ("fail", 1, True)],
        [("publish", Call(charge_once, (8,), {})), ("reorder",), ("deliver",), ("overlap", 2)],
        [("deliver",), ("deliver",), ("reorder",), ("crash", 30)],
    ],
    ids=str,
)
def test_a_good_task_is_never_blamed(steps):
    """Whatever happens to its deliveries."""
    assert play(Careful, ("publish", ONCE), *steps) == ""


def test_what_is_lost():
    """A message that was acknowledged before its worker was killed, with the setting that keeps it."""
    text = play(Machine, ("publish", EARLY), ("crash", 2))
    assert text.splitlines()[0].startswith("Machine does not recover: lost: acknowledged before it ran, then kill")
    assert "acks_late=True would keep it" in text


def test_losses_can_be_accepted():
    """With `ignore=["lost"]` the message comes back, as under the marker."""

    class AtMostOnce(Machine):
        tasks = (charge_early,)
        options = {**Machine.options, "ignore": ["lost"]}  # noqa: RUF012

    assert play(AtMostOnce, ("publish", EARLY), ("crash", 2)) == ""


def test_another_job_runs_in_the_middle():
    """`overlap` lets the message behind the next one run at the point."""

    class Rows(Machine):
        def setup(self):
            charged[:] = [0]
            self.jobs.watch(charged, name="charged")

    @app.task(shared=False, acks_late=True)
    def set_to(number):
        before = charged[0]
        charged[0] = max(before, number)

    steps = [("publish", Call(set_to, (1,), {})), ("publish", Call(set_to, (2,), {}))]
    assert play(Rows, *steps, ("overlap", 1), ("overlap", 2)) == ""
    text = play(Rows, *steps, ("overlap", 2))
    assert text.splitlines()[0] == "Rows does not recover: charged[0] 2 -> 1"


def test_delivered_after_its_acknowledgement():
    """A visibility timeout below the countdown brings a message back that another copy of it acknowledged."""
    slow = Celery("slow", broker="redis://localhost:6399/0", set_as_current=False)
    slow.conf.broker_transport_options = {"visibility_timeout": 600}
    slow.conf.task_acks_late = True

    @slow.task(shared=False)
    def remind(order):
        charged.append(order)

    class Slow(Machine):
        options = {"app": slow, "source": [__file__]}  # noqa: RUF012

        @rule()
        def later(self):
            self.act(remind.apply_async, (7,), countdown=3600)

    text = play(Slow, ("later",), ("deliver",), ("advance", 86_400))
    assert text.splitlines()[0] == "Slow: remind was delivered again after its acknowledgement"
    check(
        "\n".join(text.splitlines()[-3:]),
        """
Nobody asked for that delivery: the message came back while a worker still held it, and both copies ran.
The visibility timeout must be longer than the longest ETA, countdown and run.
Fix:     https://pytest-jobs.readthedocs.io/failures#after-ack
""",
    )


def test_rules_and_invariants_of_a_subclass():
    """What a rule does through `act` and `send` happens in the undisturbed world too; invariants see the jobs."""

    class Refunds(Careful):
        @rule(target=JobMachine.published, order=st.integers(0, 3))
        def order(self, order):
            return self.send(charge_once, order)

        @rule()
        def refund_all(self):
            self.act(charged.clear)

        @invariant()
        def nothing_failed(self):
            assert not self.jobs.failed

    assert play(Refunds, ("order", 1), ("advance", 60), ("refund_all",), ("order", 2), ("redeliver", 3)) == ""


def test_publishing_by_oneself_is_refused():
    """The undisturbed world would lack the job."""

    class Wrong(Careful):
        @rule()
        def order(self):
            charge_once.delay(7)

    with pytest.raises(UsageError, match=r"a rule of Wrong published .*charge_once by itself.* use self.act\(charge_once.delay, …\)"):
        play(Wrong, ("order",))


def test_irreproducible_worlds_are_told_as_that():
    """Two undisturbed worlds that differ blame no task."""
    ran = []

    class Leaky(Machine):
        def setup(self):
            ran.append(1)
            self.jobs.watch(lambda: len(ran), name="ran")

    text = play(Leaky, ("publish", ONCE), ("deliver",))
    assert text.splitlines()[0].startswith("two undisturbed runs of Leaky differ: ran")


def test_unwanted_disturbances():
    """Only those that a machine names are chosen."""

    class Calm(Careless):
        disturb = ("restart", "crash")

    run_state_machine_as_test(Calm, settings=settings(Calm.TestCase.settings, max_examples=10, database=None, derandomize=True))


def test_misuse():
    """Each misuse is one sentence."""

    class Idle(JobMachine):
        pass

    class Wild(Careless):
        disturb = ("explode",)

    class Odd(Machine):
        tasks = {charge: st.integers()}  # noqa: RUF012

    with pytest.raises(UsageError, match=r"Idle has no tasks; give it tasks = \[charge, …\]"):
        Idle()
    with pytest.raises(UsageError, match=r"Wild.disturb has 'explode'; allowed are crash, redeliver, overlap, reorder, revoke, fail, "):
        Wild()
    with pytest.raises(UsageError, match=r"Odd.tasks generates 0 for .*charge; allowed are tuples and dictionaries"):
        run(Odd, max_examples=2, derandomize=True)


def test_an_error_of_a_rule_closes_the_world():
    """The next test can open its own."""

    class Failing(Careful):
        @rule()
        def fails(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        run(Failing, max_examples=20)
    assert "state.fails()" in "\n".join(error.value.__notes__)
    with in_process_worker() as jobs:
        assert jobs.run(charge, 7).succeeded
