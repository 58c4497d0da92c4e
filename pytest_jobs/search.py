"""How an example of a state machine chooses what happens next."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine
from hypothesis.strategies import SearchStrategy

from pytest_jobs.story import Story

__all__ = ["CALLS", "PASSING", "Search", "points", "rule_name", "steps"]

# From the simplest.
OFTEN, SELDOM = ("redeliver", "crash", "overlap", "reorder", "advance"), ("fail", "restart", "revoke")
SHARE, DELIVERING, PUBLISHING, MOST_WAITING = 3, 2, 4, 4
FAR, REACHES = 32, (32, 8, 8, 4, 4, 4)
PASSING = st.sampled_from((60, 3600, 86_400, 86_400, 86_400))
# Nothing, under many labels. Hypothesis makes five of six examples by copying one part of a story over another of the
# same label; a copy of nothing is no new example, so that it soon goes on to a new story.
NOTHING: SearchStrategy[Any] = st.none()
for _ in range(64):
    NOTHING = st.tuples(NOTHING, st.none())


def _number(most: int) -> SearchStrategy[int]:
    """Draw a number below `most`, from one upwards: from zero it would look to Hypothesis like the branch of a strategy,
    and a shrinking story would try each smaller one several times."""
    return st.integers(1, most).map(lambda number: number - 1)


def _one_of(choices: Sequence[Any]) -> SearchStrategy[Any]:
    return _number(len(choices)).map(choices.__getitem__)


CALLS = _one_of((1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8))


class Search:
    """Owns the mixture of one example: few kinds of disturbances meet in it, each of them often (swarm testing).

    Hypothesis does so too, but it leaves out publishing as well, and draws again where a precondition fails. Here every
    number stands for a rule, so that a story that shrinks keeps its other steps.

    Attributes:
        reach: The highest point that a run is thought to have.
        begun: Whether the mixture was drawn.
    """

    def __init__(self, rules: Sequence[Any], wanted: Sequence[str], possible: Callable[[Any], bool]) -> None:
        self.reach = FAR
        self.begun = False
        self._possible = possible
        self._met: list[Any] = []
        named = {rule_name(rule): rule for rule in rules}
        own = [named[name] for name in sorted({*named} - {*OFTEN, *SELDOM, "deliver"})]
        self._publishing = [rule for rule in own if rule.targets]
        self._others = [rule for rule in own if not rule.targets]
        self._deliver = named["deliver"]
        self._often = [named[name] for name in OFTEN if name in named and name in wanted]
        self._seldom = [named[name] for name in SELDOM if name in named and name in wanted]

    def mix(self, draw: st.DrawFn) -> None:
        """Draw which disturbances meet, and how far runs reach."""
        few = len(self._often) <= 3
        meeting = [*combinations(self._often, 2), *combinations(self._often, 3)]
        often = draw(_one_of([self._often, *([] if few else meeting)]))
        seldom = draw(_one_of([self._seldom, *([] if few else [(), (), (), *zip(self._seldom, strict=True)])]))
        self._met = [*often, *seldom]
        self.reach = draw(_one_of(REACHES))
        self.begun = True

    def choose(self, draw: st.DrawFn, waiting: int) -> Any:
        """Draw a rule. What does not meet stands for what does, what is not possible for publishing."""
        ladder = self._ladder()
        place = draw(_number(len(ladder)))
        rule, enough = ladder[place], waiting >= MOST_WAITING
        if rule not in self._met and (rule in self._often or rule in self._seldom):
            rule = self._met[place % len(self._met)]
        if self._possible(rule) and not (rule.targets and enough):
            return rule
        return next(each for each in (ladder if enough else reversed(ladder)) if self._possible(each))

    def _ladder(self) -> list[Any]:
        """Order the rules from the simplest; publishing comes again at the end, as most bugs need several jobs."""
        return [
            *[self._deliver] * DELIVERING,
            *self._publishing,
            *(rule for rule in self._often for _ in range(SHARE)),
            *self._seldom,
            *self._others * DELIVERING,
            *self._publishing * (PUBLISHING // max(len(self._publishing), 1)),
        ]


@st.composite
def steps(
    draw: st.DrawFn, machine: RuleBasedStateMachine, search: Search, story: Story
) -> tuple[Any, dict[str, Any]]:
    """Choose a rule and its arguments."""
    if not search.begun:
        search.mix(draw)
    if story.length < 2:
        draw(NOTHING)
    rule = search.choose(draw, story.ready)
    return rule, {
        name: _one_before(draw, machine.bundle(given.name)) if _is_plain(given := rule.arguments[name]) else draw(strategy)
        for name, strategy in rule.arguments_strategies.items()
    }


def _is_plain(given: Any) -> bool:
    return isinstance(given, Bundle) and not given.consume and not getattr(given, "_transformations", ())


def _one_before(draw: st.DrawFn, made: Sequence[Any]) -> Any:
    """Choose from a bundle, counted from the newest or from the oldest: whatever else was made in between can go."""
    count, oldest = divmod(draw(_number(2 * len(made))), 2)
    return made[count] if oldest else made[-1 - count]


def points(search: Search, known: int) -> SearchStrategy[int]:
    """Choose a point that the next run is likely to reach: as many as runs of the story had, at times more."""
    return st.integers(1, known if known and search.reach < FAR else search.reach)


def rule_name(rule: Any) -> str:
    """Return the name of a rule."""
    return str(rule.function.__name__)
