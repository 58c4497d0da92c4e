"""Whether what a job did is what a test expects, and what comes nearest."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_jobs.errors import UsageError
from pytest_jobs.expected import align, amount, done_by, is_right, nearest, wanted_of
from pytest_jobs.records import Attempt, Effect

INSERT = Effect("sql", "payments", "INSERT payments", safe=True)
COMMIT = Effect("sql", "payments", "COMMIT", safe=True)
POST = Effect("http", "http:POST https://pay.example/charges?a=[1]", "POST https://pay.example/charges?a=[1]", detail="500")
KEYED = replace(POST, key="order-7")


def attempts(*each: tuple[Effect, ...]) -> list[Attempt]:
    """One attempt for each tuple of effects."""
    begun = datetime(2030, 1, 1, tzinfo=UTC)
    return [Attempt(number, begun, begun, "succeeded", effects=effects) for number, effects in enumerate(each, 1)]


def right(wanted: list[Any], *each: tuple[Effect, ...]) -> bool:
    """Whether a job with these attempts did as expected."""
    return is_right(align(wanted_of(wanted), done_by(attempts(*each))))


@pytest.mark.parametrize(
    "wanted",
    [
        ["INSERT payments", "COMMIT", POST.label],
        ["INSERT payments"],
        ["payments"],
        [POST.label],
        [POST.target],
        ["POST *", ],
        ["http:POST *"],
        ["*", "*", "*"],
        ["INSERT payments", POST],
        [replace(POST, detail="")],
    ],
)  # fmt: skip
def test_named_in_order_and_as_often(wanted: list[Any]) -> None:
    """Labels, targets, patterns and effects; what no entry speaks of may have been done besides."""
    assert right(wanted, (INSERT, COMMIT, POST))


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        ["POST https://pay.example/charge"],
        [POST.label, "INSERT payments"],
        ["*", "*"],
        ["*"] * 4,
        ["COMMIT", "COMMIT"],
        ["insert payments"],
        [replace(POST, detail="700")],
        [replace(POST, key="order-7")],
        [replace(POST, where="shop.py:7")],
        [replace(POST, kind="call")],
    ],
)
def test_anything_else_is_wrong(wanted: list[Any]) -> None:
    """Not done, too often, out of order, or with something else in it."""
    assert not right(wanted, (INSERT, COMMIT, POST))


def test_every_attempt_counts() -> None:
    """A second charge is not overlooked because the first one was expected."""
    assert not right([POST.label], (POST,), (POST,))
    assert right([POST.label, POST.label], (POST,), (POST,))
    assert right([], ())


def test_the_same_key_counts_once() -> None:
    """A request that comes again with its idempotency key need not be expected again, but may be."""
    assert right([POST.label], (KEYED,), (KEYED,))
    assert right([POST.label] * 2, (KEYED,), (KEYED,))
    assert not right([POST.label], (KEYED,), (replace(POST, key="other"),))


def test_the_nearest() -> None:
    """Three at most, the same one once; of the same label the one that differs in less."""
    refund = Effect("http", "http:POST https://pay.example/refunds", "POST https://pay.example/refunds")
    done = done_by(attempts((INSERT, COMMIT, refund, POST, POST)))
    assert [each.effect for each in nearest("POST https://pay.example/charge", done)] == [POST, refund, INSERT]
    other = replace(POST, detail="700", key="order-8")
    found = nearest(replace(KEYED, detail="700"), done_by(attempts((POST, other, replace(other, key="order-7", where="a:1")))))
    assert [each.effect.where for each in found][:1] == ["a:1"]
    assert nearest("POST *", ()) == ()


def test_what_a_wrong_pair_is_about() -> None:
    """The entry, how often it is expected and how often it was done."""
    pairs = align(["POST *"], done_by(attempts((POST, POST))))
    assert amount(pairs[1], pairs) == ("POST *", 1, 2)
    pairs = align([], done_by(attempts((POST, POST))))
    assert amount(pairs[0], pairs) == (None, 0, 2)


@pytest.mark.parametrize("given", ["INSERT payments", {"INSERT payments"}, 7, None, POST, b"a"])
def test_not_a_list(given: Any) -> None:
    """A list is asked for."""
    with pytest.raises(UsageError, match=r"^check_effects expects a list of effects, such as \['INSERT payments', 'POST"):
        wanted_of(given)


@pytest.mark.parametrize("entry", [7, "", None, b"a", ["INSERT payments"]])
def test_not_an_effect(entry: Any) -> None:
    """So are texts and effects."""
    with pytest.raises(UsageError, match=r"^check_effects expects in its list the labels of effects, .* not "):
        wanted_of(["COMMIT", entry])


@given(st.lists(st.sampled_from([INSERT, COMMIT, POST]), min_size=1), st.data())
def test_what_was_done_is_right_and_one_less_is_not(effects: list[Effect], data: st.DataObject) -> None:
    """Whatever was done: its own labels are right, and without one of them they are not when another copy is named."""
    labels = [effect.label for effect in effects]
    assert right(labels, tuple(effects))
    left_out = data.draw(st.integers(0, len(labels) - 1))
    fewer = labels[:left_out] + labels[left_out + 1 :]
    assert right(fewer, tuple(effects)) == (bool(fewer) and labels[left_out] not in fewer)
