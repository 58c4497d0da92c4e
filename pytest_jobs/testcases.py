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
def ending(item: Any, end: Callable[[], None]) -> Iterator[list[str]]:
    """Let a test of unittest end with its body, before what it tears down by itself; list it when its body began.

    Args:
        item: The test.
        end: What is to happen when its body has passed.
    """
    unittest = sys.modules.get("unittest.case")
    body = item.obj
    if unittest is None or item.cls is None or not issubclass(item.cls, unittest.TestCase) or iscoroutinefunction(body):
        yield []
        return

    began: list[str] = []

    @wraps(body)
    def ended(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        began.append(item.name)
        result = body(*args, **kwargs)
        end()
        return result

    item.obj = ended
    setattr(item.instance, item.name, ended)  # pytest-django runs the instance's method, not the item's
    try:
        yield began
    finally:
        item.obj = body
        vars(item.instance).pop(item.name, None)
