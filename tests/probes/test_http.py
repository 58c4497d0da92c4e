import asyncio
import gc
import http.client
import threading
import urllib.request
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
import httpx
import pytest
import requests
import responses
import urllib3

from pytest_jobs.probes.base import DELETED, Recorder
from pytest_jobs.probes.http import HttpProbe, available, tidy

URL = "https://pay.example/charges"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, at="never", error=None):
        self.at = at
        self.error = error
        self.began = []
        self.effects = []

    def before(self, effect, error):
        self.began.append(effect)
        self.strike("before", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", error)

    def strike(self, place, error):
        if self.at == place:
            raise self.error or error()


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.received.append((self.command, self.path))
        code = 303 if self.path == "/moved" else 200
        self.send_response(code)
        if code == 303:
            self.send_header("Location", "/there")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Server)
    server.received = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = HttpProbe()
    probe.install(recorder)
    yield probe
    probe.remove()


def send_urllib3(url):
    with urllib3.PoolManager() as pool:
        return pool.request("POST", url, body=b"7").status


def send_pool(url):
    address, _, path = url.removeprefix("http://").partition("/")
    with urllib3.HTTPConnectionPool(address) as pool:
        return pool.urlopen("POST", f"/{path}", body=b"7").status


def send_http_client(url):
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address)
    try:
        connection.request("POST", f"/{path}", b"7")
        return connection.getresponse().status
    finally:
        connection.close()


def send_urllib(url):
    with urllib.request.urlopen(urllib.request.Request(url, b"7")) as response:
        return response.status


def send_httpx_async(url):
    async def send():
        async with httpx.AsyncClient() as client:
            return (await client.post(url, content=b"7")).status_code

    return asyncio.run(send())


def send_aiohttp(url):
    async def send():
        async with aiohttp.ClientSession() as session, session.post(url, data=b"7") as response:
            return response.status

    return asyncio.run(send())


def send_by_hand(url):
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address)
    try:
        connection.putrequest("POST", f"/{path}")
        connection.putheader("Content-Length", "1")
        connection.endheaders(b"7")
        return connection.getresponse().status
    finally:
        connection.close()


def send_requests_prepared(url):
    with requests.Session() as session:
        return session.send(requests.Request("POST", url, data=b"7").prepare()).status_code


CLIENTS = {
    "requests": (lambda url: requests.post(url, data=b"7").status_code, requests.ConnectionError),
    "requests-prepared": (send_requests_prepared, requests.ConnectionError),
    "httpx": (lambda url: httpx.post(url, content=b"7").status_code, httpx.ConnectError),
    "httpx-async": (send_httpx_async, httpx.ConnectError),
    "urllib3": (send_urllib3, urllib3.exceptions.ProtocolError),
    "urllib3-pool": (send_pool, urllib3.exceptions.ProtocolError),
    "aiohttp": (send_aiohttp, aiohttp.ClientConnectionError),
    "http.client": (send_http_client, ConnectionResetError),
    "http.client, by hand": (send_by_hand, ConnectionResetError),
    "urllib": (send_urllib, OSError),
}


@pytest.fixture(params=CLIENTS)
def client(request):
    return CLIENTS[request.param]


def test_a_request_is_one_effect(client, probe, recorder, server):
    """Each client reports a request once, however many layers it has."""
    recorder.sink = sink = Sink()
    assert client[0](f"{server.url}/charges") == 200
    (effect,) = sink.effects
    assert sink.began == sink.effects
    assert (effect.kind, effect.target) == ("http", f"http:POST {server.url}/charges")
    assert (effect.label, effect.safe, effect.key) == (f"POST {server.url}/charges", False, None)
    assert effect.detail == "7"
    assert server.received == [("POST", "/charges")]


def test_nothing_outside_a_job(client, probe, recorder, server):
    """Outside a running job a request passes unseen."""
    assert client[0](f"{server.url}/charges") == 200
    assert probe.read(frozenset()) == ({}, ())


