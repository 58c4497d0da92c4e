"""A small shop with its tests, run by an inner pytest."""

import io
import re
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

    def ini(self, *lines, django=False, randomly=False):
        """Write the configuration, with these settings more, without the plugins that only cost time here."""
        slow = ["hypothesispytest", *["django"] * (not django), *["randomly"] * (not randomly)]
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


def error_lines(result):
    """Return the lines of a failure's text as pytest shows them, without the margin."""
    shown = [line[1:] for line in result.outlines if line == "E" or line.startswith("E  ")]
    return [line[3:].rstrip() if line.startswith("   ") else line.rstrip() for line in shown]


def clean(result):
    """Tell whether the output shows nothing of our own files."""
    return not re.search(r"pytest_jobs[/\\]", "\n".join([*result.outlines, *result.errlines]))
