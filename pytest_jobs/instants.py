"""The moments of a run, in every form in which a program writes them down."""

import re
import time
from collections.abc import Iterable
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from email.utils import parsedate_to_datetime
from math import ceil, floor

__all__ = ["NAME", "SPECIAL", "Instants", "epoch_micros", "read_moment"]

EARLIEST = 10**8
MICRO = 1_000_000
DAY = 86_400 * MICRO
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


class Instants:
    """Owns the moments at which a virtual clock stood, and knows them again in every usual form.

    Args of the constructor:
        moments: The moments, in epoch seconds.
        spans: First and last second of real time during the runs: what a database's own clock may say.
    """

    def __init__(self, moments: Iterable[float], spans: Iterable[tuple[float, float]] = ()) -> None:
        self.spans = tuple((floor(first) * MICRO, ceil(last) * MICRO) for first, last in spans if last)
        micros = {round(moment * MICRO) for moment in moments}
        self.micros = frozenset(micros)
        self.millis = frozenset(each // 1000 for each in micros)
        self.seconds = frozenset(each // MICRO for each in micros) | {round(each / MICRO) for each in micros}
        self.minutes = frozenset(each // (60 * MICRO) for each in micros)
        self._offsets = frozenset({0, *(_offset(each // MICRO) * MICRO for each in micros)})
        self.days = frozenset((each + offset) // DAY for each in micros for offset in self._offsets)

    def has_micros(self, micros: int, resolution: int = 1) -> bool:
        """Tell whether this is one of the moments, or one cut to the resolution that it is written in."""
        if micros in self.micros or any(first <= micros <= last for first, last in self.spans):
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

    def has_time(self, value: time_of_day) -> bool:
        """Tell whether this is the time of day, UTC or local, of one of the moments."""
        micros = ((value.hour * 60 + value.minute) * 60 + value.second) * MICRO + value.microsecond
        places = {(micros - offset) % DAY for offset in self._offsets}
        known = {each % DAY for each in self.micros} | {each * MICRO % DAY for each in self.seconds}
        spans = [(first % DAY, last - first) for first, last in self.spans]
        return bool(places & known) or any((place - first) % DAY <= length for place in places for first, length in spans)

    def has_number(self, value: float | Decimal) -> bool:
        """Tell whether a number is one of the moments in seconds, milli-, micro- or nanoseconds since the epoch."""
        if not EARLIEST <= value < 10**19:
            return False
        whole = int(value)
        if any(first <= value * MICRO <= last for first, last in self.spans):
            return True
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


def _offset(seconds: int) -> int:
    # mktime is the one local conversion that freezegun leaves alone: https://github.com/spulec/freezegun
    try:
        return seconds - round(time.mktime((1970, 1, 1, 0, 0, seconds, -1, -1, -1)))
    except (OverflowError, ValueError):
        return 0


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
