"""Schedules as values: their ids, and which of them follow from a run."""

import pytest

from pytest_jobs.errors import UsageError
from pytest_jobs.explore import explore
from pytest_jobs.records import Effect
from pytest_jobs.route import Point
from pytest_jobs.runs import Run
from pytest_jobs.schedules import Schedule, chained, parse, planned
from pytest_jobs.world import World


@pytest.mark.parametrize("text", ["once", "twice", "late@3", "crash@7", "crash@7+crash@12", "fail@1+reply-lost@2+twice", "fail@3-", "fail@3-:ConnectionError+crash@9"])
def test_an_id_reads_back(text):
    """The text of a schedule is its id."""
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["", "crash", "twice@2", "once+twice", "crash@0", "crash@3+", "boom@1", "crash@1 twice", "crash@1-"])
def test_what_is_no_schedule_is_refused(text):
    """The sentence says what is allowed."""
    with pytest.raises(UsageError, match="is no schedule; allowed are once, twice, late@N, crash@N, fail@N, reply-lost@N, overlap@N"):
        parse(text)


def test_overlap_is_planned_only_where_no_transaction_is_open():
    """A nested delivery would see uncommitted rows."""
    assert planned("overlap", 1, [(1, False), (2, True), (3, False)], []) == [Schedule("overlap", 1), Schedule("overlap", 3)]


def _world(*labels):
    effects = tuple(Effect("redis", f"redis:{label}", label, safe=True) for label in labels)
    return World({}, effects)


def _explore(answers, kinds=("crash",), limit=100, remembered=()):
    """Explore a test whose runs are given by schedule id; return the ids in the order they ran."""
    ran = []

    def run(schedule, wanted, record):
        ran.append((str(schedule), record))
        return answers(schedule, record)

    return explore(kinds, run, limit, lambda done, of: None, None, remembered), ran


def test_a_recovery_that_does_something_new_is_disturbed_too():
    """It is run once more to note its points, then killed there."""

    def answers(schedule, record):
        if str(schedule) == "once":
            return Run(schedule, "passed", world=_world("SET a"), deliveries=1, points=(Point(1, "x"), Point(2, "y")))
        if str(schedule) == "crash@2":
            return Run(schedule, "passed", world=_world("SET a", "DEL b"), deliveries=2, points=(Point(5, "z"),) if record else ())
        return Run(schedule, "passed", world=_world("SET a"), deliveries=2)

    found, ran = _explore(answers)
    assert ran == [("once", True), ("crash@1", False), ("crash@2", False), ("crash@2", True), ("crash@2+crash@5", False)]
    assert found.left_out == 0


def test_a_recovery_that_fails_is_left_alone():
    """The run shows by itself what is wrong."""

    def answers(schedule, record):
        recovered = str(schedule) == "crash@2"
        world = _world("SET a", "DEL b") if recovered else _world("SET a")
        points = (Point(1, "x"), Point(2, "y"))
        return Run(schedule, "failed" if recovered else "passed", world=world, deliveries=1, points=points)

    assert _explore(answers)[1] == [("once", True), ("crash@1", False), ("crash@2", False)]


def test_the_budget_counts_what_it_cuts():
    """Nothing is left out silently."""
    points = tuple(Point(number, "") for number in range(1, 11))
    found, ran = _explore(lambda schedule, record: Run(schedule, "passed", world=_world(), deliveries=1, points=points), limit=4)
    assert (len(ran), found.left_out) == (5, 6)


def test_what_failed_last_time_runs_first_and_is_told_in_its_place():
    """The smallest failing schedule is told first, whatever ran first."""
    points = tuple(Point(number, "") for number in range(1, 4))
    found, ran = _explore(
        lambda schedule, record: Run(schedule, "passed", world=_world(), deliveries=1, points=points), remembered=("crash@3",)
    )
    assert [schedule for schedule, _ in ran] == ["once", "crash@3", "crash@1", "crash@2"]
    assert [str(run.schedule) for run in found.runs] == ["crash@1", "crash@2", "crash@3"]


def test_chains_are_flat():
    """A chain of chains is one chain."""
    assert str(chained([Schedule("crash", 1), Schedule("twice")])) == "crash@1+twice"


def test_a_failure_that_is_retried_comes_back_in_every_retry():
    """Once for each call and the tasks that retried, after everything else; where nothing was retried, not at all."""

    def answers(schedule, record):
        retried = (("charge", frozenset({"retry charge"})),) if schedule.has("fail") and schedule.at != 2 else ()
        hit = f"POST /{'a' if schedule.at == 1 else 'b'}/{schedule.at}"
        return Run(schedule, "passed", world=_world(), deliveries=1, outgoing=(1, 2, 3, 4), blamed=retried, hit=hit)

    _, ran = _explore(answers, ("fail",))
    assert [each for each, _ in ran] == ["once", "fail@1", "fail@2", "fail@3", "fail@4", "fail@1-", "fail@3-"]


def test_the_budget_is_spent_on_kinds_and_tasks_in_turn():
    """A cut takes from all alike; within one kind of one task the order is that of the run."""
    points = (Point(1, "a", task="pay"), Point(2, "b", task="pay"), Point(3, "c", task="pay"), Point(9, "d", task="mail"))

    def answers(schedule, record):
        return Run(schedule, "passed", world=_world(), deliveries=2, points=points, outgoing=(1, 2, 7), callers=("pay", "pay", "mail"))

    found, ran = _explore(answers, ("crash", "fail", "twice"), limit=6)
    assert [each for each, _ in ran] == ["once", "crash@1", "crash@9", "fail@1", "fail@7", "twice", "crash@2"]
    assert found.left_out == 2


def test_a_chained_schedule_that_failed_last_time_runs_first():
    """It is tried once, although its first part leads to it again; one that strikes nothing any more is forgotten."""

    def answers(schedule, record):
        new = _world("DEL b") if str(schedule) == "crash@2" else _world()
        points = (Point(5, "z"),) if str(schedule) == "crash@2" and record else (Point(1, "x"), Point(2, "y"))
        return Run(schedule, "passed", world=new, deliveries=1, points=points, struck=str(schedule) != "crash@1+crash@7")

    found, ran = _explore(answers, remembered=("crash@2+crash@5", "crash@1+crash@7", "late@1", "nonsense"))
    assert [each for each, _ in ran] == ["once", "crash@2+crash@5", "crash@1+crash@7", "crash@1", "crash@2", "crash@2"]
    assert [str(one.schedule) for one in found.runs] == ["crash@1", "crash@2", "crash@2+crash@5"]
    assert (found.missed, found.left_out) == ([], 0)
