"""Messages: published, and read as they lie in a queue."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery.canvas import Signature, _chain, group
from kombu import serialization
from kombu.exceptions import EncodeError
from kombu.transport.virtual import Base64

from pytest_jobs.errors import UsageError
from pytest_jobs.queues.base import Envelope
from pytest_jobs.queues.celery_servers import Server

__all__ = ["applied", "decoded", "envelope_of"]
__tracebackhide__ = True


class UnencodableArguments(UsageError, EncodeError):
    """Tell, in one sentence and as production's own error, that a message cannot be made."""


def applied(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Publish a task or signature; return the job's id.

    Raises:
        UsageError: When the serializer refuses the arguments, or when there is no one job to tell of.
    """
    last = task.tasks[-1] if isinstance(task, _chain) and task.tasks else task
    if isinstance(last, group):
        raise UsageError(f"{task!r} is a group, many jobs; publish it with .delay() or .apply_async(), then jobs.settle()")
    try:
        return str(task.apply_async(args, kwargs, **options).id)
    except EncodeError as error:
        name = getattr(task, "task" if isinstance(task, Signature) else "name", task)
        raise UnencodableArguments(f"the serializer of {name} refuses its arguments: {error}") from error


def decoded(message: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments of a message, whatever serializer wrote them."""
    try:
        payload = _payload(message)
    except Exception:  # noqa: BLE001 - the worker cannot read it either, and says so
        return (), {}
    if isinstance(payload, dict):
        return tuple(payload.get("args") or ()), dict(payload.get("kwargs") or {})
    args, kwargs, _embed = payload
    return tuple(args), dict(kwargs)


def _payload(message: dict[str, Any]) -> Any:
    body, encoding = message["body"], message["properties"].get("body_encoding")
    data = Base64().decode(body) if encoding == "base64" else body
    return serialization.loads(data, message["content-type"], message["content-encoding"], force=True)


def _protocol_1(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a message of task protocol 1 says in its body."""
    try:
        payload = _payload(message)
    except Exception:  # noqa: BLE001 - what nobody can decode is no task's message
        return None
    return payload if isinstance(payload, dict) and "id" in payload and "task" in payload else None


def envelope_of(
    server: Server, queue: str, message: dict[str, Any], raw: str, *, popped: bool = False
) -> Envelope | None:
    """Read a message, to be delivered when it was popped; None when it is no task's."""
    headers, properties = message["headers"], message["properties"]
    if not isinstance(headers, dict) or "id" not in headers or "task" not in headers:
        headers = _protocol_1(message)
    if headers is None:
        return None
    eta = headers.get("eta")
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is not None:
        eta = (eta if eta.tzinfo else eta.replace(tzinfo=UTC)).astimezone(UTC)
    redelivered = bool((properties.get("delivery_info") or {}).get("redelivered"))
    return Envelope(
        headers["id"], headers["task"], queue, raw, properties["delivery_tag"], eta, headers.get("retries") or 0,
        headers.get("parent_id"), redelivered, server, message if popped else None,
    )
