"""Shared by all tests: pytester, and a check that nothing leaks out of a world."""

import os
import sys
import threading
import time

import celery
import pytest
from celery import Celery, _state
from hypothesis import settings
from kombu import Connection, pools

import pytest_jobs.queues.celery  # noqa: F401 - else pytester forgets it after an inner run, and the classes it patches
from pytest_jobs import in_process_worker

pytest_plugins = ["pytester"]

# On a build server pytest cuts fewer texts, and Hypothesis chooses other examples and keeps none; what is tested here is
# what a user sees at a desk. tox takes CI away, and Hypothesis finds it nevertheless.
SERVERS = ("CI", "BUILD_NUMBER", "TF_BUILD", "BUILDKITE", "CIRCLECI", "CIRRUS_CI", "GITHUB_ACTIONS", "GITLAB_CI", "TEAMCITY_VERSION")
for name in (*SERVERS, "__TOX_ENVIRONMENT_VARIABLE_ORIGINAL_CI"):
    os.environ.pop(name, None)
settings.load_profile("default")


def _process_state():
    return {
        "current app": _state._tls.current_app,
        "default app": _state.default_app,
        "join guard": _state._task_join_will_block,
        "sleep": time.sleep,
        "time": time.time,
        "trace": sys.gettrace(),
        "profile": sys.getprofile(),
        "unraisable hook": sys.unraisablehook,
        "environment": dict(os.environ) | {"PYTEST_CURRENT_TEST": ""},
        "threads": {thread.name for thread in threading.enumerate() if not thread.daemon},
        "transport": Connection.get_transport_cls,
        "backend": Celery._get_backend,
        "send_task": Celery.send_task,
        "apply_async": celery.Task.apply_async,
        "pools": (dict(pools.connections), dict(pools.producers)),
    }


@pytest.fixture(autouse=True)
def nothing_leaks(request):
    """Every test leaves the process as it found it."""
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")
    before = _process_state()
    yield
    after = _process_state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


@pytest.fixture(params=["memory", "redis"])
def app(request):
    """An app of each broker family."""
    return make_app(request.param)


def make_app(broker="memory", **conf):
    """Make an app that no other test knows."""
    url = {"memory": "memory://localhost/", "redis": "redis://localhost:6399/0"}[broker]
    app = Celery("shop", broker=url, backend=url if broker == "redis" else "cache+memory://", set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.fixture
def world():
    """A world without the fixture `jobs`."""
    with in_process_worker() as jobs:
        yield jobs
