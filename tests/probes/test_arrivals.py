"""Libraries that a task imports in its own body are seen from then on."""

import importlib
import sys

import pytest

from pytest_jobs.probes.arrivals import Arrivals, is_loading

APP = """
import sys
from celery import Celery

assert "httpx" not in sys.modules
app = Celery("shop", broker="memory://localhost/", set_as_current=False)


@app.task(shared=False, acks_late=True)
def pay(url, key=None):
    {imported}
    httpx.post(url, headers={{"Idempotency-Key": key}} if key else {{}})
"""
TEST = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import shop


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/pay"
        server.shutdown()
        thread.join()


@pytest.mark.idempotent("twice")
def test_pay(jobs, url):
    jobs.run(shop.pay, url, {key})
"""
WAYS = ["import httpx", "import importlib; httpx = importlib.import_module('httpx')", "from helper import httpx"]


@pytest.mark.parametrize("imported", WAYS, ids=["import", "import_module", "helper"])
@pytest.mark.parametrize("key", ["None", "'7'"], ids=["broken", "repaired"])
def test_a_marked_test(pytester, monkeypatch, imported, key):
    """What the first run does with such a library counts as what the later ones do: the test is not called irreproducible."""
    pytester.makeini("[pytest]\npythonpath = .\n")
    pytester.path.joinpath("helper.py").write_text("import httpx\n")
    pytester.path.joinpath("shop.py").write_text(APP.format(imported=imported))
    pytester.path.joinpath("test_shop.py").write_text(TEST.replace("{key}", key))
    with monkeypatch.context() as patched:
        patched.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        result = pytester.runpytest_subprocess("-p", "pytest_jobs.plugin", "-p", "no:cacheprovider")
    if key == "None":
        result.stdout.fnmatch_lines(["E   AssertionError: pay is not idempotent at twice: POST http://*/pay 1 -> 2 requests"])
    else:
        result.assert_outcomes(passed=1)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a part, that says while it is executed whether it is."""
    place = tmp_path / "jobs_shop"
    place.mkdir()
    said = "from pytest_jobs.probes.arrivals import is_loading\nSAID = is_loading(__name__), is_loading(__name__, __name__)\n"
    (place / "__init__.py").write_text(said + "from jobs_shop import part\n")
    (place / "part.py").write_text(said)
    monkeypatch.syspath_prepend(tmp_path)
    yield "jobs_shop"
    for name in ("jobs_shop", "jobs_shop.part"):
        sys.modules.pop(name, None)


def test_a_module_is_told_once(package):
    """After it was executed; its loader is left as it was, and so is the path of finders."""
    finders, told = list(sys.meta_path), []
    arrivals = Arrivals({package, f"{package}.part", "jobs_nothing"}, lambda name: told.append((name, is_loading(name, name))))
    arrivals.install()
    arrivals.install()
    module = importlib.import_module(package)
    assert told == [(f"{package}.part", True), (package, False)]
    assert (module.SAID, module.part.SAID) == ((True, False), (True, True))
    assert "exec_module" not in vars(module.__loader__)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("jobs_nothing")
    arrivals.remove()
    arrivals.remove()
    assert sys.meta_path == finders
