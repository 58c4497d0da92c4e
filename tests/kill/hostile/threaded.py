"""Tasks whose threads do all they can to run on after their death."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

seen = []
gate = threading.Event()
shared = []


def work(name):
    try:
        seen.append(f"begin {name}")
        seen.append(f"end {name}")
    except BaseException:
        seen.append(f"caught {name}")
    finally:
        seen.append(f"finally {name}")
    return name


def joined():
    thread = threading.Thread(target=work, args=("thread",))
    try:
        thread.start()
        thread.join()
        seen.append("joined")
    except BaseException:
        seen.append("caught")
    finally:
        seen.append("finally")
    return "done"


def executors():
    if not shared:
        shared.append(ThreadPoolExecutor(1))
    with ThreadPoolExecutor(1) as own:
        first = own.submit(work, "first")
        seen.append(first.result())
        first.add_done_callback(lambda _: seen.append("callback"))
        second = own.submit(work, "second")
        for future in as_completed([second]):
            seen.append(future.result())
    seen.append(list(shared[0].map(work, ["mapped"])))
    return "done"


def waiting():
    gate.clear()
    thread = threading.Thread(target=wait)
    thread.start()
    with suppress(BaseException):
        seen.append("waiting")
    gate.set()
    thread.join()
    return "done"


def wait():
    try:
        while not gate.wait(0.001):
            pass
    finally:
        seen.append("waited")


def many():
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    timer = threading.Timer(0, work, ("timer",))
    timer.start()
    timer.join()
    return "done"


TASKS = [joined, executors, waiting, many]

deaf = []


def stuck():
    """Leave a thread in C, where nothing reaches it."""
    deaf.append(threading.Event())
    thread = threading.Thread(target=stay, name="deaf")
    thread.start()
    while not deaf[-1]._cond._waiters: pass
    with deaf[-1]._cond: pass
    seen.append("stuck")
    deaf[-1].set()
    thread.join()
    return "done"


def stay():
    with suppress(BaseException):
        deaf[-1].wait()
    seen.append("out of C")


def behind_a_lock():
    """Leave a thread that waits for a lock of the dead task."""
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=pass_through, args=(lock,))
    thread.start()
    seen.append("before")
    lock.release()
    thread.join()
    return "done"


def pass_through(lock):
    with suppress(BaseException):
        lock.acquire()
    seen.append("through")


TASKS = [joined, executors, waiting, many, behind_a_lock]