def test_an_injected_error_is_the_clients_own(client, probe, recorder, server):
    """The transient error is the class the client raises, and nothing is sent."""
    recorder.sink = Sink("before")
    with pytest.raises(client[1]):
        client[0](f"{server.url}/charges")
    assert server.received == []


def test_a_lost_reply_comes_after_the_request(client, probe, recorder, server):
    """A lost reply raises after the server did its work."""
    recorder.sink = sink = Sink("after")
    with pytest.raises(client[1]):
        client[0](f"{server.url}/charges")
    assert server.received == [("POST", "/charges")]
    assert len(sink.effects) == 1


def test_a_kill_sends_nothing(client, probe, recorder, server):
    """A worker killed before the request leaves the server untouched."""
    recorder.sink = sink = Sink("before", Killed())
    with pytest.raises(Killed):
        client[0](f"{server.url}/charges")
    assert server.received == []
    assert sink.effects == []


@pytest.mark.parametrize("name", ["requests", "urllib3", "urllib"])
def test_redirects_are_part_of_the_request(name, probe, recorder, server):
    """A redirect that the client follows is no request of the task."""
    recorder.sink = sink = Sink()
    assert CLIENTS[name][0](f"{server.url}/moved") == 200
    assert len(server.received) == 2
    if name != "urllib":
        assert [effect.label for effect in sink.effects] == [f"POST {server.url}/moved"]


def test_responses_answers(probe, recorder):
    """A request that responses answers is seen."""
    recorder.sink = sink = Sink()
    with responses.RequestsMock() as mock:
        mock.post(URL)
        requests.post(URL, json={"order": 7}, headers={"Idempotency-Key": "order-7"})
    assert [(effect.label, effect.key, effect.detail) for effect in sink.effects] == [
        (f"POST {URL}", "order-7", '{"order": 7}')
    ]


@pytest.mark.parametrize("first", ["probe", "mock"])
def test_requests_mock_answers(first, recorder):
    """A request that requests-mock answers is seen, whichever of the two began first."""
    import requests_mock

    original = requests.Session.send, requests_mock.mocker._original_send
    probe = HttpProbe()
    mock = requests_mock.Mocker()
    if first == "probe":
        probe.install(recorder)
        mock.start()
    else:
        mock.start()
        probe.install(recorder)
    mock.post(URL)
    recorder.sink = sink = Sink()
    requests.post(URL, data="7")
    for each in (mock.stop, probe.remove) if first == "probe" else (probe.remove, mock.stop):
        each()
    assert [effect.label for effect in sink.effects] == [f"POST {URL}"]
    assert (requests.Session.send, requests_mock.mocker._original_send) == original


def test_respx_answers(probe, recorder):
    """A request that respx answers is seen, sync and async."""
    import respx

    recorder.sink = sink = Sink()
    with respx.mock:
        respx.post(URL).respond(201)
        httpx.post(URL, json={"order": 7})
        send_httpx_async(URL)
    assert [effect.label for effect in sink.effects] == [f"POST {URL}"] * 2


def test_pytest_httpx_answers(httpx_mock, probe, recorder):
    """A request that pytest-httpx answers is seen."""
    httpx_mock.add_response(method="POST", url=URL)
    recorder.sink = sink = Sink()
    httpx.post(URL, headers={"PayPal-Request-Id": "p-7"})
    assert [effect.key for effect in sink.effects] == ["p-7"]


def test_pytest_httpserver_answers(httpserver, probe, recorder):
    """A request that pytest-httpserver answers is seen once, not in the server's thread too."""
    httpserver.expect_request("/charges", method="POST").respond_with_data("ok")
    recorder.sink = sink = Sink()
    requests.post(httpserver.url_for("/charges"), data="7")
    assert len(sink.effects) == 1


