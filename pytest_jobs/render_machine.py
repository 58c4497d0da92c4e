"""The words of state machines of jobs."""

from collections.abc import Sequence

from pytest_jobs.render import DOCS, Failure, failure
from pytest_jobs.texts import short
from pytest_jobs.verdict import Comparison

__all__ = ["after_ack", "unlike"]

STORY = (
    "What happened is listed below, step by step; the undisturbed world (once) ran each job as soon as it was",
    "published, and let the same time pass.",
)


def unlike(machine: str, compared: Comparison, timeline: Sequence[str], notes: Sequence[str]) -> str:
    """Tell that the disturbed world came to rest otherwise than the undisturbed one."""
    head = f"{machine} does not recover: "
    said = (*STORY, *notes)
    return failure(Failure("", "", compared.findings, compared.ignored, tuple(timeline), notes=said, head=head))


def after_ack(machine: str, task: str, timeline: Sequence[str]) -> str:
    """Tell that the broker delivered a message which was acknowledged."""
    blocks = [
        f"{machine}: {short(task)} was delivered again after its acknowledgement",
        "\n".join(f" {line}" for line in timeline),
        "Nobody asked for that delivery: the message came back while a worker still held it, and both copies ran.\n"
        "The visibility timeout must be longer than the longest ETA, countdown and run.\n"
        f"Fix:     {DOCS}#after-ack",
    ]
    return "\n\n".join(block for block in blocks if block)
