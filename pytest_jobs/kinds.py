"""The kinds of schedules, by name."""

from collections.abc import Iterable

from pytest_jobs.errors import UsageError

__all__ = ["KINDS", "kinds"]

KINDS = ("twice", "late", "crash", "fail", "reply-lost", "overlap")


def kinds(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Check names of kinds; `all` stands for every kind.

    Raises:
        UsageError: When one is unknown.
    """
    wanted: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or name not in {*KINDS, "all"}:
            raise UsageError(f"{where} was given the schedule kind {name!r}; allowed are {', '.join(KINDS)} and all")
        wanted.update(dict.fromkeys(KINDS if name == "all" else (name,)))
    return tuple(wanted)
