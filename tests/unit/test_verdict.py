"""What is a difference between two worlds, and what is none."""

import random
import uuid
from collections import namedtuple
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_jobs.errors import UsageError
from pytest_jobs.ignore import Ignore
from pytest_jobs.records import Effect
from pytest_jobs.verdict import Comparison, compare
from pytest_jobs.world import Lifetime, Outcome, Rows, Unreadable, World

START = 1_795_529_446.25
LATER = START + 3601.5
POST = "http:POST https://pay.example/charges"


def judged(once: Any, now: Any, *ignore: str, instants: tuple[float, ...] = ()) -> Comparison:
    """Compare two states, or two worlds."""
    worlds = [each if isinstance(each, World) else World(each, instants=frozenset(instants)) for each in (once, now)]
    return compare(*worlds, Ignore(ignore))


def summary(compared: Comparison) -> list[tuple[str, str, str, str]]:
    """Return each finding without its evidence."""
    return [(each.rule, each.subject, each.once, each.now) for each in compared.findings]


def shown(compared: Comparison) -> list[tuple[int, str, str, str, str]]:
    """Return the evidence of the only finding."""
    (finding,) = compared.findings
    return [(line.depth, line.label, line.once, line.now, line.note) for line in finding.evidence]


def table(*rows: dict[str, Any], key: tuple[str, ...] = ("id",), **options: Any) -> Rows:
    return Rows(key, rows, **options)


class TestRows:
    def test_an_added_row_is_shown_by_its_key(self) -> None:
        """A row that came is named, and how many there are is the headline."""
        once = {"payments": table({"id": 7, "amount": 500})}
        now = {"payments": table({"id": 7, "amount": 500}, {"id": 8, "amount": 600})}
        compared = judged(once, now)
        assert summary(compared) == [("state", "payments", "1 row", "2 rows")]
        assert shown(compared) == [(0, "payments", "1 row", "2 rows", ""), (1, "#8", "", "amount=600", "added")]

    def test_a_doubled_row_says_which_it_doubles(self) -> None:
        """Which row came twice is said."""
        once = {"payments": table({"id": 7, "amount": 500}, surrogate=True)}
        now = {"payments": table({"id": 7, "amount": 500}, {"id": 8, "amount": 500}, surrogate=True)}
        assert shown(judged(once, now))[1] == (1, "#8", "", "amount=500", "added, the same as #7")

    def test_a_changed_field_is_the_headline(self) -> None:
        """One field of one row is told in line one."""
        once = {"orders": table({"id": 1, "status": "paid"}, {"id": 2, "status": "new"})}
        now = {"orders": table({"id": 1, "status": "new"}, {"id": 2, "status": "new"})}
        compared = judged(once, now)
        assert summary(compared) == [("state", "orders.status", "'paid'", "'new'")]
        assert shown(compared)[1] == (1, "#1 status", "'paid'", "'new'", "")

    def test_several_changed_fields_stand_under_their_row(self) -> None:
        """Each changed field has its line, the others none."""
        once = {"orders": table({"id": 1, "status": "paid", "sum": 3, "who": "ann"})}
        now = {"orders": table({"id": 1, "status": "new", "sum": 4, "who": "ann"})}
        assert shown(judged(once, now))[1:] == [
            (1, "#1", "", "", ""),
            (2, "status", "'paid'", "'new'", ""),
            (2, "sum", "3", "4", ""),
        ]

    def test_a_missing_table_counts_as_empty(self) -> None:
        """No rows and no table are one; a table that came has rows added."""
        assert not judged({"a": table()}, {}).findings
        assert summary(judged({}, {"a": table({"id": 1})})) == [("state", "a", "0 rows", "1 row")]

    def test_row_order_is_no_difference(self) -> None:
        """Neither with a key nor without one."""
        rows = [{"id": number, "name": f"n{number}"} for number in range(20)]
        for key in (("id",), ()):
            assert not judged({"t": Rows(key, tuple(rows))}, {"t": Rows(key, tuple(reversed(rows)))}).findings

    def test_without_a_key_rows_are_a_multiset(self) -> None:
        """The second of two equal rows is a difference."""
        once = {"log": table({"what": "mail"}, key=())}
        now = {"log": table({"what": "mail"}, {"what": "mail"}, key=())}
        assert shown(judged(once, now))[1] == (1, "row 2", "", "what='mail'", "added again")

    def test_burned_surrogate_keys_match_by_content(self) -> None:
        """A sequence that skipped numbers after a rollback is no difference, nor are the keys that point to its rows."""
        once = {
            "orders": table({"id": 1, "name": "a"}, {"id": 2, "name": "b"}, surrogate=True),
            "lines": table({"id": 1, "order_id": 2}, surrogate=True, references={"order_id": "orders"}),
        }
        now = {
            "orders": table({"id": 5, "name": "b"}, {"id": 3, "name": "a"}, surrogate=True),
            "lines": table({"id": 9, "order_id": 5}, surrogate=True, references={"order_id": "orders"}),
        }
        assert not judged(once, now).findings
        now["lines"] = table({"id": 9, "order_id": 3}, surrogate=True, references={"order_id": "orders"})
        assert summary(judged(once, now)) == [("state", "lines.order_id", "2", "3")]

    def test_a_changed_parent_does_not_make_its_children_differ(self) -> None:
        """A finding stays where the difference is."""
        once = {
            "users": table({"id": 1, "balance": 5}, {"id": 2, "balance": 9}, surrogate=True),
            "orders": table({"id": 1, "user": 1}, {"id": 2, "user": 2}, surrogate=True, references={"user": "users"}),
        }
        now = {
            "users": table({"id": 3, "balance": 6}, {"id": 4, "balance": 9}, surrogate=True),
            "orders": table({"id": 1, "user": 3}, {"id": 2, "user": 4}, surrogate=True, references={"user": "users"}),
        }
        assert summary(judged(once, now)) == [("state", "users.balance", "5", "6")]

    def test_composite_and_duplicate_keys(self) -> None:
        """A composite key names the row; keys that are not unique fall back to content."""
        once = {"t": table({"a": 1, "b": 2, "c": 3}, key=("a", "b"))}
        now = {"t": table({"a": 1, "b": 2, "c": 4}, key=("a", "b"))}
        assert shown(judged(once, now))[1][1] == "#1,2 c"
        twice = {"t": table({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}, key=("a", "b"))}
        assert summary(judged(once, twice)) == [("state", "t", "1 row", "2 rows")]

    def test_evidence_is_capped_aloud(self) -> None:
        """Fifteen lines at most, and the rest is counted."""
        now = {"t": Rows(("id",), tuple({"id": number} for number in range(1, 41)))}
        lines = shown(judged({"t": table()}, now))
        assert (len(lines), lines[-1][1]) == (15, "… and 27 more differences")


