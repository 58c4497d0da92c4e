"""Broken tasks and their repaired twins, each in a project that an inner pytest runs."""

import pytest

APP = '''
import sqlite3
from contextlib import closing

from celery import Celery

app = Celery("shop", broker="{broker}", backend="cache+memory://", set_as_current=False)


class Down(Exception):
    pass


class Gateway:
    def __init__(self):
        self.calls = []

    def charge(self, order):
        self.calls.append(order)
        return "paid"


gateway = Gateway()
path = None


def connect():
    return sqlite3.connect(path)


'''
TEST = '''
import pytest
import shop


@pytest.fixture(autouse=True)
def database(tmp_path):
    shop.path = tmp_path / "shop.db"
    with shop.closing(shop.connect()) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, charged INTEGER)")
        connection.execute("INSERT INTO orders VALUES (7, 'new', 0)")
    yield
    shop.gateway.calls.clear()


'''
INI = "[pytest]\npythonpath = .\naddopts = --import-mode=importlib -p no:hypothesispytest -p no:django -p no:randomly -p no:asyncio\n"


class Mutant:
    """Owns the project of one pair."""

    def __init__(self, pytester):
        self.pytester = pytester

    def run(self, task, test, broker="memory://localhost/"):
        """Run one task's test; return the first line of its failure, empty when it passed."""
        path = self.pytester.path
        path.joinpath("pytest.ini").write_text(INI)
        path.joinpath("shop.py").write_text(APP.replace("{broker}", broker) + task)
        path.joinpath("test_shop.py").write_text(TEST + test)
        result = self.pytester.runpytest_inprocess("-p", "no:cacheprovider")
        shown = [line.removeprefix("E").strip() for line in result.outlines if line.startswith("E  ")]
        if not shown:
            result.assert_outcomes(passed=1)
            return ""
        result.assert_outcomes(failed=1)
        return shown[0]


@pytest.fixture
def mutant(pytester):
    """A project in which one task is tested."""
    return Mutant(pytester)
