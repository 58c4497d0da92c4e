"""Whether a job did what a test expects of it, and what comes nearest to what it did not do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from pytest_jobs.errors import UsageError
from pytest_jobs.records import Attempt, Effect

__all__ = ["Done", "Pair", "Wanted", "align", "amount", "done_by", "is_right", "nearest", "unlike", "wanted_of"]

Wanted = str | Effect
NEAREST = 3
COMPARED = 200
ALWAYS = ("kind", "target", "label")
IF_GIVEN = ("key", "detail", "where")


@dataclass(frozen=True, slots=True)
class Done:
    """One effect of a job.

    Attributes:
        attempt: The number of the attempt that had it.
        effect: The effect.
        again: Whether it came before, with the same idempotency key.
    """

    attempt: int
    effect: Effect
    again: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """What a test expects beside what a job did, in order.

    Attributes:
        wanted: What is expected here, None when nothing is.
        done: What was done here, None when nothing was.
    """

    wanted: Wanted | None
    done: Done | None


def wanted_of(given: Any) -> tuple[Wanted, ...]:
    """Return what a test expects.

    Raises:
        UsageError: When it is not a list, or has something else than texts and effects.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise UsageError(
            f"check_effects expects a list of effects, such as ['INSERT payments', 'POST https://pay.example/*'], not {given!r}"
        )
    for entry in given:
        if not isinstance(entry, Effect) and not (isinstance(entry, str) and entry):
            raise UsageError(
                f"check_effects expects in its list the labels of effects, as jobs.effects has them, patterns for them "
                f"('POST *'), or an Effect, not {entry!r}"
            )
    return tuple(given)


def done_by(attempts: Iterable[Attempt]) -> tuple[Done, ...]:
    """Return every effect of a job's attempts, in order."""
    found, keys = [], set()
    for attempt in attempts:
        for effect in attempt.effects:
            once = (effect.kind, effect.target, effect.key)
            found.append(Done(attempt.number, effect, effect.key is not None and once in keys))
            keys.add(once)
    return tuple(found)


def matches(wanted: Wanted, effect: Effect) -> bool:
    """Whether an effect is one that is expected."""
    if isinstance(wanted, Effect):
        return not unlike(wanted, effect)
    return any(name == wanted or fnmatchcase(name, wanted) for name in _names(effect))


def unlike(wanted: Wanted, effect: Effect) -> tuple[str, ...]:
    """Return the names of the attributes in which an effect is not the one that is expected; none for a text."""
    if not isinstance(wanted, Effect):
        return ()
    fields = (*ALWAYS, *(name for name in IF_GIVEN if getattr(wanted, name)))
    return tuple(name for name in fields if getattr(wanted, name) != getattr(effect, name))


def align(wanted: Sequence[Wanted], done: Sequence[Done]) -> tuple[Pair, ...]:
    """Put what is expected and what was done side by side; effects that nothing in the list speaks of are left out.

    Nothing is expected by an empty list, so that it speaks of every effect. What came again with the same idempotency
    key need not be expected again.
    """
    named = [one for one in done if not wanted or any(matches(each, one.effect) for each in wanted)]
    like = [[matches(each, one.effect) for one in named] for each in wanted]
    longest = [[0] * (len(named) + 1) for _ in range(len(wanted) + 1)]
    for i in range(len(wanted) - 1, -1, -1):
        for j in range(len(named) - 1, -1, -1):
            longest[i][j] = max(longest[i + 1][j], longest[i][j + 1], longest[i + 1][j + 1] + like[i][j])
    pairs, i, j = [], 0, 0
    while i < len(wanted) or j < len(named):
        if i < len(wanted) and j < len(named) and like[i][j] and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append(Pair(wanted[i], named[j]))
            i, j = i + 1, j + 1
        elif j == len(named) or (i < len(wanted) and longest[i][j] == longest[i + 1][j]):
            pairs.append(Pair(wanted[i], None))
            i += 1
        else:
            if not named[j].again:
                pairs.append(Pair(None, named[j]))
            j += 1
    return tuple(pairs)


def is_right(pairs: Sequence[Pair]) -> bool:
    """Whether all that was expected was done, in this order and as often."""
    return all(pair.wanted is not None and pair.done is not None for pair in pairs)


def amount(pair: Pair, pairs: Sequence[Pair]) -> tuple[Wanted | None, int, int]:
    """Return the expected entry that a wrong pair is about, how often it is expected, and how often it was done.

    Args:
        pair: A pair that has only one side.
        pairs: All of them.
    """
    entries = [each.wanted for each in pairs if each.wanted is not None]
    about = pair.wanted
    if about is None and pair.done is not None:
        effect = pair.done.effect
        about = next((each for each in entries if matches(each, effect)), None)
    made = [each.done for each in pairs if each.done is not None]
    if about is None:
        return None, len(entries), len(made)
    return about, entries.count(about), sum(matches(about, each.effect) for each in made)


def nearest(wanted: Wanted, done: Sequence[Done], most: int = NEAREST) -> tuple[Done, ...]:
    """Return the effects that are most like an expected one, each kind of them once."""
    distinct: dict[Any, Done] = {}
    for each in done:
        effect = each.effect
        same = (effect.label, effect.target)
        distinct.setdefault((*same, effect.key, effect.detail) if isinstance(wanted, Effect) else same, each)
    return tuple(sorted(distinct.values(), key=lambda each: _distance(wanted, each.effect))[:most])


def _distance(wanted: Wanted, effect: Effect) -> float:
    text = wanted.label if isinstance(wanted, Effect) else wanted
    ratio = max(SequenceMatcher(None, text[:COMPARED], name[:COMPARED]).ratio() for name in _names(effect))
    return len(unlike(wanted, effect)) - ratio


def _names(effect: Effect) -> tuple[str, ...]:
    # The target of a commit is the first table that it is about, and nobody who names a table means the commit.
    return (effect.label,) if effect.label == "COMMIT" else (effect.label, effect.target)
