"""Django's mail and cache, whatever their backends."""

import importlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from pytest_jobs.probes.base import DELETED, Patches, Recorder, Transient
from pytest_jobs.records import Effect
from pytest_jobs.world import Lifetime

__all__ = ["Services"]

ONE_KEY = ("set", "add", "delete", "incr", "touch")
MANY_KEYS = ("set_many", "delete_many", "clear")
REMOVES = frozenset({"delete", "delete_many"})
MISSING = object()
SMTP = "django.core.mail.backends.smtp.EmailBackend"


def _mailers() -> list[str]:
    """Name the mail backends that are configured."""
    mailers = getattr(settings, "MAILERS", None)
    if mailers is not None:
        return [each.get("BACKEND", SMTP) for each in mailers.values()]
    with warnings.catch_warnings():
        # Django 6.1 deprecates the setting; where there are MAILERS, reading it is an error.
        warnings.simplefilter("ignore")
        return [settings.EMAIL_BACKEND]


class Services:
    """Owns the hooks on mail and cache backends, and the cache keys that were written."""

    def __init__(self, recorder: Recorder, patches: Patches) -> None:
        self._recorder = recorder
        self._patches = patches
        self._hooked: set[type] = set()
        self.written: dict[str, tuple[Any, Any, Any, bool]] = {}
        patches.replace(EmailMessage, "send", self._send)
        self.refresh()

    def refresh(self) -> None:
        """Hook the backends that are configured, and those loaded since."""
        for path in [*_mailers(), *(each.get("BACKEND", "") for each in settings.CACHES.values())]:
            try:
                import_string(path)
            except Exception:  # noqa: BLE001, S112 - the project sees the same error when it uses the backend
                continue
        for kind in _subclasses(BaseEmailBackend):
            if kind not in self._hooked and "send_messages" in vars(kind):
                self._patches.replace(kind, "send_messages", self._send_messages)
            self._hooked.add(kind)
        for kind in _subclasses(BaseCache):
            if kind not in self._hooked and kind.__name__ != "DummyCache":
                for name in (each for each in (*ONE_KEY, *MANY_KEYS) if each in vars(kind)):
                    self._patches.replace(kind, name, self._cache_method(name))
            self._hooked.add(kind)

    def state(self) -> dict[str, Any]:
        """Return the value of each cache key written; `DELETED` for one that was removed and never set."""
        found: dict[str, Any] = {}
        for subject, (cache, key, version, made) in self.written.items():
            value = cache.get(key, MISSING, version=version)
            if value is not MISSING:
                found[subject] = value
                expires = getattr(cache, "_expire_info", {}).get(cache.make_key(key, version=version))
                if expires is not None:
                    found[f"{subject} expires"] = Lifetime.of(expires - time.time())
            elif not made:
                found[subject] = DELETED
        return found

    # Mail

    def _send(self, original: Any) -> Any:
        def send(message: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._recorder.active or not message.recipients():
                return original(message, *args, **kwargs)
            silent = (args or [kwargs.get("fail_silently")])[0] or _own(_own(message, "connection"), "fail_silently")
            with self._recorder.doing(_mail(message), None if silent else _disconnected):
                return original(message, *args, **kwargs)

        return send

    def _send_messages(self, original: Any) -> Any:
        def send_messages(backend: Any, email_messages: Any) -> Any:
            if not self._recorder.active:
                return original(backend, email_messages)
            sent = 0
            for message in email_messages:
                with self._recorder.doing(_mail(message), None if _own(backend, "fail_silently") else _disconnected):
                    sent += original(backend, [message]) or 0
            return sent

        return send_messages

    # Cache

    def _cache_method(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def method(cache: Any, *args: Any, **kwargs: Any) -> Any:
                if self._recorder.sink is None:
                    return original(cache, *args, **kwargs)
                keys = _keys(name, args, kwargs)
                subjects = [self._touched(cache, key, kwargs.get("version"), name in REMOVES) for key in keys]
                target = ",".join(subjects) or "cache:*"
                label = f"cache {name} {', '.join(map(str, keys))}".rstrip()
                detail = "" if name in REMOVES or not args[1:] else f"{args[1]!r:.200}"
                effect = Effect("cache", target, label, safe=True, detail=detail)
                with self._recorder.doing(effect, _failing(cache)):
                    return original(cache, *args, **kwargs)

            return method

        return make

    def _touched(self, cache: Any, key: Any, version: Any, removes: bool) -> str:
        alias = next((each for each in settings.CACHES if getattr(caches._connections, each, None) is cache), "default")
        place = "cache:" if alias == "default" else f"cache:{alias}:"
        subject = f"{place}{key}" if version is None else f"{place}{key}:v{version}"
        self.written.setdefault(subject, (cache, key, version, not removes))
        return subject


def _own(owner: Any, name: str) -> Any:
    """Return an attribute that Django 6.1 keeps under a private name, and warns of under the old one."""
    held = getattr(owner, "__dict__", {})
    return held.get(name, held.get(f"_{name}"))


def _keys(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    if name in ONE_KEY:
        return [args[0] if args else kwargs.get("key")]
    if name == "clear":
        return []
    return list(args[0] if args else kwargs.get("data") or kwargs.get("keys") or ())


def _failing(cache: Any) -> Transient | None:
    """Return the transient error of caches that a network lies before."""
    module = type(cache).__module__
    if "redis" in module and "redis" in sys.modules:
        return lambda: sys.modules["redis"].ConnectionError("Connection closed by server.")
    if "memcached" in module:
        return lambda: ConnectionError("Connection reset by peer")
    return None


def _disconnected() -> BaseException:
    error: BaseException = importlib.import_module("smtplib").SMTPServerDisconnected("Connection unexpectedly closed")
    return error


def _mail(message: Any) -> Effect:
    to = ",".join(sorted(set(map(str, message.recipients()))))
    return Effect("mail", f"mail:{to}", f"mail to {to}: {message.subject}", detail=str(message.subject))


def _subclasses(kind: Any) -> Iterator[Any]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)
