"""Why a job is lost, in words."""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["why_lost"]


class _Attempt(Protocol):
    @property
    def outcome(self) -> str: ...

    @property
    def error(self) -> BaseException | None: ...


def why_lost(attempts: Sequence[_Attempt]) -> str:
    """Say how a job was lost, and which settings would have kept it."""
    last = attempts[-1].outcome if attempts else ""
    if last == "killed":
        return "acknowledged before it ran, then killed; acks_late=True would keep it"
    if last == "requeued":
        return "its requeue came after an early ack; acks_late=True would keep it"
    if last == "ignored":
        return "it raised Ignore, which stores no outcome"
    if last == "retry lost":
        return "its retry could not be published, so Celery dropped it; a longer retry_policy would bridge the outage"
    if last == "result lost":
        return "its result could not be stored; result_backend_always_retry would bridge the outage"
    return "its message left the queue without an outcome"
