"""Tests of unittest, whose own tearDown and cleanups run in one with the body."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

__all__ = ["ending"]
__tracebackhide__ = True


@contextmanager
def ending(item: Any, end: Callable[[], None]) -> Iterator[bool]:
    """Let a test of unittest end with its body, before what it tears down by itself; say whether it will.

    Args:
        item: The test.
        end: What is to happen when its body has passed.
    """
    unittest = sys.modules.get("unittest.case")
    body = item.obj
    if unittest is None or item.cls is None or not issubclass(item.cls, unittest.TestCase) or iscoroutinefunction(body):
        yield False
        return

    @wraps(body)
    def ended(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        result = body(*args, **kwargs)
        end()
        return result

    item.obj = ended
    try:
        yield True
    finally:
        item.obj = body