class TestPlainValues:
    @pytest.mark.parametrize(
        ("once", "now"),
        [
            ([1, 2], (1, 2)),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({1, 2}, frozenset({2, 1})),
            (float("nan"), float("nan")),
            (Decimal("sNaN"), Decimal("sNaN")),
            (b"x", bytearray(b"x")),
            ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")]),
            ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}]),
            ({"rows": [{"a": 1}, {"a": 2}]}, {"rows": [{"a": 2}, {"a": 1}]}),
            ([], None),
            (Decimal("1.0"), 1),
        ],
    )
    def test_no_difference(self, once: Any, now: Any) -> None:
        """Order of mappings, sets and records, and the kind of sequence, do not matter."""
        assert not judged({"it": once}, {"it": now}).findings

    @pytest.mark.parametrize(
        ("once", "now"),
        [
            (True, 1), (1, "1"), (0, None), (0, False), ([1, 2], [2, 1]), (b"x", "x"), ("", None), ({"a": 1}, {"a": True}),
            ([1], [True]), ([{"a": 1}], [{"a": 1}, {"a": 1}]), ({1}, {1, 2}), (date(2020, 1, 1), datetime(2020, 1, 1)),
        ],
    )  # fmt: skip
    def test_difference(self, once: Any, now: Any) -> None:
        """Types that Python takes for equal are told apart."""
        assert len(judged({"it": once}, {"it": now}).findings) == 1
        assert len(judged({"it": now}, {"it": once}).findings) == 1

    def test_a_list_shows_what_was_added(self) -> None:
        """By position, and not everything after it."""
        compared = judged({"outbox": ["a", "b", "c"]}, {"outbox": ["a", "b", "b", "c"]})
        assert summary(compared) == [("state", "outbox", "3 items", "4 items")]
        assert shown(compared) == [(0, "outbox", "3 items", "4 items", ""), (1, "[2]", "", "'b'", "added")]

    def test_one_entry_is_the_headline(self) -> None:
        """A mapping's only changed entry is named in line one."""
        assert summary(judged({"stock": {"pen": 3, "ink": 1}}, {"stock": {"pen": 2, "ink": 1}})) == [
            ("state", "stock.pen", "3", "2")
        ]

    def test_scalars_and_absence(self) -> None:
        """A subject that is not there says so."""
        assert summary(judged({"redis:n": 3}, {"redis:n": 4})) == [("state", "redis:n", "3", "4")]
        assert summary(judged({}, {"redis:lock": b"1"})) == [("state", "redis:lock", "absent", "b'1'")]
        assert summary(judged({"redis:lock": b"1"}, {})) == [("state", "redis:lock", "b'1'", "absent")]
        assert summary(judged({}, {"outbox": [1]})) == [("state", "outbox", "0 items", "1 item")]

    def test_objects_compare_by_their_fields(self) -> None:
        """Dataclasses, named tuples and plain objects, also those without `==`."""

        @dataclass
        class Mail:
            to: str
            body: str

        class Note:
            def __init__(self, text: str) -> None:
                self.text = text

        pair = namedtuple("pair", "a b")
        assert not judged(
            {"m": [Mail("a", "b"), Note("x"), pair(1, 2)]}, {"m": [Mail("a", "b"), Note("x"), (1, 2)]}
        ).findings
        assert summary(judged({"m": Mail("a", "b")}, {"m": Mail("a", "c")}))[0][1] == "m"
        assert shown(judged({"m": Note("x")}, {"m": Note("y")}))[-1][1:4] == ("text", "'x'", "'y'")

    def test_values_that_raise_do_not_end_the_comparison(self) -> None:
        """Broken `==`, `hash` and `repr` are lived with."""

        class Hostile:
            __hash__ = None  # type: ignore[assignment]

            def __eq__(self, other: object) -> bool:
                raise RuntimeError

            def __repr__(self) -> str:
                raise RuntimeError

        loop: list[Any] = []
        loop.append(loop)
        deep: list[Any] = []
        for _ in range(5000):
            deep = [deep]
        assert not judged({"it": [Hostile()]}, {"it": [Hostile()]}).findings
        assert not judged({"it": loop}, {"it": loop}).findings
        assert not judged({"it": deep}, {"it": deep}).findings
        assert len(judged({"it": [Hostile()]}, {"it": [Hostile(), Hostile()]}).findings) == 1

    def test_long_values_show_only_their_parts(self) -> None:
        """The region of a text, the lines of a file, the entries of a mapping."""
        text = "x" * 3000
        lines = shown(judged({"it": f"{text}a{text}"}, {"it": f"{text}b{text}"}))
        assert all(len(line[2]) <= 40 and line[2] != line[3] for line in lines)
        rows = [f"row {number}" for number in range(1000)]
        once, now = "\n".join(rows), "\n".join([*rows[:500], "row x", *rows[501:]])
        assert shown(judged({"file:a": once}, {"file:a": now}))[1] == (1, "line 501", "'row 500'", "'row x'", "")
        big = {f"key {number}": number for number in range(1000)}
        assert shown(judged({"it": big}, {"it": {**big, "key 3": 4}}))[1:] == [(1, "key 3", "3", "4", "")]

    def test_a_difference_deep_inside_a_row_is_shown_alone(self) -> None:
        """A big JSON column does not hide what changed in it."""
        body = {f"key {number}": "value" * 10 for number in range(50)}
        once = {"t": table({"id": 1, "body": body})}
        now = {"t": table({"id": 1, "body": {**body, "key 3": "other"}})}
        assert [line[1] for line in shown(judged(once, now))] == ["t", "#1 body", "key 3"]


