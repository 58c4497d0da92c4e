"""What makes freezegun quick: its look for clocks when it starts, and its clocks while it lasts."""

import sys
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from typing import Any
from unittest.mock import patch

from freezegun import api

__all__ = ["quick_start"]
__tracebackhide__ = True


@contextmanager
def quick_start() -> Iterator[None]:
    """Let freezegun start so that its clocks are quick to read, and look for clocks only where it has to.

    It lists all names of all modules: here only of those whose number of names has changed.
    """
    with ExitStack() as stack:
        now = _Now()
        for name in ("time", "monotonic", "perf_counter"):
            stack.enter_context(patch.object(api, f"fake_{name}", now.read_by(getattr(api, f"fake_{name}"), getattr(api, f"real_{name}"))))
        find = getattr(api, "_get_cached_module_attributes", None)
        if find is not None:

            def found(module: Any) -> Any:
                name, names = module.__name__, getattr(module, "__dict__", ())
                return _clocks(name, id(module), len(names), find) if sys.modules.get(name) is module else find(module)

            stack.enter_context(patch.object(api, "_get_cached_module_attributes", found))
        yield


@cache
def _clocks(module: str, identity: int, size: int, find: Callable[[Any], Any]) -> Any:
    """Find the names under which a module holds a clock, as freezegun does."""
    return find(sys.modules[module])


class _Now:
    """What freezegun's clocks tell, computed once an instant; and who is to have real time, found out once a module."""

    def __init__(self) -> None:
        self._instant: Any = None
        self._seconds = 0.0
        self._ignored: Any = None
        self._real: dict[Any, bool] = {}

    def read_by(self, fake: Callable[[], float], real: Callable[[], float]) -> Callable[[], float]:
        """Make the clock that stands for one of freezegun's."""

        @wraps(fake)
        def clock() -> float:
            ignored = api.ignore_lists[-1] if api.ignore_lists else None
            if ignored is None or (ignored and self._is_real(ignored, sys._getframe(1))):
                return real()
            instant = api.freeze_factories[-1]()
            if instant is not self._instant:
                self._seconds = timegm(instant.timetuple()) + instant.microsecond / 1e6
                self._instant = instant
            return self._seconds

        return clock

    def _is_real(self, ignored: Any, frame: Any) -> bool:
        """Tell, as freezegun does, whether one of the nearest callers is to have real time."""
        if ignored is not self._ignored:
            self._ignored, self._real = ignored, {}
        known = self._real
        for _ in range(api.call_stack_inspection_limit):
            name = frame.f_globals.get("__name__")
            real = known.get(name)
            if real is None:
                real = known[name] = bool(name and name.startswith(ignored))
            if real:
                return True
            frame = frame.f_back
            if frame is None:
                break
        return False
