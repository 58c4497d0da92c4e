"""A small shop with its tests, run by an inner pytest."""

import io
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

SHOP = '''
"""Orders, and the tasks that charge them."""

from celery import Celery

app = Celery("shop", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
charged = []


@app.task(shared=False)
def charge(order):
    """Forget to look whether the order is paid already."""
    charged.append(order)
    return "paid"


@app.task(shared=False)
def charge_once(order):
    """Look first."""
    if order not in charged:
        charged.append(order)
    return "paid"


@app.task(shared=False)
def add(a, b):
    return a + b
'''

HEAD = """
import pytest
import shop
from shop import add, app, charge, charge_once, charged


@pytest.fixture(autouse=True)
def fresh():
    charged.clear()


"""


class Suite:
    """Owns the project that one outer test runs."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.ini()
        self.module(shop=SHOP)

    def ini(self, *lines, uses=()):
        """Write the configuration, with these settings more, without the plugins that only cost time here."""
        slow = [name for name in ("hypothesispytest", "django", "randomly", "asyncio") if name not in uses]
        addopts = " ".join(["--import-mode=importlib", *(f"-p no:{name}" for name in slow)])
        common = ["[pytest]", "pythonpath = .", f"addopts = {addopts}", "filterwarnings = default"]
        self.pytester.path.joinpath("pytest.ini").write_text("\n".join([*common, *lines]) + "\n")

    def module(self, **sources):
        """Write modules, each under its name."""
        for name, source in sources.items():
            self.pytester.path.joinpath(f"{name}.py").write_text(source)

    def test(self, source, head=HEAD):
        """Write the tests."""
        self.module(test_shop=f"{head}{source}")

    @contextmanager
    def quiet(self):
        """Swallow what an inner run prints."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield

    def run(self, source=None, *args, apart=False):
        """Run tests, in this process unless they need one of their own."""
        if source is not None:
            self.test(source)
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run(*args)


@pytest.fixture
def suite(pytester):
    """A project with the module `shop`."""
    return Suite(pytester)
