"""Jobs that end without an execution, as Celery tells of them by signals."""

from contextlib import ExitStack
from typing import Any

from celery import signals
from celery.exceptions import NotRegistered, TaskRevokedError

from pytest_jobs.queues.base import Host

__all__ = ["listen"]
__tracebackhide__ = True


def listen(stack: ExitStack, host: Host) -> None:
    """Tell the host of jobs that were revoked, unknown or rejected, until the stack is closed."""

    def revoked(sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
        host.ended(request.id, "revoked", TaskRevokedError("expired" if expired else "revoked"))

    def unknown(sender: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002
        host.ended(id, "failed", NotRegistered(name))

    def rejected(sender: Any, message: Any, exc: BaseException | None = None, **_: Any) -> None:
        if isinstance(message.headers, dict) and "id" in message.headers:
            host.ended(message.headers["id"], "rejected", exc)

    for signal, receiver in (
        (signals.task_revoked, revoked),
        (signals.task_unknown, unknown),
        (signals.task_rejected, rejected),
    ):
        signal.connect(receiver, weak=False)
        stack.callback(signal.disconnect, receiver)
