"""Coroutines finished from synchronous code, also where an event loop runs already."""

import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

__all__ = ["finish", "in_new_loop", "outside_of_loops"]


@contextmanager
def outside_of_loops() -> Iterator[None]:
    """Let code in a coroutine run event loops of its own, as another process could meanwhile."""
    events = sys.modules.get("asyncio.events")
    running = events._get_running_loop() if events is not None else None
    if events is None or running is None:
        yield
        return
    tasks = sys.modules["asyncio.tasks"]
    current = tasks.current_task(running)
    if current is not None:
        tasks._leave_task(running, current)
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(running)
        if current is not None:
            tasks._enter_task(running, current)


def finish(value: Any) -> Any:
    """Return a value, awaiting it first where it is awaitable."""
    if not inspect.isawaitable(value):
        return value

    async def waiting() -> Any:
        return await value

    return in_new_loop(waiting)


def in_new_loop(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function to its end in an event loop of its own."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    answer: list[Any] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(_run(work))
        except BaseException as raised:  # noqa: BLE001 - handed over to the thread that waits
            error.append(raised)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="jobs-reader", daemon=True)
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return answer[0]


def _run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run without `asyncio.run`, which would take the thread's own event loop away."""
    import asyncio

    async def main() -> Any:
        return await work()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
