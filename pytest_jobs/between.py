"""A value that a task passes through on its way: where a run ends with it, the work is stuck."""

import re
from collections.abc import Iterable
from dataclasses import replace

from pytest_jobs.records import Effect
from pytest_jobs.world import Finding

__all__ = ["stuck"]

STATUS = re.compile(r"'[\w .-]+'")


def stuck(finding: Finding, effects: Iterable[Effect]) -> Finding:
    """Tell a field or key that holds what the undisturbed run wrote there too, and then replaced.

    Args:
        finding: A difference of states.
        effects: What the undisturbed run did.
    """
    if finding.rule != "state" or not STATUS.fullmatch(finding.now) or not STATUS.fullmatch(finding.once):
        return finding
    table = finding.subject.rpartition(".")[0]
    plain = re.compile(rf"(?<![\w']){re.escape(finding.now.strip(chr(39)))}(?![\w'])")
    for effect in effects:
        of_row = effect.kind == "sql" and effect.target == table and finding.now in effect.detail
        of_key = effect.kind == "redis" and effect.target == finding.subject and plain.search(effect.detail)
        if of_row or of_key:
            return replace(finding, rule="stuck", once="", now=f"stuck at {finding.now}")
    return finding
