"""What counts as the same value in two runs: times of the run, made-up ids, order."""

import re
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any
from uuid import UUID

__all__ = ["Instants", "Opaque", "Tokens", "plain_fields", "safe_repr", "uuids_in"]

EARLIEST = 10**8
DEEPEST = 60
MICRO = 1_000_000
UNIX_DAY = date(1970, 1, 1).toordinal()
NAME = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?<![0-9a-zA-Z])[0-9a-fA-F]{32}(?![0-9a-zA-Z])"
ISO = (
    r"(?<!\d)(?P<y>\d{4})-(?P<mo>\d\d)-(?P<d>\d\d)"
    r"(?:[T ](?P<h>\d\d):(?P<mi>\d\d)(?::(?P<s>\d\d)(?:[.,](?P<f>\d{1,9}))?)?"
    r"(?P<z> ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?(?!\d)"
)
MAIL_DATE = r"(?P<rfc>[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|[+-]\d{4}))"
EPOCH = r"(?<![\d.])(?P<epoch>\d{9,19}(?:\.\d+)?)(?!\d)"
SPECIAL = re.compile(f"(?P<name>{NAME})|{ISO}|{MAIL_DATE}|{EPOCH}")
WORTH_A_LOOK = re.compile(r"\d{4}-\d\d-|\d \w{3} \d{4} \d\d:|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|[0-9a-fA-F]{9}")
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
            if self.value is other.value or bool(self.value == other.value):
                return True
        except Exception:  # noqa: BLE001 - numpy arrays and broken __eq__ methods must not end the comparison
            pass
        return self.content == other.content


class Instants:
    """Owns the moments at which a virtual clock stood, and knows them again in every usual form."""

    def __init__(self, moments: Iterable[float]) -> None:
        micros = {round(moment * MICRO) for moment in moments}
        self.micros = frozenset(micros)
        self.millis = frozenset(each // 1000 for each in micros)
        self.seconds = frozenset(each // MICRO for each in micros) | {round(each / MICRO) for each in micros}
        self.minutes = frozenset(each // (60 * MICRO) for each in micros)
        local = {_local_day(each // MICRO) for each in micros}
        self.days = frozenset(each // (86_400 * MICRO) for each in micros) | local

    def has_micros(self, micros: int, resolution: int = 1) -> bool:
        """Tell whether this is one of the moments, or one cut to the resolution that it is written in."""
        if micros in self.micros:
            return True
        if resolution >= 60 * MICRO:
            return micros // (60 * MICRO) in self.minutes
        if micros % MICRO == 0 and micros // MICRO in self.seconds:
            return True
        return micros % 1000 == 0 and micros // 1000 in self.millis

    def has_datetime(self, value: datetime) -> bool:
        """Tell whether a datetime is one of the moments; a naive one may be UTC or local."""
        return any(self.has_micros(micros) for micros in epoch_micros(value))

    def has_day(self, value: date) -> bool:
        """Tell whether one of the moments lies on this day."""
        return value.toordinal() - UNIX_DAY in self.days

    def has_number(self, value: float | Decimal) -> bool:
        """Tell whether a number is one of the moments in seconds, milli-, micro- or nanoseconds since the epoch."""
        if not EARLIEST <= value < 10**19:
            return False
        whole = int(value)
        if value == whole:
            return whole in self.seconds or whole in self.millis or whole in self.micros or whole // 1000 in self.micros
        return round(value * MICRO) in self.micros or round(value * 1000) in self.micros or whole in self.micros

    def has_match(self, match: re.Match[str]) -> bool:
        """Tell whether a piece of text that `SPECIAL` found is one of the moments."""
        if (number := match["epoch"]) is not None:
            return self.has_number(Decimal(number))
        moment = read_moment(match)
        if moment is None:
            return False
        if match["y"] is not None and match["h"] is None:
            return self.has_day(moment)
        coarse = 60 * MICRO if match["y"] is not None and match["s"] is None else 1
        return any(self.has_micros(micros, coarse) for micros in epoch_micros(moment))


def _local_day(seconds: int) -> int:
    # mktime is the one local conversion that freezegun leaves alone: https://github.com/spulec/freezegun
    try:
        offset = seconds - round(time.mktime((1970, 1, 1, 0, 0, seconds, -1, -1, -1)))
    except (OverflowError, ValueError):
        offset = 0
    return (seconds + offset) // 86_400


def read_moment(match: re.Match[str]) -> datetime | None:
    """Return the datetime that a piece of text shows."""
    try:
        if (mail := match["rfc"]) is not None:
            return parsedate_to_datetime(mail)
        if match["y"] is None:
            return None
        text = match[0].replace(",", ".").replace(" UTC", "Z").replace("UTC", "Z")
        return datetime.fromisoformat(text.replace(" Z", "Z").replace(" +", "+").replace(" -", "-"))
    except ValueError:
        return None


def epoch_micros(value: datetime) -> tuple[int, ...]:
    """Return the microseconds since the epoch that a datetime can stand for."""
    seconds = (value.toordinal() - UNIX_DAY) * 86_400 + value.hour * 3600 + value.minute * 60 + value.second
    micros = seconds * MICRO + value.microsecond
    offset = value.utcoffset()
    if offset is not None:
        return (micros - (offset.days * 86_400 + offset.seconds) * MICRO - offset.microseconds,)
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, -1, -1, -1)
    try:
        local = round(time.mktime(parts)) * MICRO + value.microsecond
    except (OverflowError, ValueError):
        return (micros,)
    return (micros,) if local == micros else (micros, local)


class Tokens:
    """Owns the canonical form of one world's values: equal tokens are the same value as far as a user cares.

    Args:
        instants: The moments of both runs.
        label: Gives the canonical form of a UUID, its 32 lower-case digits given.
    """

    def __init__(self, instants: Instants, label: Callable[[str], Hashable]) -> None:
        self.instants = instants
        self.label = label
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
            if isinstance(value, Set):
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
            token = self._texts[text] = self._pieces(text) if WORTH_A_LOOK.search(text) else text
        return token

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
    elif isinstance(value, Set):
        yield from (("in", each) for each in value)
    elif isinstance(value, Sequence):
        yield from enumerate(value)
    else:
        yield from (plain_fields(value) or {}).items()
