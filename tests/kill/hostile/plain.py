"""Tasks that do all they can to run on after their death. Each notes its cleanup in `seen`, a list of the test's."""

import atexit
import contextlib
import functools
import gc
import logging
import signal
import threading
import weakref

seen = []
held = []
lock = threading.Lock()
reentrant = threading.RLock()
log = logging.getLogger("hostile")


def try_finally():
    try:
        seen.append("work")
        seen.append("more")
    finally:
        seen.append("finally")
    return "done"


def except_base_exception():
    try:
        seen.append("work")
        seen.append("more")
    except BaseException:
        seen.append("caught")
    state = {}
    try:
        state["at"] = len(seen)
        state["to"] = state["at"]
    except BaseException as error:
        seen[:] = [error]
    else:
        seen.append("else")
    return "done"


def swallow_without_a_call():
    try:
        held[:] = ["running"]
        held[0] = "paid"
    except BaseException:
        seen[:] = ["failed"]
        held[0] = "failed"
    held.clear()
    return "done"


def bare_except_continue():
    for number in range(3):
        try:
            seen.append(number)
            if number == 1:
                seen.append("one")
        except:  # noqa: E722
            seen.append("caught")
            continue
        seen.append("after")
    return "done"


def bare_except_return():
    try:
        seen.append("work")
        return "done"
    except:  # noqa: E722
        return seen.append("caught")
    finally:
        seen.append("finally")


def while_true():
    tries = 0
    while True:
        try:
            tries += 1
            seen.append(tries)
            if tries == 4:
                break
        except BaseException:
            seen.append("again")
    return "done"


def jump_out_of_finally():
    for number in range(2):
        try:
            seen.append(number)
        finally:
            seen.append("finally")
            continue  # noqa: PLE0116
    while True:
        try:
            seen.append("loop")
        finally:
            break  # noqa: B012
    return "done"


def in_a_handler():
    try:
        raise ValueError("first")
    except ValueError as error:
        seen.append(str(error))
        try:
            raise KeyError("second") from error
        except KeyError:
            seen.append("second")
        finally:
            seen.append("inner finally")
    except BaseException:
        seen.append("outer")
    finally:
        seen.append("outer finally")
    return "done"


def exception_groups():
    try:
        try:
            raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])
        except* ValueError:
            seen.append("values")
        except* KeyError:
            seen.append("keys")
    finally:
        seen.append("finally")
    return "done"


class Manager:
    def __init__(self, name, swallow=False):
        self.name = name
        self.swallow = swallow

    def __enter__(self):
        seen.append(f"enter {self.name}")
        return self

    def __exit__(self, *error):
        seen.append(f"exit {self.name}")
        return self.swallow


@contextlib.contextmanager
def manager(name):
    seen.append(f"enter {name}")
    try:
        yield name
    except BaseException:
        seen.append(f"error {name}")
        raise
    finally:
        seen.append(f"exit {name}")


class Decorating(contextlib.ContextDecorator):
    def __enter__(self):
        seen.append("enter decorator")

    def __exit__(self, *error):
        seen.append("exit decorator")
        return True


def class_managers():
    with Manager("outer"):
        seen.append("one")
        with Manager("inner", swallow=True) as inner, Manager("second"):
            seen.append(inner.name)
        seen.append("two")
    return "done"


def generator_managers():
    with manager("outer") as name:
        seen.append(name)
        with manager("inner"), Manager("class", swallow=True):
            seen.append("one")
    return "done"


def one_line_with():
    with Manager("a", swallow=True): seen.append("in a")  # noqa: E701
    with manager("b"): seen.append("in b")  # noqa: E701
    with lock: seen.append("in lock")  # noqa: E701
    return "done"


def exit_stack():
    with contextlib.ExitStack() as stack:
        stack.enter_context(Manager("a", swallow=True))
        stack.callback(lambda: seen.append("callback"))
        stack.push(lambda *error: seen.append("pushed") or True)
        stack.enter_context(manager("b"))
        seen.append("inside")
        kept = stack.pop_all()
    seen.append("popped")
    kept.close()
    return "done"


