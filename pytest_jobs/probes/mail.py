"""Mail sent with smtplib and aiosmtplib."""

import sys
from collections.abc import Callable, Iterable, Mapping
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from typing import Any

from pytest_jobs.probes.base import Patches, Recorder
from pytest_jobs.records import Effect
from pytest_jobs.world import Unreadable

__all__ = ["MailProbe", "available"]

MODULES = ("smtplib", "aiosmtplib")
CLOSED = "Connection unexpectedly closed"


def available() -> bool:
    """Tell whether somebody has imported a mail library."""
    return any(hasattr(sys.modules.get(name), "SMTP") for name in MODULES)


class MailProbe:
    """Sees mails at the moment that they are handed to a server."""

    name = "mail"

    def __init__(self) -> None:
        self._patches = Patches()
        self._hooked: dict[str, Any] = {}
        self._recorder = Recorder()

    def install(self, recorder: Recorder) -> None:
        """Hook the libraries that are loaded."""
        self._recorder = recorder
        self.refresh()

    def refresh(self) -> None:
        """Hook a library that has been loaded since, or the class that a test has put in its place: it may have one method only."""
        for name, make in zip(MODULES, (self._make, self._make_async), strict=True):
            module = sys.modules.get(name)
            cls = getattr(module, "SMTP", None)
            if not isinstance(cls, type) or self._hooked.get(name) is cls:
                continue
            self._hooked[name] = cls
            for method, describe in (("send_message", _effect_of_message), ("sendmail", _effect_of_text)):
                self._patches.replace(cls, method, make(module, describe))

    def begin(self) -> None:
        """Look again: a job is about to run."""
        self.refresh()

    def remove(self) -> None:
        """Unhook them."""
        self._patches.undo()
        self._hooked.clear()

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return nothing: a mail cannot be looked at once it is sent."""
        return {}, ()

    def forget(self) -> None:
        """Nothing stays open that a dead process would close."""

    def _make(self, module: Any, describe: Callable[..., Effect]) -> Callable[[Any], Any]:
        recorder = self._recorder

        def make(original: Any) -> Any:
            def send(self: Any, *args: Any, **kwargs: Any) -> Any:
                if not recorder.active:
                    return original(self, *args, **kwargs)
                with recorder.doing(describe(*args, **kwargs), lambda: module.SMTPServerDisconnected(CLOSED)):
                    return original(self, *args, **kwargs)

            return send

        return make

    def _make_async(self, module: Any, describe: Callable[..., Effect]) -> Callable[[Any], Any]:
        recorder = self._recorder

        def make(original: Any) -> Any:
            async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
                if not recorder.active:
                    return await original(self, *args, **kwargs)
                with recorder.doing(describe(*args, **kwargs), lambda: module.SMTPServerDisconnected(CLOSED)):
                    return await original(self, *args, **kwargs)

            return send

        return make


def _effect_of_message(
    msg: Message, from_addr: Any = None, to_addrs: Any = None, *_: Any, recipients: Any = None, **__: Any
) -> Effect:
    return _effect(to_addrs or recipients or _recipients(msg), msg)


def _effect_of_text(from_addr: Any, to_addrs: Any, msg: Any, *_: Any, **__: Any) -> Effect:
    data = msg.encode("utf-8", "replace") if isinstance(msg, str) else bytes(msg)
    return _effect(to_addrs, BytesHeaderParser(policy=policy.default).parsebytes(data))


def _recipients(message: Message) -> list[str]:
    resent = "Resent-" if "Resent-Date" in message else ""
    found = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(resent + name, [])]
    return [address for _, address in getaddresses(found) if address]


def _effect(recipients: str | Iterable[str], message: Message) -> Effect:
    listed = [recipients] if isinstance(recipients, str) else list(recipients)
    to = ",".join(sorted({address for _, address in getaddresses(listed) if address}))
    subject = _subject(message)
    return Effect("mail", f"mail:{to}", f"mail to {to}: {subject}", detail=subject)


def _subject(message: Message) -> str:
    from email.header import decode_header, make_header

    raw = str(message.get("Subject", ""))
    try:
        text = str(make_header(decode_header(raw)))
    except (LookupError, ValueError):
        text = raw
    return " ".join(text.split())