class TestTimesOfTheRun:
    @pytest.mark.parametrize(
        "form",
        [
            lambda at: datetime.fromtimestamp(at, UTC),
            lambda at: datetime.fromtimestamp(at, UTC).replace(tzinfo=None),
            lambda at: datetime.fromtimestamp(at),
            lambda at: datetime.fromtimestamp(at, UTC).replace(microsecond=0),
            lambda at: datetime.fromtimestamp(at, UTC).date(),
            lambda at: datetime.fromtimestamp(at, UTC).isoformat(),
            lambda at: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
            lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M"),
            lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            lambda at: datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            lambda at: f'{{"at": "{datetime.fromtimestamp(at, UTC).isoformat()}", "n": 1}}'.encode(),
            lambda at: at,
            int,
            lambda at: int(at * 1000),
            lambda at: f"locked:{int(at)}",
            lambda at: str(at).encode(),
            lambda at: datetime.fromtimestamp(at, UTC).time(),
            lambda at: datetime.fromtimestamp(at).strftime("%H:%M:%S"),
        ],
        ids=[
            "aware",
            "naive utc",
            "naive local",
            "seconds",
            "date",
            "iso",
            "iso seconds",
            "minutes",
            "zulu",
            "mail date",
            "json bytes",
            "epoch",
            "epoch seconds",
            "millis",
            "in a key",
            "epoch bytes",
            "time of day",
            "time of day as text",
        ],
    )
    def test_every_form_is_known_again(self, form: Any) -> None:
        """An instant of the clock equals another one, in whatever form."""
        once, now = {"it": {"at": form(START)}}, {"it": {"at": form(LATER)}}
        assert not judged(once, now, instants=(START, LATER)).findings

    def test_another_time_is_a_difference(self) -> None:
        """A time that the clock never stood at is compared as any value."""
        once, now = {"it": datetime(2020, 1, 1)}, {"it": datetime(2020, 1, 2)}
        assert len(judged(once, now, instants=(START, LATER)).findings) == 1
        once, now = {"it": ["01:00:00", time(1)]}, {"it": ["01:00:01", time(2)]}
        assert len(judged(once, now, instants=(START, LATER)).findings) == 1

    def test_a_time_derived_from_the_clock(self) -> None:
        """An expiry one hour ahead moves with the clock that the schedule moved."""
        once, now = ({"it": {"until": datetime.fromtimestamp(at + 7200, UTC)}} for at in (START, LATER))
        worlds = World(once, instants=frozenset({START})), World(now, instants=frozenset({START, LATER}))
        assert not judged(*worlds).findings
        later = {"it": {"until": datetime.fromtimestamp(START + 2 * 7200, UTC)}}
        assert len(judged(worlds[0], replace(worlds[1], state=later)).findings) == 1

    def test_small_numbers_are_no_times(self) -> None:
        """An amount that equals an instant near the epoch is an amount."""
        assert len(judged({"amount": 500}, {"amount": 600}, instants=(500.0, 600.0)).findings) == 1


