"""How an example of a state machine chooses what happens next."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine
from hypothesis.strategies import SearchStrategy

from pytest_jobs.story import Story

__all__ = ["CALLS", "PASSING", "Reference", "Search", "Step", "points", "rule_name", "steps"]

# From the simplest.
OFTEN, SELDOM = ("redeliver", "crash", "overlap", "reorder", "advance"), ("fail", "restart", "revoke")
SHARE, DELIVERING, PUBLISHING, MOST_WAITING = 3, 2, 4, 4
FAR, REACHES = 32, (32, 8, 8, 4, 4, 4)
PASSING = st.sampled_from((60, 3600, 86_400, 86_400, 86_400))
# Nothing, under many labels. Hypothesis makes five of six examples by copying one part of a story over another of the
# same label; a copy of nothing is no new example, so that it soon goes on to a new story. The second part of each tuple
# keeps the labels apart: they are made by exclusive or.
NOTHING: SearchStrategy[Any] = st.none()
for _ in range(64):
    NOTHING = st.tuples(NOTHING, st.none())


CALLS = st.sampled_from((1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8))


def _number(draw: st.DrawFn, most: int) -> int:
    """Draw a number below `most`, from one upwards: from zero it would look to Hypothesis like the branch of a strategy,
    and a shrinking story would try each smaller one several times."""
    return draw(st.integers(1, most)) - 1 if most > 1 else 0


@dataclass(frozen=True, slots=True)
class Reference:
    """What a step has of an earlier one: its bundle, and its name in the story."""

    bundle: str
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """How one step was chosen.

    Attributes:
        rule: The name of its rule.
        place: The first place of its rule among all.
        makes: Whether it makes something for later steps.
        head: How many choices it took, before those of its other arguments.
        references: What it has of earlier steps, in the order of choice.
        known: How many names there were.
    """

    rule: str
    place: int
    makes: bool
    head: int
    references: tuple[Reference, ...]
    known: int


class Search:
    """Owns the mixture of one example: few kinds of disturbances meet in it, each of them often (swarm testing).

    Hypothesis does so too, but it leaves out publishing as well, and draws again where a precondition fails. Here every
    number stands for a rule, so that a story that shrinks keeps its other steps.

    Attributes:
        reach: The highest point that a run is thought to have.
        plain: Whether no copies will be made of the example, as it shrinks.
        begun: Whether the mixture was drawn.
        steps: How the steps of the example were chosen.
        names: The names that its steps made.
        unmixed: The choices of the simplest mixture, in which everything meets.
        bare: Steps that need no values and make nothing, whatever they name.
    """

    def __init__(
        self, rules: Sequence[Any], wanted: Sequence[str], possible: Callable[[Any], bool], *, plain: bool = False
    ) -> None:
        self.reach = FAR
        self.plain = plain
        self.begun = False
        self.steps: list[Step] = []
        self.names: list[str] = []
        self.unmixed: list[int] = []
        self._possible = possible
        self._met: list[Any] = []
        named = {rule_name(rule): rule for rule in rules}
        own = [named[name] for name in sorted({*named} - {*OFTEN, *SELDOM, "deliver"})]
        self._publishing = [rule for rule in own if rule.targets]
        self._others = [rule for rule in own if not rule.targets]
        self._deliver = named["deliver"]
        self._often = [named[name] for name in OFTEN if name in named and name in wanted]
        self._seldom = [named[name] for name in SELDOM if name in named and name in wanted]
        self.bare = [*self._bare()]

    def mix(self, draw: st.DrawFn) -> None:
        """Draw which disturbances meet, and how far runs reach."""
        few = len(self._often) <= 3
        meeting = [*combinations(self._often, 2), *combinations(self._often, 3)]
        mixtures: tuple[Sequence[Any], ...] = (
            [self._often, *([] if few else meeting)],
            [self._seldom, *([] if few else [(), (), (), *zip(self._seldom, strict=True)])],
            REACHES,
        )
        often, seldom, reach = (each[_number(draw, len(each))] for each in mixtures)
        self._met, self.reach = [*often, *seldom], reach
        self.unmixed = [1 for each in mixtures if len(each) > 1]
        self.begun = True

    def choose(self, draw: st.DrawFn, waiting: int) -> Any:
        """Draw a rule. What does not meet stands for what does, what is not possible for publishing."""
        ladder = self.ladder()
        place = _number(draw, len(ladder))
        rule, enough = ladder[place], waiting >= MOST_WAITING
        if rule not in self._met and (rule in self._often or rule in self._seldom):
            rule = self._met[place % len(self._met)]
        if self._possible(rule) and not (rule.targets and enough):
            return rule
        return next(each for each in (ladder if enough else reversed(ladder)) if self._possible(each))

    def _bare(self) -> Iterator[Step]:
        ladder = self.ladder()
        for rule in {rule_name(each): each for each in ladder}.values():
            given = rule.arguments.values()
            if not rule.targets and all(map(_is_plain, given)):
                references = tuple(Reference(each.name, "") for each in given)
                yield Step(rule_name(rule), ladder.index(rule), False, 0, references, 0)

    def ladder(self) -> list[Any]:
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
    """Choose a rule and its arguments, those first that earlier steps made."""
    head: list[int] = []
    if not search.begun:
        search.mix(draw)
        head = search.unmixed
    if len(search.steps) < 2 and not search.plain:
        draw(NOTHING)
    rule, ladder = search.choose(draw, story.ready), search.ladder()
    plain = [name for name, given in rule.arguments.items() if _is_plain(given)]
    made = {name: machine.bundle(rule.arguments[name].name) for name in plain}
    chosen = {name: each[-1 - _number(draw, len(each))] for name, each in made.items()}
    references = tuple(Reference(rule.arguments[name].name, chosen[name].name) for name in plain)
    taken = len(head) + (len(ladder) > 1) + sum(len(each) > 1 for each in made.values())
    search.names = machine.names_list
    search.steps.append(
        Step(rule_name(rule), ladder.index(rule), bool(rule.targets), taken, references, len(search.names))
    )
    others = {name: draw(strategy) for name, strategy in rule.arguments_strategies.items() if name not in made}
    return rule, {name: {**chosen, **others}[name] for name in rule.arguments_strategies}


def _is_plain(given: Any) -> bool:
    # In some Hypotheses what is consumed or mapped is of a class of its own.
    return type(given) is Bundle and not getattr(given, "consume", False) and not getattr(given, "_transformations", ())


def points(search: Search, known: int) -> SearchStrategy[int]:
    """Choose a point that the next run is likely to reach: as many as runs of the story had, at times more."""
    return st.integers(1, known if known and search.reach < FAR else search.reach)


def rule_name(rule: Any) -> str:
    """Return the name of a rule."""
    return str(rule.function.__name__)