def test_a_double_in_the_place_of_aiohttps_request(probe, recorder, monkeypatch):
    """A request is seen when a double such as aioresponses has replaced `ClientSession._request` since."""

    async def answered(self, method, url, **_):
        return method, url

    monkeypatch.setattr(aiohttp.ClientSession, "_request", answered)
    recorder.sink = sink = Sink()

    async def send():
        async with aiohttp.ClientSession() as session:
            return [await session.post(URL, json={}), await session.request("PATCH", URL)]

    assert asyncio.run(send()) == [("POST", URL), ("PATCH", URL)]
    assert [effect.label for effect in sink.effects] == [f"POST {URL}", f"PATCH {URL}"]


@pytest.mark.parametrize(("method", "safe"), [("GET", True), ("HEAD", True), ("PUT", True), ("PATCH", False)])
@responses.activate
def test_what_may_be_repeated(method, safe, probe, recorder):
    """Reading is safe, and so are PUT and DELETE, which are judged by what they leave."""
    responses.add(method, URL)
    recorder.sink = sink = Sink()
    requests.request(method, URL)
    assert [effect.safe for effect in sink.effects] == [safe]


@responses.activate
def test_put_and_delete_leave_state(probe, recorder):
    """PUT leaves its body, DELETE nothing; a refused request leaves what was."""
    recorder.sink = Sink()
    responses.put(f"{URL}/7", status=200)
    responses.put(f"{URL}/8", status=200)
    responses.put(f"{URL}/9", status=503)
    responses.delete(f"{URL}/8")
    responses.delete(f"{URL}/6")
    requests.put(f"{URL}/7?b=2&a=1", json={"cents": 400})
    requests.put(f"{URL}/7?a=1&b=2", json={"cents": 500})
    requests.put(f"{URL}/8", data="x")
    requests.put(f"{URL}/9", data="x")
    requests.delete(f"{URL}/8")
    requests.delete(f"{URL}/6")
    assert probe.read(frozenset())[0] == {
        f"http:PUT {URL}/7?a=1&b=2": {"cents": 500},
        f"http:PUT {URL}/6": DELETED,
    }


def test_request_ids_are_no_idempotency_keys(probe, recorder, server):
    """A header for tracing makes no repeated POST harmless, unless the project says so."""
    headers = {"X-Request-Id": "7", "x-idempotency-key": "k"}
    recorder.sink = sink = Sink()
    requests.post(server.url, headers=headers)
    probe.remove()
    own = HttpProbe(["X-Request-Id"])
    own.install(recorder)
    requests.post(server.url, headers=headers)
    own.remove()
    assert [effect.key for effect in sink.effects] == ["k", "7"]


def test_an_upload_is_not_used_up(probe, recorder, server, tmp_path):
    """A file that is uploaded is still sent whole."""
    (tmp_path / "a.txt").write_text("abc")
    recorder.sink = Sink()
    with (tmp_path / "a.txt").open("rb") as stream:
        requests.put(f"{server.url}/a.txt", data=stream)
    assert probe.read(frozenset())[0] == {f"http:PUT {server.url}/a.txt": "abc"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://ann:secret@Pay.example:443/a?b=2&a=1#top", "https://pay.example/a?a=1&b=2"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
        ("http://h:nonsense/", "http://h:nonsense/"),
        ("/only/a/path#x", "/only/a/path"),
    ],
)
def test_urls_are_tidied(url, expected):
    """A URL reads the same however it was written, without its password."""
    assert tidy(url) == expected


def test_remove_restores_everything():
    """After `remove` every client is as it was."""
    owners = [
        requests.Session, httpx.Client, httpx.AsyncClient, urllib3.HTTPConnectionPool, urllib3.PoolManager,
        aiohttp.ClientSession, http.client.HTTPConnection,
    ]  # fmt: skip
    before = [dict(vars(owner)) for owner in owners]
    probe = HttpProbe()
    probe.install(Recorder())
    assert [dict(vars(owner)) for owner in owners] != before
    probe.refresh()
    probe.remove()
    assert [dict(vars(owner)) for owner in owners] == before
    assert available()