def suppressed():
    with contextlib.suppress(BaseException):
        seen.append("one")
        seen.append("two")
    seen.append("after")
    with contextlib.closing(Closing()):
        seen.append("open")
    return "done"


class Closing:
    def close(self):
        seen.append("closed")


@Decorating()
def decorated_inside():
    seen.append("inside")
    return "done"


def shielded(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except BaseException:
            seen.append("shield")
            return "shielded"
        finally:
            seen.append("shield finally")

    return call


@shielded
@shielded
def decorated():
    seen.append("inside")
    decorated_inside()
    return "done"


def nested_calls():
    def inner(depth):
        try:
            seen.append(depth)
            return inner(depth - 1) if depth else "bottom"
        except BaseException:
            return "caught"
        finally:
            seen.append(f"finally {depth}")

    seen.append(inner(3))
    return "done"


def callbacks_from_c():
    def key(value):
        try:
            seen.append(value)
            return -value
        except BaseException:
            return 0

    sorted([1, 2, 3], key=key)
    list(map(key, [4, 5]))
    functools.reduce(lambda left, right: key(left) + right, [1, 2, 3])
    return "done"


def numbers():
    try:
        for number in range(3):
            seen.append(f"yield {number}")
            yield number
    except BaseException:
        seen.append("generator caught")
    finally:
        seen.append("generator finally")


def delegating():
    try:
        yield from numbers()
    finally:
        seen.append("delegate finally")


def generators():
    for number in delegating():
        seen.append(number)
    total = sum(number * 2 for number in numbers())
    seen.append(total)
    return "done"


def suspended_generator():
    stream = numbers()
    seen.append(next(stream))
    another = (number for number in numbers())
    seen.append(next(another))
    return "done"


def generator_in_a_cycle():
    stream = delegating()
    held.append(stream)
    seen.append(next(stream))
    knot = [stream]
    knot.append(knot)
    held.clear()
    seen.append("knotted")
    del stream, knot
    gc.collect()
    return "done"


def generator_held_by_a_module():
    held.append(numbers())
    seen.append(next(held[-1]))
    seen.append("kept")
    held.pop().close()
    return "done"


class Mourner:
    def __init__(self, name):
        self.name = name
        self.itself = None

    def __del__(self):
        seen.append(f"del {self.name}")


def finalizers():
    mourner = Mourner("local")
    seen.append(mourner.name)
    del mourner
    watched = Mourner("watched")
    weakref.finalize(watched, seen.append, "finalized")
    weakref.finalize(watched, note, "noted")
    seen.append("watching")
    return "done"


def note(text):
    seen.append(text)


def at_exit():
    atexit.register(note, "at exit")
    seen.append("registered")
    atexit.unregister(note)
    return "done"


class Handler(logging.Handler):
    def emit(self, record):
        try:
            seen.append(record.getMessage())
        finally:
            seen.append("emitted")


def logging_handler():
    handler = Handler()
    log.handlers[:] = [handler]
    try:
        log.error("one")
        log.error("two")
    finally:
        log.removeHandler(handler)
    return "done"


def signal_handler():
    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    return "done"


def on_signal(number, frame):
    seen.append("signal")


def locks():
    with lock:
        seen.append("locked")
        with reentrant:
            seen.append("twice")
    with lock, reentrant:
        seen.append("both")
    return "done"


def expressions():
    doubled = [note(number) for number in range(2)]
    named = {
        number: note(
            number,
        )
        for number in range(2)
    }
    pick = lambda number: seen.append(number)  # noqa: E731
    pick(
        len(doubled)
        + len(named),
    )
    match len(seen) > 0:
        case True:
            seen.append("matched")
        case _:
            seen.append("never")
    return "done"


TASKS = [
    try_finally, except_base_exception, swallow_without_a_call, bare_except_continue, bare_except_return, while_true,
    jump_out_of_finally, in_a_handler, exception_groups, class_managers, generator_managers, one_line_with, exit_stack,
    suppressed, decorated, decorated_inside, nested_calls, callbacks_from_c, generators, suspended_generator,
    generator_in_a_cycle, generator_held_by_a_module, finalizers, at_exit, logging_handler, signal_handler, locks, expressions,
]  # fmt: skip
