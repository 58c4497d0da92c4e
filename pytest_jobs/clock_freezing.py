"""What makes freezegun quick: its look for clocks when it starts, and its clocks while it lasts."""

import sys
import warnings
from calendar import timegm
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from typing import Any
from unittest.mock import patch

from freezegun import api

__all__ = ["Holders", "quick_start"]
__tracebackhide__ = True


@contextmanager
def quick_start(freezer: Any) -> Iterator[None]:
    """Let freezegun start so that its clocks are quick to read, and look for clocks only where there are any.

    It lists all names of all modules, each time: here only those of modules whose number of names has changed.
    """
    with ExitStack() as stack:
        now = _Now()
        for name in ("time", "monotonic", "perf_counter"):
            stack.enter_context(patch.object(api, f"fake_{name}", now.read_by(getattr(api, f"fake_{name}"), getattr(api, f"real_{name}"))))
        find = getattr(api, "_get_cached_module_attributes", None)
        if find is None:
            yield
            return
        modules = _Modules(freezer.ignore, find)
        stack.enter_context(patch.object(api, "sys", modules))
        stack.enter_context(patch.object(api, "_get_cached_module_attributes", lambda module: modules.clocks[id(module)]))
        yield
        freezer.modules_at_start = set(sys.modules)


class Holders:
    """The modules that hold what is looked for; one is looked through again only when its number of names has changed.

    Args:
        find: Returns what a module of this name holds, nothing when empty.
    """

    def __init__(self, find: Callable[[str, Any], Sequence[Any]]) -> None:
        self._find = find
        self._known: dict[str, tuple[Any, Sized, int, Sequence[Any]]] = {}

    def __iter__(self) -> Iterator[tuple[str, Any, Sequence[Any]]]:
        """Yield name, module and what was found of every one that holds anything."""
        known, modules = self._known, list(sys.modules.items())
        for name, module in modules:
            entry = known.get(name)
            if entry is None or entry[0] is not module or len(entry[1]) != entry[2]:
                names = getattr(module, "__dict__", ())
                entry = known[name] = module, names, len(names), self._find(name, module) if names else ()
            if entry[3]:
                yield name, module, entry[3]
        if len(known) > len(modules):
            for name in known.keys() - sys.modules.keys():
                del known[name]


class _Modules:
    """What freezegun has of `sys` while it starts: the modules that hold a clock, and under which names."""

    def __init__(self, ignored: tuple[str, ...], find: Callable[[Any], Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(_clocks(ignored, find))
        self.modules = {name: module for name, module, _ in found}
        self.clocks = {id(module): clocks for _, module, clocks in found}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


@cache
def _clocks(ignored: tuple[str, ...], find: Callable[[Any], Any]) -> Holders:
    """Find the names under which a module holds a clock, as freezegun does; it leaves some modules alone."""

    def held(name: str, module: Any) -> Any:
        if name == api.__name__ or name.startswith(ignored) or name.endswith(".six.moves"):
            return ()
        return find(module) if getattr(module, "__name__", "datetime") not in {"datetime", "time"} else ()

    return Holders(held)


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