class TestMadeUpIds:
    def test_uuids_compare_by_position(self) -> None:
        """In objects, hex, embedded in text, in keys of mappings and in subjects."""

        def state() -> dict[str, Any]:
            one, two = uuid.uuid4(), uuid.uuid4()
            return {
                "orders": table({"id": str(one), "n": 1}, {"id": str(two), "n": 2}),
                f"redis:order:{one}": f"paid {two.hex}",
                "by id": {one: 1, two: 2},
            }

        once = state()
        assert not judged(once, state()).findings
        now = state()
        now["by id"] = dict(zip(now["by id"], (2, 1), strict=True))
        assert len(judged(once, now).findings) == 1

    def test_an_equal_uuid_is_the_same_one(self) -> None:
        """A UUID that the test gave is no name to be swapped."""
        one, two = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
        assert judged({"a": [one, two]}, {"a": [two, one]}).findings

    def test_alike_rows_told_apart_only_by_what_points_to_them(self) -> None:
        """Shuffled rows without content of their own are matched through their references."""

        def state(order: list[int]) -> dict[str, Any]:
            ids = {number: str(uuid.uuid4()) for number in range(4)}
            return {
                "users": Rows(("id",), tuple({"id": ids[number]} for number in order), surrogate=True),
                "orders": Rows((), tuple({"user": ids[number], "sum": number // 2} for number in reversed(order))),
                "notes": Rows((), tuple({"user": ids[number], "text": f"{number % 2}"} for number in order)),
            }

        assert not judged(state([0, 1, 2, 3]), state([2, 0, 3, 1])).findings

    def test_symmetrical_ties_are_broken_consistently(self) -> None:
        """Pairs of rows that look all alike are paired together with what hangs on them."""

        def state(order: list[int]) -> dict[str, Any]:
            ids = [str(uuid.uuid4()) for _ in order]
            return {
                "users": table(*({"id": each} for each in ids), surrogate=True),
                "orders": table(*({"id": n, "user": ids[at]} for n, at in enumerate(order)), surrogate=True),
            }

        assert not judged(state([0, 1, 2]), state([2, 0, 1])).findings

    @settings(deadline=None)
    @given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(0, 15))
    def test_shuffled_and_renamed_worlds_are_equal_and_one_change_is_found(
        self, chance: random.Random, users: int, orders: int
    ) -> None:
        """Renaming every made-up id and shuffling every order is no difference; one changed value is exactly one."""
        content = [chance.choice("abc") for _ in range(users)]
        links = [(chance.randrange(users), chance.randrange(3)) for _ in range(orders)]

        def state(shuffle: bool) -> dict[str, Any]:
            keys = chance.sample(range(1000), users)
            tokens = [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{shuffle} {n}")) for n in range(len(links))]
            parents = [{"id": key, "name": name} for key, name in zip(keys, content, strict=True)]
            children = [
                {"token": token, "user": keys[user], "sum": amount}
                for token, (user, amount) in zip(tokens, links, strict=True)
            ]
            seen = [(f"order {token}", amount) for token, (_, amount) in zip(tokens, links, strict=True)]
            if shuffle:
                for rows in (parents, children, seen):
                    chance.shuffle(rows)
            return {
                "users": Rows(("id",), tuple(parents), surrogate=True),
                "orders": Rows(("token",), tuple(children), surrogate=True, references={"user": "users"}),
                "seen": dict(seen),
            }

        once, now = state(False), state(True)
        assert summary(judged(once, now)) == []
        rows = now["users"].rows
        changed = {**now, "users": replace(now["users"], rows=({**rows[0], "name": "other"}, *rows[1:]))}
        assert {each.subject.partition(".")[0] for each in judged(once, changed).findings} == {"users"}


class TestOutcomes:
    def world(self, *outcomes: Outcome, **parts: Any) -> World:
        return World({}, outcomes=outcomes, **parts)

    def test_the_first_outcome_is_compared(self) -> None:
        """Its value is named as the result of the task."""
        once = self.world(Outcome("shop.charge", 1, (("succeeded", 3),), "succeeded"))
        now = self.world(Outcome("shop.charge", 1, (("killed", "x"), ("succeeded", 4)), "succeeded"))
        assert summary(judged(once, now)) == [("outcome", "result of charge", "3", "4")]

    def test_a_later_different_outcome_is_found(self) -> None:
        """The second delivery ended otherwise than the first."""
        once = self.world(Outcome("charge", 1, (("succeeded", 3),), "succeeded"))
        now = self.world(Outcome("charge", 1, (("succeeded", 3), ("failed", "IntegrityError()")), "succeeded"))
        assert summary(judged(once, now)) == [("outcome", "charge", "succeeded", "failed")]
        assert shown(judged(once, now)) == [(0, "charge", "succeeded: 3", "failed: IntegrityError()", "attempt 2")]

    def test_retries_and_kills_are_no_outcomes(self) -> None:
        """Nor is an extra job of the same task."""
        once = self.world(Outcome("charge", 1, (("retried", "a"), ("succeeded", 3)), "succeeded"))
        now = self.world(
            Outcome("charge", 1, (("killed", "None"), ("retried", "b"), ("succeeded", 3)), "succeeded"),
            Outcome("charge", 2, (("succeeded", 5),), "succeeded"),
        )
        assert not judged(once, now).findings

    def test_a_child_published_twice_does_not_shift_the_others(self) -> None:
        """Jobs are matched by how they ended when numbers do not fit."""
        once = self.world(
            *(Outcome("mail", n, (("succeeded", text),), "succeeded") for n, text in ((1, "a"), (2, "b")))
        )
        now = self.world(
            *(Outcome("mail", n, (("succeeded", text),), "succeeded") for n, text in ((1, "a"), (2, "a"), (3, "b")))
        )
        assert not judged(once, now).findings
        assert summary(judged(now, once)) == [("outcome", "mail", "3 jobs", "2 jobs")]

    def test_a_uuid_made_for_each_delivery_is_no_difference(self) -> None:
        """The second delivery's own UUID is not the first one's."""
        one, two, three = (str(uuid.uuid4()) for _ in range(3))
        once = self.world(Outcome("t", 1, (("succeeded", one),), "succeeded"))
        now = self.world(Outcome("t", 1, (("succeeded", two), ("succeeded", three)), "succeeded"))
        assert not judged(once, now).findings

    def test_a_lost_job(self) -> None:
        """Told as that, once, with the reason where one is given; `lost` accepts it."""
        once = self.world(Outcome("shop.charge", 1, (("succeeded", 3),), "succeeded"))
        lost = Outcome("shop.charge", 1, (("killed", "None"),), "lost")
        now = self.world(lost, left=("shop.charge is lost: acknowledged before it ran",))
        assert summary(judged(once, now))[0] == ("lost", "lost", "", "acknowledged before it ran")
        assert [each.rule for each in judged(once, self.world(lost)).findings] == ["lost"]
        accepted = judged(once, self.world(lost), "lost")
        assert (accepted.findings, accepted.ignored) == ((), ("lost",))

    def test_a_loss_that_ignore_prevented(self) -> None:
        """`lost` has been of use where a message came back because of it, and where the undisturbed run loses the job too."""
        once = self.world(Outcome("shop.charge", 1, (("succeeded", 3),), "succeeded"))
        lost = self.world(Outcome("shop.charge", 1, (("retry lost", "None"),), "lost"))
        assert judged(once, replace(once, kept=1), "lost").matched == {"lost"}
        assert judged(lost, lost, "lost").matched == {"lost"}
        assert judged(once, once, "lost").matched == frozenset()

    def test_ignored_results(self) -> None:
        """The word `result` covers every job's."""
        once = self.world(Outcome("charge", 1, (("succeeded", 3),), "succeeded"))
        now = self.world(Outcome("charge", 1, (("succeeded", 4),), "succeeded"))
        compared = judged(once, now, "result")
        assert (compared.findings, compared.ignored, compared.matched) == ((), ("result",), {"result"})


class TestEffects:
    def effects(self, *effects: Effect) -> World:
        return World({}, effects=effects)

    def test_a_request_sent_twice(self) -> None:
        """Counted by target, with what was sent and where."""
        sent = Effect("http", POST, "POST https://pay.example/charges", detail="amount=500", where="pay.py:4")
        compared = judged(self.effects(sent), self.effects(sent, sent))
        assert summary(compared) == [("effect", "POST https://pay.example/charges", "1 request", "2 requests")]
        assert shown(compared)[1:] == [
            (1, "1.", "amount=500", "amount=500", ""),
            (1, "2.", "", "amount=500", "added at pay.py:4"),
        ]

    def test_the_same_key_counts_once(self) -> None:
        """An idempotency key makes a repetition none; safe effects and publishes are never counted."""
        keyed = Effect("http", POST, "POST", key="k1")
        safe = Effect("http", "http:PUT https://x", "PUT", safe=True)
        publish = Effect("publish", "publish:mail", "publish mail")
        assert not judged(
            self.effects(keyed, safe, publish), self.effects(keyed, keyed, safe, safe, publish, publish)
        ).findings
        assert judged(self.effects(keyed), self.effects(keyed, replace(keyed, key="k2"))).findings

    def test_a_uuid_in_the_target(self) -> None:
        """The address of something made in the run is its address in the other run."""
        one, two = (Effect("http", f"http:POST https://x/{uuid.uuid4()}/pay", "POST") for _ in range(2))
        assert not judged(self.effects(one), self.effects(two)).findings
        assert judged(self.effects(one), self.effects(two, two)).findings

    def test_nouns_and_subjects(self) -> None:
        """A mail is a mail, a mock's call a call."""
        mail, call = Effect("mail", "mail:ann@x.example", "mail"), Effect("mock", "mock:gateway.send", "send")
        assert summary(judged(self.effects(mail, call), self.effects(mail, mail))) == [
            ("effect", "mail to ann@x.example", "1 mail", "2 mails"),
            ("effect", "gateway.send", "1 call", "0 calls"),
        ]

    def test_a_write_told_by_its_table_is_not_told_twice(self) -> None:
        """The rows say it better."""
        insert = Effect("sql", "payments", "INSERT payments")
        once = World({"payments": table({"id": 1})}, effects=(insert,))
        now = World({"payments": table({"id": 1}, {"id": 2})}, effects=(insert, insert))
        assert [each.rule for each in judged(once, now).findings] == ["state"]

    def test_ignored_requests(self) -> None:
        """By pattern, which is named."""
        sent = Effect("http", POST, "POST")
        compared = judged(self.effects(sent), self.effects(sent, sent), "http:POST https://pay.example/*", "http:GET *")
        assert (compared.findings, compared.ignored) == ((), ("http:POST https://pay.example/*",))
        assert Ignore(["http:GET *"]).unused(compared.matched) == ("http:GET *",)


class TestIgnore:
    def test_a_column_and_a_table(self) -> None:
        """What was hidden is named, what matched without hiding is not unused."""
        once = {"payments": table({"id": 1, "at": 1, "n": 1}), "log": table({"id": 1})}
        now = {"payments": table({"id": 1, "at": 2, "n": 1}), "log": table({"id": 1}, {"id": 2})}
        ignore = ("payments.at", "log", "payments.n", "nothing.*")
        compared = judged(once, now, *ignore)
        assert (compared.findings, compared.ignored) == ((), ("payments.at", "log"))
        assert Ignore(ignore).unused(compared.matched) == ("nothing.*",)

    def test_keys_of_watched_values(self) -> None:
        """A pattern reaches into a mapping and into a list of records."""
        once, now = {"a": {"x": 1, "y": 1}, "b": [{"x": 1}]}, {"a": {"x": 2, "y": 1}, "b": [{"x": 2}]}
        assert not judged(once, now, "*.x").findings

    def test_redis_keys_and_case(self) -> None:
        """Globs are case-sensitive."""
        assert not judged({"redis:lock:7": 1}, {"redis:lock:7": 2}, "redis:lock:*").findings
        assert judged({"redis:Lock:7": 1}, {"redis:Lock:7": 2}, "redis:lock:*").findings

    def test_misuse(self) -> None:
        """One string instead of a list is refused aloud."""
        with pytest.raises(UsageError, match="one string"):
            Ignore("payments")
        with pytest.raises(UsageError, match="a pattern is a text"):
            Ignore([3])  # type: ignore[list-item]


def test_what_is_left_over() -> None:
    """Only what was not left over before, words of it may be ignored."""
    once, now = World({}, left=("a is pending",)), World({}, left=("a is pending", "redis:lock:7 is still held"))
    assert summary(judged(once, now)) == [("left", "left over", "", "redis:lock:7 is still held")]
    assert judged(once, now, "redis:lock:*").ignored == ("redis:lock:*",)


def test_unreadable_parts_are_carried_and_never_differences() -> None:
    """A table that could not be read in one run did not vanish."""
    blind = Unreadable("sqlalchemy", "the connection is closed")
    compared = judged(World({"t": table({"id": 1}), "redis:a": 1}), World({}, unreadable=(blind,)))
    assert summary(compared) == [("state", "redis:a", "1", "absent")]
    assert compared.unreadable == (blind,)


def test_the_worst_comes_first() -> None:
    """A repeated request before rows, rows before results."""
    sent = Effect("http", POST, "POST")
    once = World({"t": table()}, (sent,), (Outcome("a", 1, (("succeeded", 1),), "succeeded"),))
    now = World(
        {"t": table({"id": 1})}, (sent, sent), (Outcome("a", 1, (("succeeded", 2),), "succeeded"),), ("x is pending",)
    )
    assert [each.rule for each in judged(once, now).findings] == ["effect", "state", "outcome", "left"]


def test_ten_thousand_rows_and_one_more() -> None:
    """Many rows with made keys, references and UUIDs are compared, and the one that came is found."""

    def state(offset: int) -> dict[str, Any]:
        users = [{"id": n + offset, "name": f"user {n}", "token": str(uuid.uuid4())} for n in range(5000)]
        orders = [{"id": n + offset, "user": n // 2 + offset, "sum": n % 7} for n in range(5000)]
        return {
            "users": Rows(("id",), tuple(users), surrogate=True),
            "orders": Rows(("id",), tuple(orders), surrogate=True, references={"user": "users"}),
        }

    once, now = state(1), state(7)
    assert not judged(once, now).findings
    now["orders"] = replace(now["orders"], rows=(*now["orders"].rows, {"id": 99_999, "user": 7, "sum": 1}))
    assert summary(judged(once, now)) == [("state", "orders", "5,000 rows", "5,001 rows")]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5) | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), _json, max_size=4))
def test_a_world_equals_itself(state: dict[str, Any]) -> None:
    """Whatever it holds."""
    assert not judged(state, state).findings


@given(_json, _json)
def test_a_difference_seen_one_way_is_seen_the_other_way(once: Any, now: Any) -> None:
    """Comparing never raises and is symmetrical; what it finds it can show."""
    there, back = judged({"it": once}, {"it": now}), judged({"it": now}, {"it": once})
    assert len(there.findings) == len(back.findings)
    assert all(finding.evidence for finding in there.findings)


@pytest.mark.parametrize(("now", "left", "found"), [(START + 60, 60.0, 0), (START + 59, 60.0, 1), (START + 60, 90.0, 1)])
def test_what_has_expired_meanwhile(now: float, left: float, found: int) -> None:
    """A key that lives for a minute is gone after a schedule that takes an hour; one that must still be there is missed."""
    key = {"redis:hint": "v", "redis:hint expires": Lifetime.of(left)}
    once = World({**key, "t": 1}, instants=frozenset({START}))
    later = World({"t": 1}, instants=frozenset({START, now}))
    assert [(each.subject, each.once, each.now) for each in compare(once, later, Ignore([])).findings] == [
        ("redis:hint", "'v'", "absent"),
    ][:found]  # fmt: skip
    assert len(compare(later, once, Ignore([])).findings) == 1


def test_a_server_of_the_tests_own() -> None:
    """It listens on another port each time; a port that somebody chose is another server."""
    once, now = "http://127.0.0.1:43153/a", "http://127.0.0.1:60001/a"
    assert not judged({"hook": once, f"http:PUT {once}": 1}, {"hook": now, f"http:PUT {now}": 1}).findings
    for other in ("http://127.0.0.1:60001/b", "http://127.0.0.1:8000/a", "http://shop.example:43154/a"):
        assert judged({"hook": once}, {"hook": other}).findings


def test_what_a_databases_own_clock_writes_is_a_time_of_the_run() -> None:
    """CURRENT_TIMESTAMP follows no virtual clock; a time before or after the runs is a difference as ever."""
    once = World({"at": ["2026-11-26 20:16:01", 1795724161.25, None]}, real=(1795724160.0, 1795724162.0))
    later = ["2026-11-26 20:16:09.123456", 1795724169, None]
    assert not judged({}, {}).findings
    assert compare(once, World({"at": later}, real=(1795724168.0, 1795724170.0)), Ignore([])).findings == ()
    assert compare(once, World({"at": [*later[:2], later[0]]}, real=(1795724168.0, 1795724170.0)), Ignore([])).findings
    assert compare(once, World({"at": later}, real=(1795724160.0, 1795724162.0)), Ignore([])).findings
    assert compare(once, World({"at": ["2026-11-26 20:17:01", *later[1:]]}, real=(1795724168.0, 1795724170.0)), Ignore([])).findings


def test_a_path_below_each_runs_own_folder() -> None:
    """`tmp_path` is another one in each run; what lies at the same place below it is the same."""
    worlds = [
        World({"exports": Rows(("id",), ({"id": 1, "file": f"{home}/{name}"},)), "last": [f"{home}/{name}", Path(home, name)]}, home=home)
        for home, name in (("/t/test_x1", "a.csv"), ("/t/test_x10", "a.csv"), ("/t/test_x1", "b.csv"))
    ]
    assert not compare(worlds[0], worlds[1], Ignore(())).findings
    assert len(compare(worlds[0], worlds[2], Ignore(())).findings) == 2
