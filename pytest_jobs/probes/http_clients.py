"""Where each HTTP client sends a request: above what its usual test doubles replace."""

import select
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from pytest_jobs.probes.base import Patches, Transient

__all__ = ["HOOKS", "Exchange", "loaded"]

RESET = "Connection reset by peer"
REPLY_BEGINS = 5.0
VERBS = ("get", "options", "head", "post", "put", "patch", "delete")


@dataclass(slots=True)
class Exchange:
    """What came back for a request.

    Attributes:
        status: The status of the answer, None where the call returns before there is one.
    """

    status: int | None = None


class Requests(Protocol):
    """Whom the hooks tell of a request."""

    @property
    def active(self) -> bool:
        """Whether a request made now is to be reported."""

    def sending(
        self, method: str | bytes, url: Any, headers: Any, body: Any, error: Transient
    ) -> AbstractContextManager[Exchange]:
        """Report a request around the call that makes it."""


def loaded() -> tuple[str, ...]:
    """Return the clients that somebody has imported."""
    return tuple(name for name, (attribute, _) in HOOKS.items() if hasattr(sys.modules.get(name), attribute))


def _requests_send(seen: Requests) -> Callable[[Any], Any]:
    requests = sys.modules["requests"]

    def make(original: Any) -> Any:
        def send(self: Any, request: Any, **kwargs: Any) -> Any:
            if not seen.active:
                return original(self, request, **kwargs)

            def error() -> Any:
                return requests.ConnectionError(RESET, request=request)

            with seen.sending(request.method, request.url, request.headers, request.body, error) as exchange:
                response = original(self, request, **kwargs)
                exchange.status = response.status_code
            return response

        return send

    return make


def _requests(patches: Patches, seen: Requests) -> None:
    patches.replace(sys.modules["requests"].Session, "send", _requests_send(seen))


def _requests_mock(patches: Patches, seen: Requests) -> None:
    """Follow requests-mock, which puts its own `Session.send` over ours and calls the one it found when imported."""
    patches.replace(sys.modules["requests_mock.mocker"], "_original_send", _requests_send(seen))


def _httpx(patches: Patches, seen: Requests) -> None:
    httpx = sys.modules["httpx"]

    def sending(request: Any) -> AbstractContextManager[Exchange]:
        try:
            body = request.content
        except httpx.RequestNotRead:
            body = request.stream

        def error() -> Any:
            return httpx.ConnectError(RESET, request=request)

        return seen.sending(request.method, request.url, request.headers, body, error)

    def make(original: Any) -> Any:
        def send(self: Any, request: Any, **kwargs: Any) -> Any:
            if not seen.active:
                return original(self, request, **kwargs)
            with sending(request) as exchange:
                response = original(self, request, **kwargs)
                exchange.status = response.status_code
            return response

        return send

    def make_async(original: Any) -> Any:
        async def send(self: Any, request: Any, **kwargs: Any) -> Any:
            if not seen.active:
                return await original(self, request, **kwargs)
            with sending(request) as exchange:
                response = await original(self, request, **kwargs)
                exchange.status = response.status_code
            return response

        return send

    patches.replace(httpx.Client, "send", make)
    patches.replace(httpx.AsyncClient, "send", make_async)


def _urllib3(patches: Patches, seen: Requests) -> None:
    urllib3 = sys.modules["urllib3"]

    def make(original: Any) -> Any:
        def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            if not seen.active:
                return original(self, method, url, *args, **kwargs)

            def error() -> Any:
                return urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, RESET))

            given = dict(zip(("body", "headers"), args, strict=False)) | kwargs
            headers = given.get("headers") or self.headers
            whole = url if "://" in url else _whole(self.scheme, self.host, self.port, url)
            with seen.sending(method, whole, headers, given.get("body"), error) as exchange:
                response = original(self, method, url, *args, **kwargs)
                exchange.status = response.status
            return response

        return urlopen

    def make_manager(original: Any) -> Any:
        managed = make(original)

        def urlopen(self: Any, method: str, url: str, redirect: bool = True, **kwargs: Any) -> Any:
            return managed(self, method, url, redirect=redirect, **kwargs)

        return urlopen

    patches.replace(urllib3.HTTPConnectionPool, "urlopen", make)
    patches.replace(urllib3.PoolManager, "urlopen", make_manager)


