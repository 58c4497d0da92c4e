"""Foreign keys to rows of tables that nobody read."""

from pytest_jobs.ignore import Ignore
from pytest_jobs.verdict import compare
from pytest_jobs.world import Rows, World


def notices(order: int, place: int | None, *, key: bool = False) -> World:
    """One row that points to an order, which stands at this place."""
    places = {} if place is None else {"order_id": {order: place}}
    columns = ("order_id",) if key else ("id",)
    row = {"order_id": order} if key else {"id": 1, "order_id": order}
    return World({"notices": Rows(columns, (row,), not key, {"order_id": "orders"}, places)})


def subjects(once: World, now: World) -> list[str]:
    return [finding.subject for finding in compare(once, now, Ignore(())).findings]


def test_the_same_place_is_the_same_row() -> None:
    """Whatever number the database gave it, as a key of the row too."""
    assert subjects(notices(52, 1), notices(58, 1)) == []
    assert subjects(notices(52, 1, key=True), notices(58, 1, key=True)) == []


def test_another_place_is_another_row() -> None:
    """A task that takes the next order is found."""
    assert subjects(notices(52, 1), notices(53, 2)) == ["notices.order_id"]
    assert subjects(notices(52, 1, key=True), notices(53, 2, key=True)) == ["notices"]


def test_without_places_numbers_are_compared() -> None:
    """As they are."""
    assert subjects(notices(52, None), notices(52, None)) == []
    assert subjects(notices(52, None), notices(58, None)) == ["notices.order_id"]
