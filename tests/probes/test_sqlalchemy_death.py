"""What is done for a killed task with connections whose own end is not seen."""

import asyncio
from threading import Thread
from types import SimpleNamespace

import pytest
from sqlalchemy.util import await_only

from pytest_jobs.probes.sqlalchemy_death import run_in

ASYNC = SimpleNamespace(is_async=True)


def test_a_connection_that_never_answers_is_given_up():
    """aiosqlite's thread ends when it finds the killed task's event loop closed; its connection waits for it for ever."""
    raised = []

    def wait():
        try:
            run_in(ASYNC, lambda: await_only(asyncio.get_running_loop().create_future()))
        except Exception as error:  # noqa: BLE001 - what callers suppress
            raised.append(error)

    waits = Thread(target=wait, daemon=True)
    waits.start()
    waits.join(10)
    assert [type(error) for error in raised] == [TimeoutError]


def test_what_answers_is_done():
    """And what it raises is told."""
    done = []
    run_in(ASYNC, lambda: done.append(await_only(asyncio.sleep(0, "answer"))))
    assert done == ["answer"]
    with pytest.raises(ZeroDivisionError):
        run_in(ASYNC, lambda: 1 / 0)
