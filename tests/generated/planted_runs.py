"""Runs the tests that find the planted bugs, outside of pytest, with a seed."""

from dataclasses import dataclass
from functools import partial

from hypothesis import HealthCheck, Phase, seed, settings
from planted_bugs import BUGS, OPTIONS, shop

from pytest_jobs import in_process_worker
from pytest_jobs.story import Call

PHASES = (Phase.generate, Phase.shrink)


@dataclass
class Hunt:
    """How the hunt for one bug ended.

    Attributes:
        examples: How many examples ran until it was found.
        story: The steps or arguments it was shrunk to, empty when it was not found.
        minimal: Whether that is the documented story.
        text: The failure's whole text, with what Hypothesis adds.
    """

    examples: int
    story: tuple[str, ...] = ()
    minimal: bool = False
    text: str = ""


class Counting:
    """Counts the examples until the first one that failed."""

    def __init__(self, opened):
        self.opened = opened
        self.ran = 0

    def __call__(self):
        self.ran += 1
        self.opened()


def hunt(name, number, examples, phases=PHASES):
    """Look for one bug."""
    shop.repaired = False
    ran, error = run(name, number, examples, phases)
    if error is None:
        return Hunt(ran)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    story = tuple(steps(text))
    return Hunt(ran, story, story == BUGS[name][1], text)


def repaired(name, number, examples):
    """Run the repaired twin; return how many examples ran and what was wrong."""
    shop.repaired = True
    try:
        ran, error = run(name, number, examples)
    finally:
        shop.repaired = False
    return ran, "" if error is None else "\n".join([str(error), *getattr(error, "__notes__", ())])


def tell(name, story):
    """Let a machine go through a story, given as it is printed; return the first line of what is wrong."""
    machine = BUGS[name][0]
    with machine._opened():
        state = machine()
        scope = {"state": state, **{task.name.rpartition(".")[2]: partial(call, task) for task in machine.tasks}}
        for line in story:
            exec(line, scope)  # noqa: S102
        try:
            state.teardown()
        except AssertionError as error:
            return str(error).partition("\n")[0]
    return ""


def call(task, *args):
    """Make what a machine publishes."""
    return Call(task, args, {})


def run(name, number, examples, phases=PHASES):
    """Run one test; return the number of examples until it failed, or of all, and the error."""
    test = BUGS[name][0]
    chosen = {"database": None, "max_examples": examples, "deadline": None, "phases": phases}
    chosen["suppress_health_check"] = list(HealthCheck)
    failed = []
    counting = Counting(shop.open)
    try:
        if isinstance(test, type):
            run_machine(test, number, chosen, counting, failed)
        else:
            with in_process_worker(**OPTIONS) as jobs:
                run_given(test(jobs), number, chosen, counting, failed)
    except AssertionError as error:
        return failed[0], error
    return counting.ran, None


def run_given(test, number, chosen, counting, failed):
    """Run a `@given` test."""
    inner = test.hypothesis.inner_test

    def counted(*args, **kwargs):
        counting.ran += 1
        try:
            inner(*args, **kwargs)
        except AssertionError:
            failed.append(counting.ran)
            raise

    test.hypothesis.inner_test = counted
    seed(number)(settings(**chosen)(test))()


def run_machine(machine, number, chosen, counting, failed):
    """Run a state machine as unittest does."""

    class Counted(machine):
        def __init__(self):
            counting.ran += 1
            super().__init__()

        def teardown(self):
            try:
                super().teardown()
            except AssertionError:
                failed.append(counting.ran)
                raise

    Counted.__name__ = machine.__name__
    case = seed(number)(Counted).TestCase
    case.settings = settings(case.settings, **chosen)
    test = case("runTest")
    test.setUp()
    try:
        test.runTest()
    finally:
        test.doCleanups()


def steps(text):
    """Return the steps of a story, or the arguments of an example, as Hypothesis prints them."""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith(("state.", "job_")) and line != "state.teardown()":
            yield line
        elif line.startswith(("args=", "schedule=")):
            yield line.rstrip(",")