def _aiohttp(patches: Patches, seen: Requests) -> None:
    """Hook `_request`, and the methods above it for aioresponses, which replaces `_request` when a test begins."""
    aiohttp = sys.modules["aiohttp"]

    async def report(session: Any, method: str, url: Any, given: dict[str, Any], sent: Any) -> Any:
        try:
            whole = session._build_url(url)
            whole = whole.update_query(given["params"]) if given.get("params") else whole
        except (AttributeError, TypeError, ValueError):
            whole = url
        headers = [*session.headers.items(), *dict(given.get("headers") or {}).items()]
        body = given.get("json") if given.get("json") is not None else given.get("data")

        def error() -> Any:
            return aiohttp.ClientConnectionError(RESET)

        try:
            with seen.sending(method, whole, headers, body, error) as exchange:
                response = await sent
                exchange.status = getattr(response, "status", None)
        except BaseException:
            sent.close()
            raise
        return response

    def make(original: Any) -> Any:
        async def _request(self: Any, method: str, str_or_url: Any, **kwargs: Any) -> Any:
            sent = original(self, method, str_or_url, **kwargs)
            return await (report(self, method, str_or_url, kwargs, sent) if seen.active else sent)

        return _request

    def make_verb(verb: str | None) -> Callable[[Any], Any]:
        def make_method(original: Any) -> Any:
            def method(self: Any, *args: Any, **kwargs: Any) -> Any:
                manager = original(self, *args, **kwargs)
                if seen.active and hasattr(manager, "_coro"):
                    given = dict(zip(("url",) if verb else ("method", "url"), args, strict=False)) | kwargs
                    name, url = verb or given.pop("method"), given.pop("url")
                    manager._coro = report(self, name, url, given, manager._coro)
                return manager

            return method

        return make_method

    patches.replace(aiohttp.ClientSession, "_request", make)
    patches.replace(aiohttp.ClientSession, "request", make_verb(None))
    for verb in VERBS:
        patches.replace(aiohttp.ClientSession, verb, make_verb(verb.upper()))


def _http_client(patches: Patches, seen: Requests) -> None:
    client = sys.modules["http.client"]

    def sending(connection: Any, method: str, url: str, headers: Any, body: Any) -> AbstractContextManager[Exchange]:
        scheme = "https" if getattr(connection, "default_port", 80) == 443 else "http"
        host = getattr(connection, "_tunnel_host", None) or connection.host
        port = connection._tunnel_port if getattr(connection, "_tunnel_host", None) else connection.port
        whole = url if "://" in url else _whole(scheme, host, port, url)
        return seen.sending(method, whole, headers, body, lambda: ConnectionResetError(104, RESET))

    def make(original: Any) -> Any:
        def request(self: Any, method: str, url: str, body: Any = None, headers: Any = (), **kwargs: Any) -> Any:
            headers = headers or {}
            if not seen.active:
                return original(self, method, url, body, headers, **kwargs)
            with sending(self, method, url, headers, body):
                answer = original(self, method, url, body, headers, **kwargs)
                _await_reply(getattr(self, "sock", None))
            return answer

        return request

    def make_by_hand(original: Any) -> Any:
        """Follow `putrequest`, `putheader` and `endheaders`, as `xmlrpc.client` calls them; not a body that comes later."""

        def endheaders(self: Any, message_body: Any = None, **kwargs: Any) -> Any:
            lines = [line.decode("latin-1") for line in getattr(self, "_buffer", ())] if seen.active else []
            if len(first := lines[0].split(" ") if lines else []) < 2:
                return original(self, message_body, **kwargs)
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
            if message_body is None and {name.lower() for name, _ in headers} & {"content-length", "transfer-encoding"}:
                return original(self, message_body, **kwargs)
            with sending(self, first[0], first[1], headers, message_body):
                answer = original(self, message_body, **kwargs)
                _await_reply(getattr(self, "sock", None))
            return answer

        return endheaders

    patches.replace(client.HTTPConnection, "request", make)
    patches.replace(client.HTTPConnection, "endheaders", make_by_hand)


def _whole(scheme: str, host: str, port: int | None, path: str) -> str:
    bracketed = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    return f"{scheme}://{bracketed}" + (f":{port}" if port else "") + path


def _await_reply(sock: Any) -> None:
    """Let the server work before the effect is over: a reply is lost only after the request took effect."""
    try:
        timeout = sock.gettimeout()
        select.select([sock], [], [], REPLY_BEGINS if timeout is None else min(timeout, REPLY_BEGINS))
    except (AttributeError, TypeError, ValueError, OSError):
        return


Hook = Callable[[Patches, Requests], None]
HOOKS: Mapping[str, tuple[str, Hook]] = MappingProxyType({
    "requests": ("Session", _requests),
    "requests_mock.mocker": ("_original_send", _requests_mock),
    "httpx": ("AsyncClient", _httpx),
    "urllib3": ("PoolManager", _urllib3),
    "aiohttp": ("ClientSession", _aiohttp),
    "http.client": ("HTTPConnection", _http_client),
})
