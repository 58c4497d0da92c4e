"""Calls of `unittest.mock` objects made by a task: what its fakes were asked to do."""

import functools
import sys
from collections.abc import Mapping
from typing import Any

from pytest_jobs.probes.base import Patches, Recorder, Transient
from pytest_jobs.probes.plain import Called
from pytest_jobs.records import Effect
from pytest_jobs.world import Unreadable

__all__ = ["MockProbe", "available"]

MODULES = ("unittest.mock", "mock.mock")
SHOWN = 120


def available() -> bool:
    """Tell whether somebody has imported mock."""
    return any(hasattr(sys.modules.get(name), "CallableMixin") for name in MODULES)


class MockProbe:
    """Sees explicit calls of mocks; those of watched ones are outgoing calls, which can fail."""

    name = "mock"

    def __init__(self) -> None:
        self._patches = Patches()
        self._hooked: set[str] = set()
        self._watched: list[Any] = []
        self._recorder = Recorder()

    def watch(self, mock: Any) -> None:
        """Make the calls of a mock, of its children and of what it returns outgoing calls.

        Args:
            mock: A mock, or a function made by `create_autospec`.
        """
        inner = vars(mock).get("mock")
        self._watched.append(inner if inner is not None and callable(mock) else mock)

    def named(self, source: Any) -> None:
        """Watch what the test gave to `jobs.watch`, if it is a mock."""
        kinds = tuple(sys.modules[name].NonCallableMock for name in self._hooked)
        if isinstance(source, kinds) or isinstance(getattr(source, "mock", None), kinds):
            self.watch(source)

    def install(self, recorder: Recorder) -> None:
        """Hook the call of every mock."""
        self._recorder = recorder
        self.refresh()

    def refresh(self) -> None:
        """Hook a mock library that has been loaded since."""
        for name in MODULES:
            module = sys.modules.get(name)
            if name not in self._hooked and module is not None and hasattr(module, "CallableMixin"):
                self._hooked.add(name)
                self._patches.replace(module.CallableMixin, "__call__", functools.partial(self._make, module))

    def remove(self) -> None:
        """Unhook them."""
        self._patches.undo()
        self._hooked.clear()
        self._watched.clear()

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return nothing: watched mocks are read by `jobs.watch`."""
        return {}, ()

    def forget(self) -> None:
        """Nothing stays open that a dead process would close."""

    def _make(self, module: Any, original: Any) -> Any:
        probe = self

        @functools.wraps(original)
        def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if not probe._recorder.active:
                return original(self, *args, **kwargs)
            name = self._extract_mock_name()
            if isinstance(self, module.PropertyMock) or _is_magic(name):
                return original(self, *args, **kwargs)
            if isinstance(self, module.AsyncMock):
                return probe._awaited(original, self, name, args, kwargs)
            with probe._recorder.doing(_effect(name, args, kwargs), probe._error(self), atomic=_is_fake(self)):
                return original(self, *args, **kwargs)

        return __call__

    async def _awaited(self, original: Any, mock: Any, name: str, args: Any, kwargs: Any) -> Any:
        with self._recorder.doing(_effect(name, args, kwargs), self._error(mock), atomic=_is_fake(mock)):
            return await original(mock, *args, **kwargs)

    def _error(self, mock: Any) -> Transient | None:
        above: Any = mock
        while above is not None:
            if any(above is watched for watched in self._watched):
                return lambda: ConnectionError("Connection reset by peer")
            above = above._mock_new_parent
        return None


def _effect(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Effect:
    try:
        label = repr(Called((name, args, kwargs)))
    except Exception:  # noqa: BLE001 - a broken __repr__ of an argument must not end the task
        label = f"{name}(…)"
    short = label if len(label) <= SHOWN else f"{label[: SHOWN - 2]}…)"
    return Effect("mock", f"mock:{name}", short, safe=True)


def _is_magic(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith("__") and last.endswith("__")


def _is_fake(mock: Any) -> bool:
    """Whether a mock answers by itself, rather than let its call through to real code as `mocker.spy` does."""
    return mock._mock_wraps is None and not hasattr(mock.side_effect, "__wrapped__")
