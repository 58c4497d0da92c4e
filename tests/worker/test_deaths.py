"""A worker that is killed at each step of a message's way, and what each leaves: runs, callbacks, the stored state."""

import sys
from types import ModuleType

import pytest
from celery import Celery, Task

URL = "redis://localhost:6399/0"
STORED = "celery.backends.base.Backend.mark_as_done"


class Case:
    """An app with one task that has a callback, and the module where it can be killed."""

    def __init__(self, module, **conf):
        self.module = module
        self.runs = []
        self.called_back = []
        self.app = Celery("killed", broker=URL, backend=URL, set_as_current=False)
        self.app.conf.update(conf)
        case = self

        class Told(Task):
            def on_success(self, *_):
                module.stored()

        @self.app.task(shared=False, name="killed.back")
        def back():
            case.called_back.append(1)

        def body(task):
            case.runs.append("redelivered" if task.request.delivery_info["redelivered"] else "first")
            module.step()
            return "done"

        self.back = back
        self.tasks = {
            late: self.app.task(shared=False, bind=True, base=Told, name=f"killed.{late}", acks_late=late == "late")(body)
            for late in ("early", "late")
        }

    def publish(self, ack, **options):
        return self.tasks[ack].apply_async(link=self.back.si(), **options)

    def outcome(self, result):
        return len(self.runs), len(self.called_back), self.app.AsyncResult(result.id).state


@pytest.fixture
def module(monkeypatch):
    """A module of the project, in which a worker can be killed."""
    made = ModuleType("killed_shop")
    made.step = lambda: None
    made.stored = lambda: None
    monkeypatch.setitem(sys.modules, "killed_shop", made)
    return made


POINTS = {
    "accepted, body not begun": ((0, 0, "PENDING"), (1, 1, "SUCCESS")),
    "inside the body": ((1, 0, "PENDING"), (2, 1, "SUCCESS")),
    "body done, callbacks not sent": ((1, 0, "PENDING"), (2, 1, "SUCCESS")),
    "callbacks sent, result not stored": ((1, 1, "PENDING"), (2, 2, "SUCCESS")),
    "result stored, not acked": ((1, 1, "SUCCESS"), (2, 2, "SUCCESS")),
}


def arm(world, case, ack, point):
    """Let the worker be killed once, at a point."""
    task = case.tasks[ack]
    return {
        "accepted, body not begun": lambda: world.crash(task),
        "inside the body": lambda: world.crash("killed_shop.step"),
        "body done, callbacks not sent": lambda: world.crash(task, after=True),
        "callbacks sent, result not stored": lambda: world.crash(STORED),
        "result stored, not acked": lambda: world.crash("killed_shop.stored"),
    }[point]()


@pytest.mark.parametrize("ack", ["early", "late"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(world, module, point, ack):
    """Runs, callbacks and state are those measured on real workers."""
    case = Case(module)
    fault = arm(world, case, ack, point)
    result = case.publish(ack)
    world.settle()
    assert case.outcome(result) == POINTS[point][ack == "late"]
    assert fault.fired == 1
    assert case.runs[1:] == ["redelivered"] * (len(case.runs) - 1)


@pytest.mark.parametrize("ack", ["early", "late"])
def test_killed_while_it_waits_in_the_worker(world, module, ack):
    """A message that was fetched and not begun is late, not lost: it comes after the visibility timeout."""
    case = Case(module)
    result = case.publish(ack, countdown=10)
    world.drain()
    world.shutdown("kill")
    world.settle()
    assert case.outcome(result) == (1, 1, "SUCCESS")
    assert case.runs == ["redelivered"]
    assert world.clock.elapsed.total_seconds() == 3600


@pytest.mark.parametrize("ack", ["early", "late"])
def test_killed_after_the_ack(world, module, ack):
    """Nothing comes again."""
    case = Case(module)
    result = case.publish(ack)
    world.settle()
    world.shutdown("kill")
    world.settle()
    assert case.outcome(result) == (1, 1, "SUCCESS")


@pytest.mark.parametrize(("point", "outcome"), [
    ("inside the body", (2, 1, "SUCCESS")),
    ("callbacks sent, result not stored", (2, 2, "SUCCESS")),
    ("result stored, not acked", (1, 1, "SUCCESS")),
])  # fmt: skip
def test_killed_and_deduplicated(world, module, point, outcome):
    """`worker_deduplicate_successful_tasks` helps only once the result is stored."""
    case = Case(module, worker_deduplicate_successful_tasks=True)
    arm(world, case, "late", point)
    result = case.publish("late")
    world.settle()
    assert case.outcome(result) == outcome


def test_killed_after_the_retry_was_published(world, module):
    """Two live messages of one id: the retry, and the original that comes again."""
    case = Case(module)
    retries = []

    @case.app.task(shared=False, bind=True, acks_late=True, name="killed.again", max_retries=1)
    def again(self):
        retries.append(self.request.retries)
        if self.request.retries < 1:
            try:
                self.retry(countdown=60)
            finally:
                module.step()

    world.crash("killed_shop.step")
    again.delay()
    world.settle()
    assert retries == [0, 1, 0, 1]
