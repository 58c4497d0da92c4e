"""The whole texts about what a job did, line by line."""

from dataclasses import replace
from datetime import UTC, datetime

from pytest_jobs import render_effects
from pytest_jobs.expected import Wanted, align, done_by
from pytest_jobs.records import Attempt, Effect
from pytest_jobs.world import Early

INSERT = Effect("sql", "payments", "INSERT payments", safe=True, where="shop.py:9")
COMMIT = Effect("sql", "payments", "COMMIT", safe=True, where="shop.py:11")
CHARGES = "POST https://pay.example/charges"
POST = Effect("http", f"http:{CHARGES}", CHARGES, detail='{"cents": 500}', where="shop.py:12")


def check(wanted: list[Wanted], *effects: tuple[Effect, ...], expected: str) -> None:
    """Compare a text with the one drawn in the test, which begins after its first line break."""
    begun = datetime(2030, 1, 1, tzinfo=UTC)
    attempts = [Attempt(number, begun, begun, "succeeded", effects=each) for number, each in enumerate(effects, 1)]
    done = done_by(attempts)
    text = render_effects.effects("shop.charge", align(wanted, done), done, len(attempts))
    assert text.splitlines() == expected.strip("\n").splitlines()


def test_not_done() -> None:
    """Both lists, and the three effects nearest to what was not done."""
    check(
        ["INSERT payments", "POST https://pay.example/charge"],
        (INSERT, COMMIT, POST, replace(POST, label="GET https://pay.example/", where="")),
        expected="""
charge does not do as expected: POST …/charge: 1 expected, 0 done

       expected                           done
 1.    INSERT payments                    INSERT payments
 2.    POST https://pay.example/charge    –       <- missing
 in all: 4 effects in 1 attempt

 nearest to POST https://pay.example/charge:
   POST https://pay.example/charges    shop.py:12
   GET https://pay.example/
   INSERT payments                     shop.py:9

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_too_often() -> None:
    """Where the one too many was done, and in which attempt."""
    check(
        ["POST *"],
        (INSERT, COMMIT, POST),
        (INSERT, COMMIT, POST),
        expected="""
charge does not do as expected: POST *: 1 expected, 2 done

       expected    done
 1.    POST *      POST https://pay.example/charges
 2.    –           POST https://pay.example/charges    <- one too many at shop.py:12, attempt 2
 in all: 6 effects in 2 attempts

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_out_of_order() -> None:
    """What was done as often as expected, but not where."""
    check(
        ["POST *", "COMMIT"],
        (INSERT, COMMIT, POST),
        expected="""
charge does not do as expected: POST *: out of order

       expected    done
 1.    POST *      –                                   <- out of order
 2.    COMMIT      COMMIT
 3.    –           POST https://pay.example/charges    <- out of order at shop.py:12
 in all: 3 effects in 1 attempt

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_nothing_expected() -> None:
    """An empty list speaks of every effect."""
    check(
        [],
        (INSERT, COMMIT),
        expected="""
charge does not do as expected: nothing expected, 2 effects done

       expected    done
 1.    –           INSERT payments    <- one too many at shop.py:9
 2.    –           COMMIT             <- one too many at shop.py:11
 in all: 2 effects in 1 attempt

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_nothing_done() -> None:
    """A job without effects has none that is near."""
    check(
        ["mail to ann@x.example: Receipt"],
        (),
        expected="""
charge does not do as expected: mail to an…: Receipt: 1 expected, 0 done

       expected                          done
 1.    mail to ann@x.example: Receipt    –       <- missing
 in all: nothing that outlives a crash

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_another_content() -> None:
    """An `Effect` is shown with what differs in it, where the label is the same."""
    check(
        [replace(POST, detail='{"cents": 700}', key="order-7")],
        (INSERT, POST),
        expected="""
charge does not do as expected: POST …/charges: 1 expected, 0 done

       expected                            done
 1.    POST https://pay.example/charges    –       <- missing
 in all: 2 effects in 1 attempt

 nearest to POST https://pay.example/charges:
   POST https://pay.example/charges    shop.py:12
     key: –, not order-7
     detail: {"cents": 500}, not {"cents": 700}
   INSERT payments                     shop.py:9

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_two_patterns_for_one_effect() -> None:
    """When each entry was done often enough by itself, both sums are told."""
    check(
        ["POST *", CHARGES],
        (POST,),
        expected="""
charge does not do as expected: 2 effects expected, 1 done

       expected                            done
 1.    POST *                              POST https://pay.example/charges
 2.    POST https://pay.example/charges    –       <- missing
 in all: 1 effect in 1 attempt

Fix:     https://pytest-jobs.readthedocs.io/failures#effects
""",
    )


def test_many_missing() -> None:
    """Of a long list the first are shown with what is near, and the rest is counted."""
    text = render_effects.effects(
        "shop.charge", align([f"mail {n}" for n in range(50)], done := done_by([Attempt(1, datetime.now(UTC), None, "failed", effects=(COMMIT,))])), done, 1
    )  # fmt: skip
    lines = text.splitlines()
    assert lines[:2] == ["charge does not do as expected: mail 0: 1 expected, 0 done", ""]
    assert sum(line.startswith(" nearest to ") for line in lines) == 5
    assert lines[43:45] == [" … and 10 more effects", " in all: 1 effect in 1 attempt"]
    assert lines[-3:] == [" … and 45 more were not done", "", "Fix:     https://pytest-jobs.readthedocs.io/failures#effects"]


def test_published_too_early() -> None:
    """Who published what, where, and what was not committed yet."""
    receipt = Early("shop.receipt", "shop.book", ("orders",), "shop/tasks.py:12")
    assert render_effects.early([receipt]).splitlines() == [
        "receipt is published before orders is committed",
        "",
        " shop.receipt",
        "   published by    shop.book at shop/tasks.py:12",
        "   waits for       orders",
        "",
        "A worker may take it before the commit and not find the rows; after a rollback it runs for nothing.",
        "",
        "Fix:     transaction.on_commit(…), or receipt.delay_on_commit(…)",
        "         https://pytest-jobs.readthedocs.io/failures#early",
    ]
    both = render_effects.early([Early("shop.receipt", "", ("orders", "payments")), receipt]).splitlines()
    assert both[0] == "receipt is published before 2 tables are committed (+1 more)"
    assert both[2:5] == [" shop.receipt", "   published by    the test", "   waits for       orders, payments"]
    assert render_effects.early_line(receipt) == (
        "shop.book publishes shop.receipt before orders is committed: https://pytest-jobs.readthedocs.io/failures#early"
    )
