"""How a failing story of a state machine shrinks: by its steps, before Hypothesis makes the values small."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice
from typing import Any

from hypothesis import stateful
from hypothesis.internal.conjecture import data as examples
from hypothesis.internal.conjecture import engine, shrinker

from pytest_jobs.search import Search, Step

__all__ = ["Latest", "stories"]

# How many shapes are tried until a story counts as the shortest.
MOST = 400
SHRINKER: Any = shrinker.Shrinker
# Hypothesis offers no way to shrink what it does not know; these have been there since its examples are sequences of choices.
NEEDED = (
    (SHRINKER, ("initial_coarse_reduction", "greedy_shrink", "incorporate_test_data")),
    (engine.ConjectureRunner, ("new_conjecture_data", "cached_test_function", "test_function")),
    (examples.ConjectureData, ("choices", "as_result")),
    (stateful, ("STATE_MACHINE_RUN_LABEL",)),
)


class Latest:
    """Owns what is known of the latest example of a machine.

    Attributes:
        search: How its steps were chosen.
        failing: Whether it is one that shrinks.
    """

    def __init__(self) -> None:
        self.search: Search | None = None
        self.failing = False


@contextmanager
def stories() -> Iterator[Latest]:
    """Let Hypothesis shrink, as long as the block runs, stories by their steps too.

    It knows choices only. A story without one of its jobs needs other choices wherever later steps name a job, and often
    there is none between a long story and a short one of another shape that fails without several changes at once.
    """
    latest = Latest()
    if not all(hasattr(owner, name) for owner, names in NEEDED for name in names):
        yield latest
        return
    coarse, greedy = SHRINKER.initial_coarse_reduction, SHRINKER.greedy_shrink

    def steps_first(shrinker: Any) -> None:
        latest.failing = True
        Steps(shrinker, latest).shrink()
        coarse(shrinker)

    def steps_again(shrinker: Any) -> None:
        before = None
        while shrinker.shrink_target is not before:
            greedy(shrinker)
            before = shrinker.shrink_target
            Steps(shrinker, latest).shrink()

    SHRINKER.initial_coarse_reduction, SHRINKER.greedy_shrink = steps_first, steps_again
    try:
        yield latest
    finally:
        SHRINKER.initial_coarse_reduction, SHRINKER.greedy_shrink = coarse, greedy


@dataclass(frozen=True, slots=True)
class Told:
    """One step of a failing story.

    Attributes:
        step: How it was chosen.
        made: The names of what it made.
        values: The choices of its other arguments.
    """

    step: Step
    made: tuple[str, ...]
    values: tuple[Any, ...]


Story = tuple[Told, ...]


class Steps:
    """Owns the search for fewer steps that fail."""

    def __init__(self, shrinker: Any, latest: Latest) -> None:
        self._shrinker = shrinker
        self._latest = latest
        self._begin: tuple[Any, ...] = ()
        self._unmixed: tuple[int, ...] = ()
        self._given: tuple[str, ...] = ()
        self._bare: Sequence[Step] = ()

    def shrink(self) -> None:
        """Leave out steps until none can go, neither alone nor with a change of the others."""
        story = self._told()
        if story and self._fails(story):
            story = self._told()
        while story:
            story = self._shorter(story)
            if not any(map(self._fails, chain(islice(dict.fromkeys(self._variants(story)), MOST), _lowered(story)))):
                break
            story = self._told()
        # What Hypothesis tries next is counted from here.
        self._shrinker.calls_at_last_shrink = self._shrinker.calls

    def _shorter(self, story: Story) -> Story:
        size = len(story)
        while size:
            end = len(story)
            while end > 0:
                begin = max(end - size, 0)
                if self._fails(self._sound((*story[:begin], *story[end:]), mend=False)):
                    story = self._told()
                end = min(begin, len(story))
            size //= 2
        return story

    def _variants(self, story: Story) -> Iterator[Story]:
        """Leave out a few steps or all of a rule, and change what is left where that costs nothing: the order, which job a
        step names, and the values, all like the one of them that may be needed."""
        for shorter in chain(_shortened(story), self._simpler(story)):
            for ordered in (shorter, tuple(sorted(shorter, key=lambda told: not told.step.makes))):
                sound = self._sound(ordered, mend=True)
                for valued in _valued(sound):
                    yield valued
                    yield from self._renamed(valued)

    def _simpler(self, story: Story) -> Iterator[Story]:
        for number, told in enumerate(story):
            for bare in self._bare:
                if bare.place < told.step.place and not told.step.makes:
                    yield (*story[:number], Told(bare, (), ()), *story[number + 1 :])

    def _renamed(self, story: Story) -> Iterator[Story]:
        for number, known in enumerate(self._known(story)):
            told = story[number]
            for place, reference in enumerate(told.step.references):
                for name in _of(reference.bundle, known):
                    if name != reference.name:
                        yield (*story[:number], _naming(told, place, name), *story[number + 1 :])

    def _sound(self, story: Story, *, mend: bool) -> Story:
        """Let a step that names what is not there name the newest that is, or go."""
        known, kept = [*self._given], list[Told]()
        for told in story:
            for place, reference in enumerate(told.step.references):
                there = _of(reference.bundle, known)
                if reference.name not in there:
                    if not (mend and there):
                        break
                    told = _naming(told, place, there[-1])
            else:
                kept.append(told)
                known += told.made
        return tuple(kept)

    def _known(self, story: Story) -> Iterator[Sequence[str]]:
        """Return the names that there are before each step."""
        known = [*self._given]
        for told in story:
            yield tuple(known)
            known += told.made

    def _told(self) -> Story:
        """Run the smallest story so far again, to know how its steps were chosen."""
        engine = self._shrinker.engine
        data = engine.new_conjecture_data(self._shrinker.shrink_target.choices)
        engine.test_function(data)
        search = self._latest.search
        if data.status is not examples.Status.INTERESTING or search is None or not search.steps:
            return ()
        choices = tuple(data.choices)
        starts = [span.start for span in data.spans if span.label == stateful.STATE_MACHINE_RUN_LABEL]
        # The last one is where the story stops, unless it stops with an error.
        ends = [*starts[1:], len(choices)]
        if ends[-1] - starts[-1] == 1:
            starts.pop()
        first = len(starts) - len(search.steps)
        self._begin, self._unmixed, self._bare = choices[: starts[first]], tuple(search.unmixed), search.bare
        known = [*(step.known for step in search.steps), len(search.names)]
        self._given = tuple(search.names[: known[0]])
        return tuple(
            Told(step, tuple(search.names[before:after]), choices[start + 1 + step.head : end])
            for step, before, after, start, end in zip(
                search.steps, known, known[1:], starts[first:], ends[first:], strict=False
            )
        )

    def _fails(self, story: Story) -> bool:
        choices = [*self._begin]
        for number, known in enumerate(self._known(story)):
            told = story[number]
            choices += [False, *([] if number else self._unmixed), told.step.place + 1]
            for reference in told.step.references:
                there = _of(reference.bundle, known)
                choices += [len(there) - there.index(reference.name)] if len(there) > 1 else []
            choices += told.values
        before = self._shrinker.shrink_target
        if len(choices) > len(before.choices):
            return False
        self._shrinker.incorporate_test_data(self._shrinker.engine.cached_test_function([*choices, True]))
        return self._shrinker.shrink_target is not before


def _of(bundle: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if name.rpartition("_")[0] == bundle]


def _naming(told: Told, place: int, name: str) -> Told:
    references = [*told.step.references]
    references[place] = replace(references[place], name=name)
    return replace(told, step=replace(told.step, references=tuple(references)))


def _shortened(story: Story) -> Iterator[Story]:
    numbers = range(len(story))
    rules = dict.fromkeys(told.step.rule for told in story)
    alike = [tuple(number for number in numbers if story[number].step.rule == rule) for rule in rules]
    for left_out in dict.fromkeys([*alike, *combinations(numbers, 1), *combinations(numbers, 2)]):
        yield tuple(told for number, told in enumerate(story) if number not in left_out)


def _valued(story: Story) -> Iterator[Story]:
    yield story
    for rule, values in dict.fromkeys((told.step.rule, told.values) for told in story if told.values):
        yield tuple(replace(told, values=values) if told.step.rule == rule else told for told in story)


def _lowered(story: Story) -> Iterator[Story]:
    """Lower a number that several steps have in common: Hypothesis does so with all of one value, whatever they mean."""
    shared = Counter(place for told in story for place in _numbers(told))
    for rule, position, number in (place for place, count in shared.items() if count > 1):
        for lower in dict.fromkeys((0, 1, number // 2, number - 1)):
            if 0 <= lower < number:
                yield tuple(
                    replace(told, values=(*told.values[:position], lower, *told.values[position + 1 :]))
                    if (rule, position, number) in _numbers(told)
                    else told
                    for told in story
                )


def _numbers(told: Told) -> list[tuple[str, int, int]]:
    return [(told.step.rule, position, value) for position, value in enumerate(told.values) if type(value) is int]
