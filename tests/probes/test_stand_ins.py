"""What a project's tests put in the place of a library's class: it may be anything, and stays as it is."""

import importlib
from unittest.mock import MagicMock

import pytest
from celery import Celery

from pytest_jobs import in_process_worker

PLACES = (
    "http.client.HTTPConnection", "requests.Session", "httpx.Client", "httpx.AsyncClient", "urllib3.PoolManager", "aiohttp.ClientSession",
    "botocore.client.BaseClient", "redis.Redis", "sqlite3.connect", "smtplib.SMTP", "aiosmtplib.SMTP", "psycopg.Connection",
)  # fmt: skip


class Nothing:
    """A class without any of the library's methods."""


@pytest.mark.parametrize("kind", ["a class", "a function", "a mock", "None"])
@pytest.mark.parametrize("place", PLACES)
def test_a_stand_in(place, kind, monkeypatch):
    """A world opens, runs jobs and closes; the stand-in has gained nothing."""
    importlib.import_module(place.rpartition(".")[0])
    stand_in = {"a class": Nothing, "a function": lambda: None, "a mock": MagicMock(), "None": None}[kind]
    monkeypatch.setattr(place, stand_in)
    app = Celery("shop", broker="memory://localhost/", set_as_current=False)

    @app.task(shared=False)
    def add(a, b):
        return a + b

    before = set(vars(Nothing))
    with in_process_worker(app) as jobs:
        assert jobs.check_idempotent(add, 1, 2).result == 3
    assert set(vars(Nothing)) == before
