"""Files that a task writes under the directories of the test."""

import asyncio
import builtins
import functools
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakSet, ref

from pytest_jobs.probes.base import DELETED, Patches, Recorder
from pytest_jobs.probes.tree import content
from pytest_jobs.records import Effect
from pytest_jobs.world import EVERYTHING, Unreadable

__all__ = ["FilesProbe", "available"]

WRITES = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR
MOST = 10_000
ORDERLY = (Exception, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
ONE_PATH = MappingProxyType({"remove": "remove", "unlink": "remove", "mkdir": "mkdir", "rmdir": "remove", "truncate": "write"})
# Modules that keep the built-in function under a name of their own.
KEPT = (("tarfile", "bltn_open"), ("bz2", "_builtin_open"))
TWO_PATHS = MappingProxyType({"rename": "rename", "replace": "rename", "link": "link", "symlink": "link"})


def available() -> bool:
    """Tell whether files can be seen: always."""
    return True


class FilesProbe:
    """Sees files being opened for writing, moved and removed below some directories.

    A write is one effect from the opening to the closing of the file; closed or not, a killed task writes no more.
    """

    name = "file"

    def __init__(self, roots: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._roots: list[str] = []
        self._named: list[str] = []
        self._patches = Patches()
        self._recorder = Recorder()
        self._existed: dict[str, bool] = {}
        self._random: dict[str, int] = {}
        self._open: WeakSet[Any] = WeakSet()
        for root in roots:
            self.add(root)

    def add(self, root: str | os.PathLike[str]) -> None:
        """Look at one more directory, or at one file."""
        path = os.path.realpath(root)
        if path not in self._roots:
            self._roots.append(path)

    def named(self, source: Any) -> None:
        """Look at a path that the test gave to `jobs.watch`, which reads by itself what is there."""
        if isinstance(source, Path):
            path = os.path.realpath(source)
            if not any(path.startswith(root + os.sep) or path == root for root in self._roots):
                self._roots.append(path)
                self._named.append(path)

    def install(self, recorder: Recorder) -> None:
        """Hook the functions that everything else opens, moves and removes files with."""
        self._recorder = recorder
        self._existed.clear()
        self._random.clear()
        opens = self._opening(io.open)
        self._patches.replace(io, "open", lambda _: opens)
        self._patches.replace(builtins, "open", lambda _: opens)
        for library, name in KEPT:
            if library in sys.modules:
                self._patches.replace(sys.modules[library], name, lambda _: opens)
        self._patches.replace(os, "open", self._low_opening)
        for name, verb in ONE_PATH.items():
            self._patches.replace(os, name, functools.partial(self._changing, verb, 1))
        for name, verb in TWO_PATHS.items():
            self._patches.replace(os, name, functools.partial(self._changing, verb, 2))
        self._patches.replace(getattr(tempfile, "_RandomNameSequence", None), "__next__", self._naming)
        self._patches.replace(shutil, "rmtree", functools.partial(self._changing, "remove", 1))

    def refresh(self) -> None:
        """Nothing is loaded later."""

    def remove(self) -> None:
        """Unhook them."""
        self._patches.undo()

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return the content of each file touched, temporary ones excepted; `DELETED` for one that was there before and is gone."""
        touched = dict(self._existed)
        for root in self._roots if wanted else ():
            if wanted >= EVERYTHING:
                touched.setdefault(root, False)
            places = (os.path.join(root, each.removeprefix("file:")) for each in wanted if each.startswith("file:"))
            touched |= {path: False for path in places if path not in touched}
        state: dict[str, Any] = {}
        unreadable: list[Unreadable] = []
        with self._recorder.paused():
            for path, existed in _with_files_below(touched).items():
                if self._root(path) in self._named or any(name in path for name in self._random):
                    continue
                try:
                    found = content(Path(path))
                except FileNotFoundError:
                    if existed:
                        state[self._subject(path)] = DELETED
                except OSError as error:
                    reason = f"{self._subject(path)} could not be read: {error.strerror or error}"
                    unreadable.append(Unreadable(self.name, reason))
                else:
                    if found is not None:
                        state[self._subject(path)] = found
        return state, tuple(unreadable)

    def forget(self) -> None:
        """Close what a killed task has open; what it had not flushed is lost with it."""
        for stream in list(self._open):
            try:
                _drop(stream)
            except (OSError, ValueError):
                continue
        self._open.clear()

    # Hooks

    def _naming(self, original: Any) -> Any:
        def following(sequence: Any) -> str:
            name = str(original(sequence))
            if self._recorder.sink is not None:
                self._random[name] = len(self._random) + 1
            return name

        return following

    def _opening(self, original: Any) -> Any:
        @functools.wraps(original)
        def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if self._recorder.sink is None or not isinstance(mode, str) or not set("wax+") & set(mode):
                return original(file, mode, *args, **kwargs)
            path = self._inside(file)
            if path is None or os.path.isdir(path):
                return original(file, mode, *args, **kwargs)
            self._touch(path)
            if not self._recorder.active:
                return original(file, mode, *args, **kwargs)
            writing = self._recorder.doing(self._effect("write", path), _failing, atomic=False)
            writing.__enter__()
            try:
                with self._recorder.paused():
                    stream = original(file, mode, *args, **kwargs)
            except BaseException:
                writing.__exit__(*sys.exc_info())
                raise
            self._open.add(stream)
            stream.close = _closing(ref(stream), writing, self._open)
            return stream

        return open

    def _low_opening(self, original: Any) -> Any:
        @functools.wraps(original)
        def open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if self._recorder.sink is None or not flags & WRITES or kwargs.get("dir_fd") is not None:
                return original(path, flags, *args, **kwargs)  # type: ignore[no-any-return]
            place = self._inside(path)
            if place is None:
                return original(path, flags, *args, **kwargs)  # type: ignore[no-any-return]
            self._touch(place)
            with self._recorder.doing(self._effect("write", place), _failing):
                return original(path, flags, *args, **kwargs)  # type: ignore[no-any-return]

        return open

    def _changing(self, verb: str, count: int, original: Any) -> Any:
        @functools.wraps(original)
        def change(*args: Any, **kwargs: Any) -> Any:
            if self._recorder.sink is None or any(kwargs.get(name) is not None for name in kwargs if "dir_fd" in name):
                return original(*args, **kwargs)
            given = [*args, *(kwargs[name] for name in ("path", "src", "dst") if name in kwargs)][:count]
            paths = [path for each in given if (path := self._inside(each)) is not None]
            if not paths or (verb == "mkdir" and os.path.isdir(paths[0])):
                return original(*args, **kwargs)
            for path in paths:
                self._touch(path)
            with self._recorder.doing(self._effect(verb, *paths), _failing):
                return original(*args, **kwargs)

        return change

    # Paths

    def _inside(self, file: Any) -> str | None:
        """Return where a path leads, None when that is not below a directory that is looked at."""
        if not isinstance(file, str | bytes | os.PathLike):
            return None
        folder, name = os.path.split(os.path.abspath(os.fsdecode(file)))
        path = os.path.join(os.path.realpath(folder), name)
        return path if any(path.startswith(root + os.sep) or path == root for root in self._roots) else None

    def _touch(self, path: str) -> None:
        if path not in self._existed:
            self._existed[path] = os.path.lexists(path)

    def _subject(self, path: str) -> str:
        root = self._root(path)
        name = os.path.relpath(path, root) if path != root else os.path.basename(path)
        for random, number in self._random.items():
            name = name.replace(random, f"-{number}")
        return f"file:{name}"

    def _root(self, path: str) -> str:
        return next(root for root in self._roots if path.startswith(root + os.sep) or path == root)

    def _effect(self, verb: str, *paths: str) -> Effect:
        subjects = [self._subject(path) for path in paths]
        label = f"{verb} {' -> '.join(subject.removeprefix('file:') for subject in subjects)}"
        return Effect("file", subjects[-1], label, safe=True)


def _with_files_below(touched: Mapping[str, bool]) -> dict[str, bool]:
    """Replace each directory by its files: it was moved there, or is empty and no state."""
    found: dict[str, bool] = {}
    for path, existed in touched.items():
        if not os.path.isdir(path):
            found[path] = existed
            continue
        for folder, _, names in os.walk(path):
            found |= {os.path.join(folder, name): False for name in sorted(names) if len(found) < MOST}
    return found | {path: existed for path, existed in touched.items() if path in found}


def _failing() -> BaseException:
    return OSError(5, "Input/output error")


def _closing(
    stream: Callable[[], Any], writing: AbstractContextManager[None], opened: WeakSet[Any]
) -> Callable[[], None]:
    """Make a file's own `close`, which ends the effect; it does not hold the file, which still closes when unused.

    When a kill passes by, the file is closed as the death of a process closes it: unflushed.
    """

    def close() -> None:
        file = stream()
        vars(file).pop("close", None)
        opened.discard(file)
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ORDERLY):
            _drop(file)
            return
        file.close()
        writing.__exit__(None, None, None)

    return close


def _drop(stream: Any) -> None:
    """Close a file without writing what is in its buffer."""
    vars(stream).pop("close", None)
    if stream.closed:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
    stream.close()
