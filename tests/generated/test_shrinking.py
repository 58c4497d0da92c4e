"""Stories of state machines shrink by their steps, whatever the steps are made of."""

import pytest
from hypothesis import strategies as st
from hypothesis.internal.conjecture.shrinker import Shrinker
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, rule
from planted_runs import steps
from test_machine import Machine, charge_once, charged, run

from pytest_jobs import JobMachine, shrinking


def story(machine, number=0, error=AssertionError, **chosen):
    """Return the story that a machine's failure is shrunk to."""
    with pytest.raises(error) as found:
        run(machine, number, max_examples=200, **chosen)
    return [*steps("\n".join(found.value.__notes__))]


def test_what_began_the_story_stays():
    """Rules that initialize come first, and what they made is still there to be named."""

    class Begun(Machine):
        tasks = ()

        @initialize(target=JobMachine.published, orders=st.integers(1, 3))
        def begin(self, orders):
            return multiple(*(self.send(charge_once, order) for order in range(orders)))

        @rule(job=JobMachine.published)
        def cancel(self, job):
            assert job.call.args != (0,) or not charged

    assert story(Begun) == ["state.deliver()", "state.cancel(job=job_0)"]


def test_a_number_that_two_steps_share_is_lowered_in_both():
    """Also when other choices happen to be the same number."""

    class Same(Machine):
        disturb = ("crash",)

        def setup(self):
            super().setup()
            self.orders = []

        @rule(target=JobMachine.published, order=st.integers(2, 5))
        def order(self, order):
            self.orders.append(order)
            return self.send(charge_once, order)

        @rule(at=st.integers(5, 6))
        def twice(self, at):
            assert len(self.orders) == len({*self.orders})

    assert story(Same, 5) == ["job_0 = state.order(order=2)", "job_1 = state.order(order=2)", "state.twice(at=5)"]


def test_bundles_of_ones_own():
    """What is consumed is drawn as Hypothesis does."""

    class Boxes(Machine):
        tasks = ()
        boxes = Bundle("job_box")

        @rule(target=boxes, size=st.integers(0, 3))
        def box(self, size):
            return size

        @rule(size=st.integers(0, 3), box=consumes(boxes), other=boxes)
        def put(self, size, box, other):
            assert size == 0 or box == other

    assert story(Boxes) == [
        "job_box_0 = state.box(size=0)", "job_box_1 = state.box(size=1)",
        "state.put(box=job_box_0, other=job_box_1, size=1)",
    ]  # fmt: skip


def test_an_error_while_a_step_is_drawn():
    """It is told with the steps before."""

    class Odd(Machine):
        tasks = {charge_once: st.integers(0, 3).map(lambda number: (1 // (3 - number),))}  # noqa: RUF012

    assert story(Odd, error=ZeroDivisionError) == []


def test_an_error_before_any_step():
    """There is no story to shrink."""

    class Broken(Machine):
        def setup(self):
            raise LookupError

    assert story(Broken, error=LookupError) == []


class Looking(Machine):
    """Looks whether Hypothesis knows of stories."""

    seen = []  # noqa: RUF012

    @invariant()
    def look(self):
        self.seen.append((Shrinker.initial_coarse_reduction, Shrinker.greedy_shrink))


@pytest.mark.parametrize("known", [True, False])
def test_hypothesis_shrinks_other_tests_as_ever(known, monkeypatch):
    """Only while a machine runs does it know of stories; one that works otherwise never does, and shrinks by itself."""
    if not known:
        monkeypatch.setattr(shrinking, "NEEDED", ((Shrinker, ("shrink_by_magic",)),))
    before = Shrinker.initial_coarse_reduction, Shrinker.greedy_shrink
    monkeypatch.setattr(Looking, "seen", [])
    run(Looking, max_examples=1)
    assert (before in Looking.seen) is not known
    assert (Shrinker.initial_coarse_reduction, Shrinker.greedy_shrink) == before
