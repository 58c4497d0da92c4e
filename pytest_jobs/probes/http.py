"""HTTP requests of any client as effects: what counts, under which key, and what PUT and DELETE leave."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pytest_jobs.probes import http_clients
from pytest_jobs.probes.base import DELETED, Patches, Recorder, Transient
from pytest_jobs.probes.bodies import meaning, sent
from pytest_jobs.probes.http_clients import Exchange
from pytest_jobs.records import Effect
from pytest_jobs.world import Unreadable

__all__ = ["IDEMPOTENCY_HEADERS", "HttpProbe", "available"]

# Only headers whose documentation says that the server does the work once; X-Request-Id, for one, is for tracing.
# In this order: the IETF's (Stripe, Adyen, GoCardless, Mollie), Mercado Pago's, PayPal's, Checkout.com's, Klarna's,
# Amazon Pay's, Razorpay's, YooKassa's, Wise's, Worldline's, Qonto's.
IDEMPOTENCY_HEADERS = (
    "Idempotency-Key", "X-Idempotency-Key", "PayPal-Request-Id", "Cko-Idempotency-Key", "Klarna-Idempotency-Key",
    "X-Amz-Pay-Idempotency-Key", "X-Payout-Idempotency", "Idempotence-Key", "X-Idempotence-Uuid", "X-GCS-Idempotence-Key",
    "X-Qonto-Idempotency-Key",
)  # fmt: skip
HARMLESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
LEAVING = frozenset({"PUT", "DELETE"})
DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})
SHOWN = 200


def available() -> bool:
    """Tell whether one of the clients is in the process."""
    return bool(http_clients.loaded())


class HttpProbe:
    """Sees the requests of every client that the process has loaded, once each, redirects and retries included.

    Args:
        headers: Further headers that carry an idempotency key, tried before the well-known ones.
    """

    name = "http"

    def __init__(self, headers: Iterable[str] = ()) -> None:
        self._keys = tuple(name.lower() for name in (*headers, *IDEMPOTENCY_HEADERS))
        self._patches = Patches()
        self._hooked: set[str] = set()
        self._left: dict[str, Any] = {}
        self._made: set[str] = set()
        self._recorder = Recorder()

    def install(self, recorder: Recorder) -> None:
        """Hook the clients that are loaded."""
        self._recorder = recorder
        self._left.clear()
        self._made.clear()
        self.refresh()

    def refresh(self) -> None:
        """Hook the clients that have been loaded since; cheap enough for the start of every job."""
        for name in http_clients.loaded():
            if name not in self._hooked:
                self._hooked.add(name)
                http_clients.HOOKS[name][1](self._patches, self)

    def remove(self) -> None:
        """Unhook them all."""
        self._patches.undo()
        self._hooked.clear()

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return what PUT and DELETE left at each URL; `DELETED` for a resource that the jobs did not make."""
        return dict(self._left), ()

    def forget(self) -> None:
        """Nothing stays open that a dead process would close."""

    # What the hooks ask

    @property
    def active(self) -> bool:
        """Whether a request made now is to be reported."""
        return self._recorder.active

    @contextmanager
    def sending(
        self, method: str | bytes, url: Any, headers: Any, body: Any, error: Transient
    ) -> Iterator[Exchange]:
        """Report a request around the call that makes it."""
        method = _text(method).upper()
        url = tidy(_text(url))
        leaving = method in LEAVING
        safe = leaving or method in HARMLESS
        key = None if safe else self._key(headers)
        content = b"" if method in HARMLESS else sent(body)
        effect = Effect("http", f"http:{method} {url}", f"{method} {url}", safe, key, _shown(content))
        exchange = Exchange()
        with self._recorder.doing(effect, error):
            yield exchange
            if leaving and (exchange.status is None or exchange.status < 400):
                self._leave(method, f"http:PUT {url}", content)

    def _leave(self, method: str, subject: str, content: bytes | str) -> None:
        if method == "PUT":
            if subject not in self._left:
                self._made.add(subject)
            self._left[subject] = meaning(content)
        elif subject in self._made:
            self._left.pop(subject, None)
        else:
            self._left[subject] = DELETED

    def _key(self, headers: Any) -> str | None:
        pairs = headers.items() if hasattr(headers, "items") else headers or ()
        given = {_text(name).lower(): _text(value) for name, value in pairs}
        return next((given[name] for name in self._keys if given.get(name)), None)


def tidy(url: str) -> str:
    """Return a URL that is the same for the same resource: no credentials, no fragment, its query sorted."""
    try:
        parts = urlsplit(url)
        number = parts.port
    except ValueError:
        return url
    if not parts.netloc:
        return url.partition("#")[0]
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = f":{number}" if number and number != DEFAULT_PORTS.get(parts.scheme) else ""
    query = "&".join(sorted(parts.query.split("&")))
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}" + (f"?{query}" if query else "")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _shown(content: bytes | str) -> str:
    text = _text(content[: 2 * SHOWN])
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
