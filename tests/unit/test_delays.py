"""Whether delays are as a backoff schedule says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_jobs.delays import bounds, check
from pytest_jobs.errors import UsageError
from pytest_jobs.records import Delays


def test_equal_delays_are_right() -> None:
    """Without jitter each is what was expected, whole or not, list or `Delays`."""
    assert check(Delays((30, 60.0)), [30, 60]) == (True, True)
    assert check([0.1 + 0.2], [0.3]) == (True,)
    assert check([30, 61], [30, 60]) == (True, False)


def test_lengths_must_match() -> None:
    """A retry too many and a missing one are wrong."""
    assert check([30], [30, 60]) == (True, False)
    assert check([30, 60, 120], [30]) == (True, False, False)
    assert check([], []) == ()


def test_jitter_is_a_part_of_each_delay() -> None:
    """Both bounds belong to it."""
    assert check([27, 33, 26.9, 33.1], [30] * 4, 0.1) == (True, True, False, False)
    assert bounds([30], 0.5) == ((15.0, 45.0),)


def test_full_jitter_is_anything_up_to_the_delay() -> None:
    """As Celery's own."""
    assert check([0, 30, 31], [30, 30, 30], "full") == (True, True, False)


@pytest.mark.parametrize("jitter", [-0.1, 1.5, "half", True, None, float("nan")], ids=list("abcdef"))
def test_bad_jitter(jitter: Any) -> None:
    """One sentence with what is allowed."""
    with pytest.raises(UsageError, match=r"neither a number from 0 to 1 .* nor 'full'"):
        check([1], [1], jitter)


@pytest.mark.parametrize("expected", ["30", [-1], ["30"], 30, [float("nan")], [True]], ids=list("abcdef"))
def test_bad_schedule(expected: Any) -> None:
    """A schedule is a list of seconds."""
    with pytest.raises(UsageError, match="check_delays expects"):
        check([1], expected)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1, 1))), st.floats(0, 1))
def test_every_delay_within_the_bounds_is_right(delays: list[tuple[float, float]], jitter: float) -> None:
    """Whatever the jitter."""
    expected = [delay for delay, _ in delays]
    actual = [delay * (1 + jitter * part) for delay, part in delays]
    assert all(check(actual, expected, jitter))
