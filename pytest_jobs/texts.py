"""How a value is shown in a column, and where two long texts differ."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Any

from pytest_jobs.canonical import safe_repr
from pytest_jobs.world import Evidence

__all__ = ["ABSENT", "WIDEST", "brief", "region", "short", "text_lines"]

WIDEST = 36


class _Absent:
    """Stands for a subject, key or item that is not there."""

    __slots__ = ()


ABSENT = _Absent()


def short(task: str) -> str:
    """Return the last part of a task's name."""
    return task.rpartition(".")[2] or task


def brief(value: Any, width: int = WIDEST) -> str:
    """Show a value in at most `width` columns; empty when there is none."""
    if value is ABSENT:
        return ""
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ")
    elif isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, str | bytes) and len(value) > 4 * width:
        text = safe_repr(value[: 4 * width])
    elif isinstance(value, list | tuple | AbstractSet | Mapping) and len(value) > width:
        text = f"{len(value):,} items"
    else:
        text = safe_repr(value)
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def text_lines(label: str, once: Any, now: Any, depth: int) -> Iterator[Evidence]:
    """Show where two texts differ, both `str` or both `bytes`: line by line when they have lines."""
    shown = (safe_repr(once), safe_repr(now)) if max(len(once), len(now)) <= WIDEST else ("", "")
    if any(shown) and max(map(len, shown)) <= WIDEST:
        yield Evidence(label, *shown, "", depth)
        return
    cut = b"\n" if isinstance(once, bytes) else "\n"
    left, right = once.split(cut), now.split(cut)
    if max(len(left), len(right)) == 1:
        yield Evidence(label, *region(once, now), "", depth)
        return
    yield Evidence(label, _size(once), _size(now), "", depth)
    start = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    tail = 0
    while tail < min(len(left), len(right)) - start and left[-1 - tail] == right[-1 - tail]:
        tail += 1
    old, new = left[start : len(left) - tail], right[start : len(right) - tail]
    for number in range(max(len(old), len(new))):
        a, b = old[number] if number < len(old) else ABSENT, new[number] if number < len(new) else ABSENT
        if a != b:
            both = (brief(a), brief(b)) if a is ABSENT or b is ABSENT else region(a, b)
            note = "added" if a is ABSENT else "removed" if b is ABSENT else ""
            yield Evidence(f"line {start + number + 1}", *both, note, depth + 1)


def _size(text: Any) -> str:
    unit = "byte" if isinstance(text, bytes) else "character"
    return f"{len(text):,} {unit}{'' if len(text) == 1 else 's'}"


def region(once: Any, now: Any) -> tuple[str, str]:
    """Show the part in which two texts differ, with a little around it."""
    if max(len(once), len(now)) <= WIDEST - 2:
        return brief(once), brief(now)
    start = 0
    low, high = 0, min(len(once), len(now))
    while low < high:
        middle = (low + high + 1) // 2
        if once[:middle] == now[:middle]:
            low = middle
        else:
            high = middle - 1
    start = max(low - 8, 0)
    shown = []
    for text in (once, now):
        piece = safe_repr(text[start : start + WIDEST - 4])
        piece = f"…{piece}" if start else piece
        shown.append(f"{piece}…" if start + WIDEST - 4 < len(text) else piece)
    if shown[0] == shown[1]:
        shown = [f"{shown[0]} ({_size(once)})", f"{shown[1]} ({_size(now)})"]
    return shown[0], shown[1]
