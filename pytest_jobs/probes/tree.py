"""What a watched file or directory holds."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_jobs.world import Unreadable

__all__ = ["SIDE_FILES", "content", "is_sqlite", "tree_state"]

WHOLE = 256 * 1024
MOST = 10_000
SQLITE = b"SQLite format 3\0"
SIDE_FILES = ("-journal", "-wal", "-shm")
TMP_PATH = re.compile(r".*/pytest-of-[^/]+/pytest-\d+/(?:popen-gw\d+/)?[^/]+/?")


def tree_state(path: Path, name: str | None) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
    """Return the content of each file at or below a path; one that does not exist yet has no subject.

    SQLite databases are left out: their rows are what counts, and those are seen by another probe.
    """
    state: dict[str, Any] = {}
    unreadable: list[Unreadable] = []
    for number, file in enumerate(_files(path)):
        subject = _subject(file, path, name)
        if number >= MOST:
            unreadable.append(Unreadable("watch", f"{path} has more than {MOST} files; the rest was not looked at"))
            break
        try:
            found = content(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(Unreadable("watch", f"{subject} could not be read: {error.strerror or error}"))
            continue
        if found is not None:
            state[subject] = found
    return state, tuple(unreadable)


def content(file: Path) -> Any:
    """Return a file's text, its bytes when it is no text, a digest when it is large, None for a database."""
    with file.open("rb") as stream:
        data = stream.read(WHOLE + 1)
        if data.startswith(SQLITE) or file.name.endswith(SIDE_FILES):
            return None
        if len(data) > WHOLE:
            digest = hashlib.sha256(data)
            while more := stream.read(WHOLE):
                digest.update(more)
            starts = data[:200].decode("utf-8", "replace")
            return {"bytes": file.stat().st_size, "sha256": digest.hexdigest(), "starts": starts}
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def is_sqlite(path: Path) -> bool:
    """Whether a path is a SQLite database."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if path.exists():
            yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        yield from (Path(folder, file) for file in sorted(files))


def _subject(file: Path, root: Path, name: str | None) -> str:
    """Return a name that is the same in each run, though `tmp_path` is another one each time."""
    if name is not None:
        return f"file:{name}" if file == root else f"file:{name}/{file.relative_to(root).as_posix()}"
    place = Path(os.path.abspath(file))
    within = TMP_PATH.match(place.as_posix())
    if within and within.end() < len(place.as_posix()):
        return f"file:{place.as_posix()[within.end() :]}"
    if place.is_relative_to(Path.cwd()):
        return f"file:{place.relative_to(Path.cwd()).as_posix()}"
    return f"file:{file.name if file == root else file.relative_to(root).as_posix()}"
