"""Jobs that were published before the transaction around them committed."""

from pytest_jobs.explore import judge
from pytest_jobs.ignore import Ignore
from pytest_jobs.runs import Exploration, Run
from pytest_jobs.schedules import ONCE
from pytest_jobs.world import Early, World

EARLY = Early("shop.receipt", "shop.book", ("orders",))
LINE = "receipt is published before orders is committed"


def told(*worlds: World, ignore: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    """Return the failure's first line and the unused patterns, of a test with an undisturbed run and these under schedules."""
    first, *others = [Run(ONCE, "passed", world=world) for world in worlds]
    found = Exploration(first=first, runs=others)
    judgement = judge("test_book", found, worlds[0], Ignore(ignore), lambda schedule: f"pytest {schedule}", ())
    return judgement.failure.partition("\n")[0], judgement.unused


def test_found_in_any_run() -> None:
    """Undisturbed or not."""
    assert told(World({}, early=(EARLY,))) == (LINE, ())
    assert told(World({}), World({}, early=(EARLY,))) == (LINE, ())
    assert told(World({}), World({})) == ("", ())


def test_ignored() -> None:
    """By the task's name; the pattern is used then."""
    world = World({}, early=(EARLY,))
    assert told(world, ignore=("publish:shop.receipt",)) == ("", ())
    assert told(world, ignore=("publish:*",)) == ("", ())
    assert told(world, ignore=("publish:shop.other",)) == (LINE, ("publish:shop.other",))


def test_once_each_and_with_its_line() -> None:
    """The run that knows the line tells it."""
    known = Early("shop.receipt", "shop.book", ("orders",), "shop/tasks.py:12")
    worlds = World({}, early=(EARLY,)), World({}, early=(known, EARLY))
    first, *others = [Run(ONCE, "passed", world=world) for world in worlds]
    text = judge("test_book", Exploration(first, others), worlds[0], Ignore(()), str, ()).failure
    assert text.splitlines()[2:6] == [
        " shop.receipt",
        "   published by    shop.book at shop/tasks.py:12",
        "   waits for       orders",
        "",
    ]


def test_beside_another_failure() -> None:
    """What differs comes first, and the publish is told below it."""
    worlds = World({"paid": 1}, early=(EARLY,)), World({"paid": 2}, early=(EARLY,))
    first, *others = [Run(ONCE, "passed", world=world, tasks=("shop.book",)) for world in worlds]
    text = judge("test_book", Exploration(first, others), worlds[0], Ignore(()), str, ()).failure
    assert text.splitlines()[0] == "book is not idempotent at once: paid 1 -> 2"
    assert text.splitlines()[-1] == (
        "shop.book publishes shop.receipt before orders is committed: https://pytest-jobs.readthedocs.io/failures#early"
    )
