"""How an example of a state machine chooses what happens: mixtures, what stands for what, and short stories."""

from types import SimpleNamespace

from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from hypothesis.stateful import rule as hypothesis_rule
from test_machine import Machine, charge_once, run

from pytest_jobs import JobMachine
from pytest_jobs.machine import DISTURBANCES
from pytest_jobs.search import FAR, Search, points

KINDS = {"advance", *DISTURBANCES}
FIXED = settings(database=None, derandomize=True, max_examples=60, deadline=None)


def rule(name, *targets):
    """Make what Search looks at in a rule."""
    return SimpleNamespace(function=SimpleNamespace(__name__=name), targets=targets, arguments={})


RULES = [rule("deliver"), rule("publish", "job"), rule("refund"), *map(rule, sorted(KINDS))]


def chosen(draw, waiting=1, wanted=KINDS, possible=lambda rule: True):
    """Draw the names of the rules of one example."""
    search = Search(RULES, sorted(wanted), possible)
    search.mix(draw)
    return [search.choose(draw, waiting).function.__name__ for _ in range(12)]


def test_few_disturbances_meet():
    """In most examples two or three of the usual ones and at most one of the rare; each meets in some."""
    met = []

    @FIXED
    @given(st.data())
    def example(data):
        met.append({*chosen(data.draw)} & KINDS)

    example()
    assert set.union(*met) == KINDS
    assert sum(len(kinds) <= 4 for kinds in met) > len(met) / 2
    assert {len(kinds) for kinds in met} >= {2, 3}


def test_only_wanted_disturbances_are_chosen():
    """What a machine leaves out stands for nothing; one that leaves out all still delivers."""

    @FIXED
    @given(st.data())
    def example(data):
        assert {*chosen(data.draw, wanted={"crash", "restart"})} <= {"deliver", "publish", "refund", "crash", "restart"}
        assert {*chosen(data.draw, wanted=())} <= {"deliver", "publish", "refund"}

    example()


def test_what_is_not_possible_stands_for_publishing():
    """Until enough messages wait; then for delivering."""
    assert not seen("crash", possible=lambda rule: rule.function.__name__ in {"deliver", "publish"})
    assert seen("publish", possible=lambda rule: rule.function.__name__ != "deliver")
    assert not seen("publish", waiting=4)
    assert seen("deliver", waiting=4)


def seen(name, **given):
    """Tell whether any example has the rule."""
    try:
        find(st.composite(lambda draw: chosen(draw, **given))(), lambda names: name in names, settings=FIXED)
    except NoSuchExample:
        return False
    return True


def test_points_lie_where_runs_have_some():
    """As far as runs of the story reached; at times, and before any ran, as far as the example thinks."""
    search = Search(RULES, sorted(KINDS), bool)
    search.reach = 8
    assert find(points(search, 3), lambda at: at >= 3, settings=FIXED) == 3
    assert find(points(search, 0), lambda at: at >= 8, settings=FIXED) == 8
    search.reach = FAR
    assert find(points(search, 3), lambda at: at > 8, settings=FIXED) == 9


def test_a_rule_of_ones_own_takes_the_place_of_the_machines():
    """It may be called `publish` too, and is chosen although there are no tasks."""
    published = []

    class Own(Machine):
        tasks = ()

        @hypothesis_rule(target=JobMachine.published)
        def publish(self):
            published.append(1)
            return self.send(charge_once, 7)

    run(Own, max_examples=3)
    assert published
