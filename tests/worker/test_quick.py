"""What is done quicker than Celery does it comes to the same."""

from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from pytest_jobs.queues.celery_quick import shown_by

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | st.decimals()
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each) | st.lists(each).map(tuple) | st.dictionaries(st.text(max_size=3), each), max_leaves=9
)


@given(VALUES | st.lists(SCALARS).map(tuple), st.none() | st.integers(0, 60), st.integers(0, 4))
def test_a_value_is_shown_as_celery_shows_it(value, length, levels):
    """Arguments and results, plain and nested, whole and cut."""
    assert shown_by(saferepr)(value, length, levels) == saferepr(value, length, levels)
