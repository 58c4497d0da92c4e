"""What a test watches, kept as it is now and put back later, in place."""

from collections import deque
from collections.abc import Iterable, MutableMapping, MutableSequence, MutableSet
from pathlib import Path
from typing import Any, Protocol

from pytest_jobs.probes.tree import SIDE_FILES, is_sqlite

__all__ = ["Calls", "Contents", "Files", "Keeper", "Keys"]

MUTABLE = (MutableMapping, MutableSequence, MutableSet, deque)
RECORDED = (
    "called", "call_count", "call_args", "mock_calls", "method_calls", "call_args_list", "await_count", "await_args",
    "await_args_list",
)  # fmt: skip
# Publishers of this process remember that they made them.
BINDINGS = b"_kombu.binding."
MOST_BYTES = 64 * 1024 * 1024


class Keeper(Protocol):
    """Knows how one part of the world was, and puts it back."""

    def keep(self) -> None:
        """Remember it as it is now."""

    def restore(self) -> tuple[str, ...]:
        """Put it back; return one sentence for each part that could not be."""


class Contents:
    """Owns what a container held, and the containers inside it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._kept: list[tuple[Any, Any]] = []

    def keep(self) -> None:
        """Remember the content of each container, under its identity."""
        self._kept = []
        todo, seen = [self._source], set()
        while todo:
            one = todo.pop()
            if id(one) in seen or not _mutable(one):
                continue
            seen.add(id(one))
            self._kept.append((one, dict(one) if isinstance(one, MutableMapping) else list(one)))
            todo += one.values() if isinstance(one, MutableMapping) else one

    def restore(self) -> tuple[str, ...]:
        """Fill each container again, in place."""
        left = []
        for container, content in self._kept:
            try:
                _fill(container, content)
            except Exception as error:  # noqa: BLE001 - a container class of the project's own
                left.append(f"a {type(container).__name__} that is watched could not be filled again: {error}")
        return tuple(left)


def _mutable(value: Any) -> bool:
    return isinstance(value, MUTABLE) and not isinstance(value, bytearray)


def _fill(container: Any, content: Any) -> None:
    if isinstance(container, MutableMapping):
        if dict(container) != content or list(container) != list(content):
            container.clear()
            container.update(content)
    elif list(container) != content:
        container.clear()
        if isinstance(container, MutableSet):
            for each in content:
                container.add(each)
        else:
            container.extend(content)


class Calls:
    """Owns what a mock and its children had recorded; what an iterated `side_effect` has given out is gone."""

    def __init__(self, mock: Any) -> None:
        self._mock = mock
        self._kept: list[tuple[Any, str, Any]] = []

    def keep(self) -> None:
        """Remember the calls of the mock and of all that hangs on it."""
        self._kept = []
        for mock in _family(self._mock):
            for name in (each for each in RECORDED if hasattr(type(mock), each) or each in vars(mock)):
                value = getattr(mock, name)
                self._kept.append((mock, name, list(value) if isinstance(value, list) else value))

    def restore(self) -> tuple[str, ...]:
        """Forget the calls that were made since."""
        self._mock.reset_mock()
        for mock, name, value in self._kept:
            if isinstance(value, list):
                getattr(mock, name)[:] = value
            else:
                setattr(mock, name, value)
        return ()


def _family(mock: Any) -> Iterable[Any]:
    todo, seen = [mock], set()
    while todo:
        one = todo.pop()
        if id(one) not in seen and hasattr(type(one), "reset_mock"):
            seen.add(id(one))
            yield one
            todo += [*vars(one)["_mock_children"].values(), vars(one).get("_mock_return_value")]


class Files:
    """Owns the content of a file, or of every file below a directory; rows of SQLite files are put back elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._databases: frozenset[Path] = frozenset()
        self._kept: dict[Path, tuple[int, int, bytes]] = {}
        self._folders: set[Path] = set()
        self._too_much = False

    def keep(self) -> None:
        """Read what changed since the last look."""
        before, self._kept, self._folders, self._too_much = self._kept, {}, set(), False
        size = 0
        everything = self._below()
        found = {path for path in everything if not _folder(path) and is_sqlite(path)}
        self._databases = frozenset(found | {path.with_name(path.name + end) for path in found for end in SIDE_FILES})
        for path in everything:
            if path in self._databases:
                continue
            if path.is_dir() and not path.is_symlink():
                self._folders.add(path)
                continue
            state = path.lstat()
            size += state.st_size
            if size > MOST_BYTES:
                self._too_much = True
                return
            known = before.get(path)
            same = known is not None and known[:2] == (state.st_mtime_ns, state.st_size)
            content = known[2] if same and known is not None else _content(path)
            self._kept[path] = state.st_mtime_ns, state.st_size, content

    def restore(self) -> tuple[str, ...]:
        """Write again what changed, remove what is new."""
        if self._too_much:
            return (f"{self._root} holds more than {MOST_BYTES // 1024 // 1024} MB, so its files were not kept",)
        left: list[str] = []
        for path in sorted(self._below(), reverse=True):
            if path not in self._kept and path not in self._folders and path not in self._databases:
                left += _tried(path, lambda path=path: path.rmdir() if _folder(path) else path.unlink())
        for path in sorted(self._folders):
            left += _tried(path, lambda path=path: path.mkdir(exist_ok=True))
        for path, (changed, size, content) in self._kept.items():
            there = path.lstat() if path.exists() or path.is_symlink() else None
            if there is None or (there.st_mtime_ns, there.st_size) != (changed, size) or _content(path) != content:
                left += _tried(path, lambda path=path, content=content: _write(path, content))
        return tuple(left)

    def _below(self) -> list[Path]:
        if not _folder(self._root):
            return [self._root] if self._root.exists() else []
        return list(self._root.rglob("*"))


def _folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _content(path: Path) -> bytes:
    return str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    if path.is_symlink():
        path.unlink()
        path.symlink_to(content.decode())
    else:
        path.write_bytes(content)


def _tried(path: Path, work: Any) -> tuple[str, ...]:
    try:
        work()
    except OSError as error:
        return (f"{path} could not be put back: {error.strerror or error}",)
    return ()


class Keys:
    """Owns the keys and values of one database of a Redis server."""

    def __init__(self, client: Any, place: str) -> None:
        self._client = client
        self._place = place
        self._kept: dict[bytes, tuple[int, bytes]] = {}
        self._failed = ""

    def keep(self) -> None:
        """Copy every key, with the time it has left."""
        self._failed = ""
        try:
            self._kept = self._read()
        except Exception as error:  # noqa: BLE001 - a server that is not there, or does not let itself be copied
            self._failed = f"{self._place} was not kept: {error}"

    def restore(self) -> tuple[str, ...]:
        """Remove what is new, write again what changed."""
        if self._failed:
            return (self._failed,)
        try:
            now = self._read()
            for key in now.keys() - self._kept.keys():
                self._client.delete(key)
            for key, (expires, value) in self._kept.items():
                if now.get(key) != (expires, value):
                    self._client.restore(key, expires, value, replace=True)
        except Exception as error:  # noqa: BLE001 - a server that went away
            return (f"{self._place} could not be put back: {error}",)
        return ()

    def _read(self) -> dict[bytes, tuple[int, bytes]]:
        return {
            key: (max(self._client.pttl(key), 0), value)
            for key in self._client.scan_iter(count=500)
            if not key.startswith(BINDINGS) and (value := self._client.dump(key)) is not None
        }
