"""Stands for a library that locks around a function: no project code names its lock."""

import functools
import threading


def synchronized(function):
    """Let one call at a time in."""
    lock = threading.Lock()

    @functools.wraps(function)
    def alone(*args):
        with lock:
            return function(*args)

    return alone
