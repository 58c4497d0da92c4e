"""What was sent over a network, read without using it up, as a value that two runs can be compared by."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["meaning", "sent"]

WHOLE = 64 * 1024


def sent(body: Any) -> bytes | str:
    """Return a body as it is sent, as far as it can be seen without using it up.

    Args:
        body: Bytes, text, a file, a form, or anything that a client takes.
    """
    if body is None:
        return b""
    if isinstance(body, bytes | str):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, Mapping | list | tuple):
        return json.dumps(body, default=str)
    read = _read(body)
    return read if read is not None else f"<{type(body).__name__}>"


def meaning(content: bytes | str) -> Any:
    """Return JSON as data, so that a difference is shown by its parts; other text as it is, much of it as a digest."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    if len(data) > WHOLE:
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _read(stream: Any) -> bytes | str | None:
    tell, read, seek = (getattr(stream, name, None) for name in ("tell", "read", "seek"))
    if tell is None or read is None or seek is None:
        return None
    try:
        place = tell()
        content = read()
        seek(place)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, bytes | str) else None
