"""What counts as the same value in two runs: times of the run, made-up ids, order."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pytest_jobs.instants import NAME, SPECIAL, Instants, epoch_micros

__all__ = ["Opaque", "Tokens", "plain_fields", "safe_repr", "uuids_in"]

DEEPEST = 60
WORTH_A_LOOK = re.compile(r"\d{4}-\d\d-|\d \w{3} \d{4} \d\d:|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|[0-9a-fA-F]{9}")
TIME_OF_DAY = re.compile(r"(?:[01]\d|2[0-3])(?::[0-5]\d){2}(?:\.\d{1,6})?")
# A server that a test starts for itself listens on another port each time.
LOCAL = re.compile(r"//(?:127\.0\.0\.1|localhost|\[::1\]):(?:3[2-9]|[4-6]\d)\d{3}(?!\d)")
UUID_TEXT = re.compile(NAME)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

Found = tuple[tuple[Hashable, ...], str]


def plain_fields(value: Any) -> Mapping[str, Any] | None:
    """Return what an object holds, None when that cannot be seen."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name, None) for each in fields(value)}
    if isinstance(value, BaseException):
        return {"args": value.args}
    try:
        held = vars(value)
    except TypeError:
        return None
    return {name: each for name, each in held.items() if not name.startswith("_")}


class Opaque:
    """Owns a value of an unknown type, equal to another as far as its own `==`, its fields or its repr say so."""

    __slots__ = ("content", "value")

    def __init__(self, value: Any, content: Hashable) -> None:
        self.value = value
        self.content = content

    def __hash__(self) -> int:
        return hash(type(self.value).__qualname__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque) or type(self.value).__qualname__ != type(other.value).__qualname__:
            return False
        try:
            same = self.value is other.value or bool(self.value == other.value)
        except Exception:  # noqa: BLE001 - numpy arrays and broken __eq__ methods must not end the comparison
            same = False
        return same or self.content == other.content


class Tokens:
    """Owns the canonical form of one world's values: equal tokens are the same value as far as a user cares.

    Args:
        instants: The moments of both runs.
        label: Gives the canonical form of a UUID, its 32 lower-case digits given.
        homes: Where the `tmp_path` of each run lay.
    """

    def __init__(self, instants: Instants, label: Callable[[str], Hashable], homes: Iterable[str] = ()) -> None:
        self.instants = instants
        self.label = label
        self.homes = sorted({*homes} - {""}, key=len, reverse=True)
        self._texts: dict[str, Hashable] = {}
        self._open: set[int] = set()

    def of(self, value: Any) -> Hashable:
        """Return a hashable that equals that of every value which is no different."""
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None:
            return None
        if kind is bool:
            return ("bool", value)
        if isinstance(value, Enum):
            return ("enum", kind.__qualname__, value.name)
        if isinstance(value, int | float | Decimal):
            return self._number(value)
        return self._other(value)

    def _other(self, value: Any) -> Hashable:
        if isinstance(value, str):
            return self._text(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return ("bytes", self._text(bytes(value).decode("latin-1")))
        if isinstance(value, datetime):
            if self.instants.has_datetime(value):
                return ("time of the run",)
            return ("naive" if value.utcoffset() is None else "aware", epoch_micros(value)[0])
        if isinstance(value, date):
            return ("day of the run",) if self.instants.has_day(value) else ("day", value.toordinal())
        if isinstance(value, time):
            return ("hour of the run",) if self.instants.has_time(value) else ("time", value.isoformat())
        if isinstance(value, UUID):
            return ("uuid", self.label(value.hex))
        if id(value) in self._open or len(self._open) > DEEPEST:
            return ("deep", type(value).__qualname__, safe_repr(value))
        self._open.add(id(value))
        try:
            return self._container(value)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any) -> Hashable:
        try:
            if isinstance(value, Mapping):
                return ("map", frozenset((self.of(key), self.of(each)) for key, each in value.items()))
            if isinstance(value, AbstractSet):
                return ("set", frozenset(self.of(each) for each in value))
            if isinstance(value, Sequence):
                return ("list", *map(self.of, value))
            if callable(listed := getattr(value, "tolist", None)):
                return ("array", self.of(listed()))
            held = plain_fields(value)
            content = frozenset((name, self.of(each)) for name, each in held.items()) if held else safe_repr(value)
        except Exception:  # noqa: BLE001 - a value that cannot be walked is compared by what it shows
            content = safe_repr(value)
        return Opaque(value, self._text(content) if isinstance(content, str) else content)

    def _number(self, value: float | Decimal) -> Hashable:
        try:
            if value != value:  # noqa: PLR0124 - the test for NaN that Decimal and float share
                return ("nan",)
            if self.instants.has_number(value):
                return ("number", "time of the run")
            hash(value)
        except (TypeError, ValueError, ArithmeticError):
            return ("number", str(value))
        return ("number", value)

    def _text(self, text: str) -> Hashable:
        if len(text) < 8:
            return text
        token = self._texts.get(text)
        if token is None:
            token = self._texts[text] = self._form(text)
        return token

    def _form(self, text: str) -> Hashable:
        for home in self.homes:
            text = text.replace(home, "tmp_path")
        if "//" in text:
            text = LOCAL.sub("//a test's server", text)
        if TIME_OF_DAY.fullmatch(text) and self.instants.has_time(time.fromisoformat(text)):
            return ("hour of the run",)
        return self._pieces(text) if WORTH_A_LOOK.search(text) else text

    def _pieces(self, text: str) -> Hashable:
        pieces: list[Hashable] = []
        done = 0
        for match in SPECIAL.finditer(text):
            name = match["name"]
            if name is not None:
                piece: Hashable = ("uuid", self.label(name.replace("-", "").lower()))
            elif self.instants.has_match(match):
                piece = ("time of the run",)
            else:
                continue
            pieces += [text[done : match.start()], piece]
            done = match.end()
        return ("text", *pieces, text[done:]) if pieces else text


def safe_repr(value: Any) -> str:
    """Return a value's repr without memory addresses, whatever its own `__repr__` does."""
    try:
        return ADDRESS.sub("", repr(value))
    except Exception:  # noqa: BLE001 - a broken __repr__ must not end the comparison
        return f"<{type(value).__qualname__}>"


def uuids_in(value: Any, shape: Callable[[Any], Hashable], place: tuple[Hashable, ...] = ()) -> Iterator[Found]:
    """Find every UUID in a value, each with the place where it stands; the order of mappings and sets plays no part.

    Args:
        value: Any value.
        shape: Gives the token of a mapping's key.
        place: Where the value itself stands.
    """
    if value is None or isinstance(value, int | float | Decimal | date) or len(place) > DEEPEST:
        return
    if isinstance(value, UUID):
        yield place, value.hex
        return
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("latin-1")
    if isinstance(value, str):
        if len(value) >= 32:
            for position, match in enumerate(UUID_TEXT.finditer(value)):
                yield (*place, position), match[0].replace("-", "").lower()
        return
    try:
        parts = list(_parts(value, shape))
    except Exception:  # noqa: BLE001 - a value that cannot be walked holds no UUID that could be told apart
        return
    for where, part in parts:
        yield from uuids_in(part, shape, (*place, where))


def _parts(value: Any, shape: Callable[[Any], Hashable]) -> Iterator[tuple[Hashable, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield "key", key
            yield shape(key), each
    elif isinstance(value, AbstractSet):
        yield from (("in", each) for each in value)
    elif isinstance(value, Sequence):
        yield from enumerate(value)
    else:
        yield from (plain_fields(value) or {}).items()
