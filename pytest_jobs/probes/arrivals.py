"""Notice when a library is imported in the middle of a job: many tasks import what they use in their own body."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

__all__ = ["Arrivals", "is_loading"]


class Arrivals:
    """A finder that finds what the others find, and tells when it has been executed.

    Args:
        names: The modules to tell of.
        arrived: Told the name of each, right after it was executed for the first time.
    """

    def __init__(self, names: Iterable[str], arrived: Callable[[str], None]) -> None:
        self._names = frozenset(names)
        self._arrived = arrived
        self._asking: set[str] = set()

    def install(self) -> None:
        """Be asked first."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Be asked no more."""
        with suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return what the other finders say, its loader told to tell."""
        if name not in self._names or name in self._asking:
            return None
        self._asking.add(name)
        try:
            finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
            specs = (finder.find_spec(name, path, target) for finder in finders)
            spec = next((found for found in specs if found is not None), None)
        finally:
            self._asking.discard(name)
        # Only a loader that is this module's own can be told: pytest's rewriting one is shared.
        loader: Any = spec.loader if spec is not None else None
        if getattr(loader, "name", None) == name and hasattr(loader, "exec_module"):
            with suppress(AttributeError, TypeError):  # one that lets nobody
                loader.exec_module = self._telling(loader, name)
        return spec

    def _telling(self, loader: Any, name: str) -> Callable[[Any], None]:
        original = loader.exec_module

        def exec_module(module: Any) -> None:
            vars(loader).pop("exec_module", None)
            original(module)
            self._arrived(name)

        return exec_module


def is_loading(name: str, done: str = "") -> bool:
    """Tell whether a module, or a package around it, is still being executed; the one that is just done counts as loaded."""
    parts = name.split(".")
    places = [".".join(parts[: count + 1]) for count in range(len(parts))]
    specs = {place: getattr(sys.modules.get(place), "__spec__", None) for place in places}
    return any(getattr(spec, "_initializing", False) for place, spec in specs.items() if place != done)
