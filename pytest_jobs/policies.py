"""What the runs of one test say of its tasks' retry policies: told, and no failure, as a policy may mean it."""

import re
from collections.abc import Iterable

from pytest_jobs.texts import short
from pytest_jobs.world import Outcome, World

__all__ = ["retry_notes"]

ERROR = re.compile(r"[\w.]+")
# Bugs and bad data: the next attempt meets the same.
HOPELESS = frozenset({
    "AssertionError", "AttributeError", "ImportError", "IndexError", "KeyError", "ModuleNotFoundError", "NameError", "NotImplementedError",
    "RecursionError", "SyntaxError", "TypeError", "UnboundLocalError", "UnicodeDecodeError", "UnicodeEncodeError", "ValueError", "ZeroDivisionError",
})  # fmt: skip
RETRIED = "retried"


def retry_notes(own: World, others: Iterable[tuple[str, World]]) -> tuple[str, ...]:
    """Say which transient errors a task does not retry although it retries others, and which hopeless ones it does.

    Args:
        own: The world of the undisturbed run.
        others: The worlds of the others, each with what its schedule let fail.
    """
    worlds = [*others]
    retrying = {outcome.task for _, world in worlds for outcome in world.outcomes if any(kind == RETRIED for kind, _ in outcome.attempts)}
    notes: dict[str, list[str]] = {}
    for hit, world in worlds:
        for outcome in world.outcomes:
            error = _given_up_at_once(outcome)
            if hit and error and outcome.task in retrying:
                places = notes.setdefault(f"{short(outcome.task)} is not retried after {error}, as it is after other errors", [])
                places += [hit] if hit not in places else []
    said = [f"{note}: {', '.join(places[:3])}{f' and {len(places) - 3} more' if len(places) > 3 else ''}" for note, places in notes.items()]
    said += [
        f"{short(outcome.task)} is retried after {error}, which no retry repairs"
        for outcome in own.outcomes
        if (error := _hopeless(outcome))
    ]
    return tuple(dict.fromkeys(said))


def _given_up_at_once(outcome: Outcome) -> str:
    """Return the class of the injected error with which a job failed at its first attempt."""
    return _error(outcome.injected[0]) if outcome.gave_up and len(outcome.injected) == 1 else ""


def _hopeless(outcome: Outcome) -> str:
    """Return the class of an error of its own that a job was retried after."""
    errors = [_error(value) for kind, value in outcome.attempts if kind == RETRIED]
    return next((error for error in errors if error in HOPELESS), "")


def _error(value: object) -> str:
    found = ERROR.match(value) if isinstance(value, str) else None
    return found[0].rpartition(".")[2] if found is not None else ""
