"""Which files are project code, and how their lines are named."""

import importlib.util
import io
import os
import sysconfig
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pytest_jobs.errors import UsageError

__all__ = ["Source", "check", "named_points"]

HELPERS = ("conftest.py",)
TEST_FOLDERS = ("tests", "test", "testing")


class Source:
    """Decides what is project code: files under the roots, less installed packages, tests and their helpers.

    Args of the constructor:
        roots: Folders of project code.
        exclude: Files that are never project code, such as the test module.
        modules: Importable names whose files count although they are installed.

    Attributes:
        foreign: The names of files that are known to be none of it.
    """

    def __init__(self, roots: Iterable[Path], exclude: Iterable[Path] = (), modules: Iterable[str] = ()) -> None:
        self.roots = tuple(Path(root).resolve() for root in roots)
        self._excluded = {str(Path(path).resolve()) for path in exclude}
        self._included: set[str] = set()
        self._packages = tuple(_place(name) for name in modules)
        self._known: dict[str, bool] = {}
        self._names: dict[str, str] = {}
        self._installed = _installed()
        self.foreign: set[str] = set()

    def include(self, filename: str) -> None:
        """Count a file: a task is defined there."""
        path = str(_resolved(filename))
        if path not in self._included and not path.startswith(self._installed):
            self._included.add(path)
            self._known.clear()
            self.foreign.clear()

    def is_project(self, filename: str) -> bool:
        """Tell whether a code object's file is project code."""
        known = self._known.get(filename)
        if known is None:
            known = self._known[filename] = self._decide(filename)
            if not known:
                self.foreign.add(filename)
        return known

    def _decide(self, filename: str) -> bool:
        if filename.startswith("<"):
            return False
        path = _resolved(filename)
        text = str(path)
        if text in self._included or any(text == place or text.startswith(f"{place}/") for place in self._packages):
            return True
        if text in self._excluded or text.startswith(self._installed) or "site-packages" in path.parts:
            return False
        root = next((root for root in self.roots if path.is_relative_to(root)), None)
        if root is None:
            return False
        inside = path.relative_to(root).parts
        test = path.name.startswith("test_") or path.name.endswith("_test.py") or path.name in HELPERS
        hidden = any(part.startswith(".") or part in {"venv", "env", "node_modules"} for part in inside[:-1])
        return not (test or hidden or any(part in TEST_FOLDERS for part in inside[:-1]))

    def label(self, filename: str, line: int) -> str:
        """Name a line as people do: `billing/tasks.py:42`."""
        name = self._names.get(filename)
        if name is None:
            path = _resolved(filename)
            root = next((root for root in self.roots if path.is_relative_to(root)), None)
            name = self._names[filename] = path.name if root in (None, path) else path.relative_to(root).as_posix()
        return f"{name}:{line}"

    def find_line(self, target: str, caller: str) -> tuple[str, int]:
        """Resolve `billing/tasks.py:42`.

        Raises:
            UsageError: When there is no such file below the roots, or no code on that line.
        """
        name, _, number = target.rpartition(":")
        for root in self.roots:
            path = root / name
            if path.is_file():
                lines = _code_lines(path)
                if int(number) in lines:
                    return str(path), int(number)
                near = min(lines, key=lambda line: abs(line - int(number)), default=1)
                raise UsageError(f"{caller} was given {target!r}, but no code is on that line; the nearest is line {near}")
        raise UsageError(f"{caller} was given {target!r}, but there is no file {name!r} under {self.roots[0]}")

    def find_named(self, name: str, caller: str, files: Iterable[str]) -> tuple[str, int]:
        """Resolve `#charged`: the line that carries the comment `# jobs: charged`.

        Raises:
            UsageError: When no project file, or more than one place, carries it.
        """
        found: list[tuple[str, int]] = []
        named: set[str] = set()
        for filename in sorted(set(files)):
            if self.is_project(filename):
                points = named_points(filename)
                named |= points.keys()
                if name in points:
                    found.append((filename, points[name]))
        if len(found) == 1:
            return found[0]
        if found:
            places = ", ".join(self.label(*place) for place in found)
            raise UsageError(f"{caller} was given '#{name}', which stands in more than one place: {places}")
        there = f"; there are {', '.join(f'#{point}' for point in sorted(named))}" if named else ""
        raise UsageError(f"{caller} was given '#{name}', but no loaded project file has the comment # jobs: {name}{there}")


def _resolved(filename: str) -> Path:
    return _absolute(filename) if os.path.isabs(filename) else Path(filename).resolve()


@cache
def _absolute(filename: str) -> Path:
    """Resolve a file's name, once a process: each world asks for hundreds of them."""
    return Path(filename).resolve()


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).resolve().parent)
    return tuple({*(str(Path(paths[key]).resolve()) for key in ("purelib", "platlib", "stdlib")), own})


def named_points(filename: str) -> dict[str, int]:
    """Return the named points of a file: the names in its `# jobs: name` comments, each with its line."""
    try:
        text = Path(filename).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    if "# jobs:" not in text:
        return {}
    points = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("# jobs:"):
            points[token.string.removeprefix("# jobs:").strip()] = token.start[0]
    return points


def _code_lines(path: Path) -> set[int]:
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    lines: set[int] = set()
    todo = [code]
    while todo:
        one = todo.pop()
        lines.update(line for _, _, line in one.co_lines() if line)
        todo += [const for const in one.co_consts if hasattr(const, "co_lines")]
    return lines


def check(names: Iterable[str], root: Path) -> None:
    """Refuse names of project code that are neither a path nor a module.

    Raises:
        UsageError: For the first of them.
    """
    for name in names:
        if not (root / name).exists():
            _place(name)


def _place(name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"jobs_source names {name!r}; allowed are paths that exist and importable modules")
    origin = Path(spec.origin).resolve()
    return str(origin.parent if origin.name == "__init__.py" else origin)
