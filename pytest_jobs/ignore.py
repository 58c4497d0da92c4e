"""Which differences a test says are fine."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pytest_jobs.errors import UsageError

__all__ = ["Ignore"]


@dataclass(frozen=True, slots=True)
class Ignore:
    """The `ignore` patterns of one test.

    Attributes:
        patterns: Case-sensitive globs over `table`, `table.column`, `redis:key`, `http:METHOD url`, `mail:address`,
            `file:path`, `publish:task`; the words `result` (job results) and `lost`.
    """

    patterns: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.patterns, str):
            raise UsageError(f"ignore={self.patterns!r} is one string: give a list of patterns, [{self.patterns!r}]")
        if not isinstance(self.patterns, Collection):
            raise UsageError(f"ignore={self.patterns!r} is no list: give a list of patterns, ['payments.updated_at']")
        for pattern in self.patterns:
            if not isinstance(pattern, str) or not pattern:
                raise UsageError(f"ignore has {pattern!r}: a pattern is a text such as 'payments.updated_at'")
        object.__setattr__(self, "patterns", tuple(dict.fromkeys(self.patterns)))

    def find(self, subject: str) -> str | None:
        """Return the first pattern that covers a subject, None when it is to be compared."""
        return next((pattern for pattern in self.patterns if pattern == subject or fnmatchcase(subject, pattern)), None)

    def all(self, subject: str) -> frozenset[str]:
        """Return every pattern that covers a subject."""
        return frozenset(pattern for pattern in self.patterns if pattern == subject or fnmatchcase(subject, pattern))

    def unused(self, matched: frozenset[str]) -> tuple[str, ...]:
        """Return the patterns that are in none of the `matched` sets of the test's comparisons, joined by the caller."""
        return tuple(pattern for pattern in self.patterns if pattern not in matched)
