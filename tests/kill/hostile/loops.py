"""Tasks with an event loop that do all they can to run on after their death."""

import asyncio
import contextlib

seen = []
held = []


class Manager:
    def __init__(self, name, swallow=False):
        self.name = name
        self.swallow = swallow

    async def __aenter__(self):
        seen.append(f"enter {self.name}")
        return self

    async def __aexit__(self, *error):
        seen.append(f"exit {self.name}")
        return self.swallow


@contextlib.asynccontextmanager
async def manager(name):
    seen.append(f"enter {name}")
    try:
        yield name
    except BaseException:
        seen.append(f"error {name}")
        raise
    finally:
        await asyncio.sleep(0)
        seen.append(f"exit {name}")


async def numbers():
    try:
        for number in range(2):
            seen.append(f"yield {number}")
            yield number
    except BaseException:
        seen.append("generator caught")
        raise
    finally:
        seen.append("generator finally")


async def step(name):
    try:
        seen.append(f"begin {name}")
        await asyncio.sleep(0)
        seen.append(f"end {name}")
    except BaseException:
        seen.append(f"caught {name}")
    finally:
        seen.append(f"finally {name}")
    return name


def runs():
    try:
        asyncio.run(step("alone"))
    except BaseException:
        seen.append("caught outside")
    finally:
        seen.append("finally outside")
    return "done"


def async_managers():
    async def main():
        async with Manager("outer", swallow=True), manager("inner") as name:
            seen.append(name)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(Manager("stacked", swallow=True))
            stack.push_async_callback(step, "callback")

    asyncio.run(main())
    return "done"


def gathered():
    async def main():
        try:
            return await asyncio.gather(step("a"), step("b"), return_exceptions=True)
        finally:
            seen.append("finally main")

    seen.append(asyncio.run(main()))
    return "done"


def created():
    async def main():
        held.append(asyncio.create_task(step("held")))
        task = asyncio.create_task(step("task"))
        task.add_done_callback(lambda _: seen.append("callback"))
        await asyncio.sleep(0)
        seen.append("main")
        await task

    asyncio.run(main())
    held.clear()
    return "done"


def grouped():
    async def main():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(step("a"))
                group.create_task(step("b"))
        except* BaseException:
            seen.append("group")

    asyncio.run(main())
    return "done"


def async_generators():
    async def main():
        async for number in numbers():
            seen.append(number)
        stream = numbers()
        seen.append(await anext(stream))
        held.append(stream)

    asyncio.run(main())
    held.clear()
    return "done"


def shielded():
    async def main():
        with contextlib.suppress(BaseException):
            await asyncio.shield(step("shielded"))
        try:
            async with asyncio.timeout(None):
                await asyncio.wait_for(step("waited"), None)
        except BaseException:
            seen.append("caught")

    asyncio.run(main())
    return "done"


def own_loop():
    loop = asyncio.new_event_loop()
    try:
        loop.call_soon(seen.append, "soon")
        loop.run_until_complete(step("own"))
    finally:
        seen.append("closing")
        loop.close()
    return "done"


def in_a_thread():
    async def main():
        seen.append(await asyncio.to_thread(step_in_thread))

    asyncio.run(main())
    return "done"


def step_in_thread():
    try:
        seen.append("in thread")
    finally:
        seen.append("finally in thread")
    return "thread"


TASKS = [runs, async_managers, gathered, created, grouped, async_generators, shielded, own_loop, in_a_thread]
