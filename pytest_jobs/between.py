"""A value that a task passes through on its way: where a run ends with it and never wrote the last one, the work is stuck."""

import re
from collections.abc import Iterable
from dataclasses import replace

from pytest_jobs.records import Effect
from pytest_jobs.world import Finding

__all__ = ["stuck"]

STATUS = re.compile(r"'[\w .-]+'")


def stuck(finding: Finding, once: Iterable[Effect], now: Iterable[Effect]) -> Finding:
    """Tell a field or key that holds what the undisturbed run wrote there on its way, and went beyond.

    Args:
        finding: A difference of states.
        once: What the undisturbed run did.
        now: What the other one did.
    """
    if finding.rule != "state" or not STATUS.fullmatch(finding.now) or not STATUS.fullmatch(finding.once):
        return finding
    if _writes(finding.now, finding.subject, once) and not _writes(finding.once, finding.subject, now):
        return replace(finding, rule="stuck", once="", now=f"stuck at {finding.now}")
    return finding


def _writes(value: str, subject: str, effects: Iterable[Effect]) -> bool:
    """Whether an effect wrote a text to a column of a table, or to a key of Redis."""
    table = subject.rpartition(".")[0]
    plain = re.compile(rf"(?<![\w']){re.escape(value[1:-1])}(?![\w'])")
    return any(
        (effect.kind == "sql" and effect.target == table and value in effect.detail)
        or (effect.kind == "redis" and effect.target == subject and plain.search(effect.detail) is not None)
        for effect in effects
    )
