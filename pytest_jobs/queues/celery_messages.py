"""Messages as they lie in a queue, read."""

from datetime import UTC, datetime
from typing import Any

from kombu import serialization
from kombu.transport.virtual import Base64

from pytest_jobs.queues.base import Envelope
from pytest_jobs.queues.celery_servers import Server

__all__ = ["decoded", "envelope_of"]
__tracebackhide__ = True


def decoded(message: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments of a message, whatever serializer wrote them."""
    body, encoding = message["body"], message["properties"].get("body_encoding")
    data = Base64().decode(body) if encoding == "base64" else body
    payload = serialization.loads(data, message["content-type"], message["content-encoding"], accept=None)
    if isinstance(payload, dict):
        return tuple(payload.get("args") or ()), dict(payload.get("kwargs") or {})
    args, kwargs, _embed = payload
    return tuple(args), dict(kwargs)


def envelope_of(server: Server, queue: str, message: dict[str, Any], raw: str) -> Envelope | None:
    """Read a message; None when it is no task's."""
    headers, properties = message["headers"], message["properties"]
    if not isinstance(headers, dict) or "id" not in headers or "task" not in headers:
        return None
    eta = headers.get("eta")
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    if eta is not None:
        eta = (eta if eta.tzinfo else eta.replace(tzinfo=UTC)).astimezone(UTC)
    redelivered = bool((properties.get("delivery_info") or {}).get("redelivered"))
    return Envelope(
        headers["id"], headers["task"], queue, raw, properties["delivery_tag"], eta, headers.get("retries") or 0,
        headers.get("parent_id"), redelivered, server,
    )
