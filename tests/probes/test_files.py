import builtins
import bz2
import gc
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from pytest_jobs.probes.base import DELETED, Recorder
from pytest_jobs.probes.files import FilesProbe, available

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, at="never", error=None):
        self.at = at
        self.error = error
        self.effects = []

    def before(self, effect, error):
        self.strike("before", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", error)

    def strike(self, place, error):
        if self.at == place:
            raise self.error or error()

    @property
    def labels(self):
        return [effect.label for effect in self.effects]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "out").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def probe(recorder, root):
    probe = FilesProbe([root])
    probe.install(recorder)
    yield probe
    probe.remove()


def with_open(path):
    with open(path, "w") as stream:
        stream.write("7 cents")


def without_close(path):
    open(path, "w").write("7 cents")  # noqa: SIM115


def with_copy(path):
    with tempfile.NamedTemporaryFile("w", suffix=".src") as source:
        source.write("7 cents")
        source.flush()
        shutil.copyfile(source.name, path)


WAYS = [with_open, without_close, with_copy, lambda path: path.write_text("7 cents")]
WAYS += [lambda path: path.write_bytes(b"7 cents"), lambda path: print("7 cents", end="", file=path.open("a"))]


@pytest.fixture(params=WAYS, ids=range(len(WAYS)))
def write(request):
    return request.param


def test_a_write_is_one_effect(write, probe, recorder, root):
    """A file written is one effect, and its content state."""
    recorder.sink = sink = Sink()
    write(root / "out" / "a.txt")
    (effect,) = sink.effects
    assert (effect.kind, effect.target, effect.label) == ("file", "file:out/a.txt", "write out/a.txt")
    assert (effect.safe, effect.key) == (True, None)
    assert probe.read(frozenset()) == ({"file:out/a.txt": "7 cents"}, ())


def test_nothing_outside_a_job(write, probe, recorder, root, tmp_path):
    """What the test writes, and what a job writes elsewhere or reads, is unseen."""
    sink = Sink()
    write(root / "a.txt")
    recorder.sink = sink
    write(tmp_path / "b.txt")
    assert (root / "a.txt").read_text() == "7 cents"
    os.remove(tmp_path / "b.txt")
    assert sink.effects == []
    assert probe.read(frozenset()) == ({}, ())
    assert probe.read(frozenset({"file:a.txt", "file:c.txt", "orders"})) == ({"file:a.txt": "7 cents"}, ())


def test_an_injected_error(probe, recorder, root):
    """A file that cannot be opened is not there; one that cannot be closed is."""
    recorder.sink = Sink("before")
    with pytest.raises(OSError, match="Input/output error"):
        with_open(root / "a.txt")
    assert not (root / "a.txt").exists()
    recorder.sink = Sink("after")
    with pytest.raises(OSError, match="Input/output error"):
        with_open(root / "a.txt")
    assert (root / "a.txt").read_text() == "7 cents"


def test_a_kill_before_a_write(write, probe, recorder, root):
    """A worker killed before the write leaves no file."""
    recorder.sink = sink = Sink("before", Killed())
    with pytest.raises(Killed):
        write(root / "a.txt")
    assert os.listdir(root) == ["out"] and sink.effects == []


def test_a_kill_loses_what_was_not_flushed(probe, recorder, root):
    """A worker killed while a file is open writes only what it had flushed."""
    recorder.sink = sink = Sink()
    with pytest.raises(Killed), open(root / "a.txt", "w") as stream:
        stream.write("one ")
        stream.flush()
        stream.write("two")
        raise Killed
    left = open(root / "b.txt", "w")  # noqa: SIM115
    left.write("three")
    probe.forget()
    del left, stream
    gc.collect()
    assert (root / "a.txt").read_text() == "one "
    assert (root / "b.txt").read_text() == ""
    assert sink.effects == []


def test_an_exception_closes_a_file(probe, recorder, root):
    """An error of the task writes what it had written, as files do."""
    recorder.sink = sink = Sink()
    with pytest.raises(ValueError, match="no"), open(root / "a.txt", "w") as stream:
        stream.write("one")
        raise ValueError("no")
    assert (root / "a.txt").read_text() == "one"
    assert sink.labels == ["write a.txt"]


def test_moves_and_removals(probe, recorder, root):
    """Moving, removing and making directories are effects too."""
    for name in ("a.txt", "b.txt", "out/c.txt"):
        (root / name).write_text(name)
    recorder.sink = sink = Sink()
    os.replace(root / "a.txt", root / "z.txt")
    (root / "b.txt").unlink()
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep").mkdir(exist_ok=True)
    shutil.rmtree(root / "out")
    (root / "tmp").touch()
    (root / "tmp").rename(root / "deep" / "done")
    (root / "deep").rename(root / "deeper")
    assert sink.labels == [
        "rename a.txt -> z.txt", "remove b.txt", "mkdir deep", "mkdir deep/er", "remove out", "write tmp",
        "rename tmp -> deep/done", "rename deep -> deeper",
    ]  # fmt: skip
    assert sink.effects[0].target == "file:z.txt"
    assert probe.read(frozenset())[0] == {
        "file:a.txt": DELETED, "file:z.txt": "a.txt", "file:b.txt": DELETED, "file:out": DELETED, "file:deeper/done": "",
    }  # fmt: skip


def test_a_file_written_through_a_temporary_one(probe, recorder, root):
    """The random name of a temporary file leaves nothing in the world."""
    recorder.sink = sink = Sink()
    with tempfile.NamedTemporaryFile("w", dir=root, delete=False) as stream:
        stream.write("7 cents")
    os.replace(stream.name, root / "a.txt")
    assert sink.labels[-1].endswith("-> a.txt")
    assert probe.read(frozenset())[0] == {"file:a.txt": "7 cents"}


def test_a_temporary_file_that_a_kill_leaves_behind(probe, recorder, root):
    """Whoever writes a file at once, by renaming another, is not blamed for that one."""
    recorder.sink = sink = Sink()
    with tempfile.NamedTemporaryFile("w", dir=root, suffix=".csv", delete=False) as stream:
        stream.write("7 cents")
    (Path(tempfile.mkdtemp(dir=root)) / "a.txt").write_text("a")
    assert [effect.target for effect in sink.effects] == ["file:tmp-1.csv", "file:tmp-2", "file:tmp-2/a.txt"]
    assert probe.read(frozenset()) == ({}, ())


def with_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("b"))


def with_bz2(path):
    with bz2.open(path, "wt") as stream:
        stream.write("b")


def with_append(path):
    number = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(number, b"b")
    os.close(number)


@pytest.mark.parametrize("way", [with_tar, with_bz2, with_append, lambda path: os.truncate(path, 0)], ids=["tar", "bz2", "append", "truncate"])
def test_less_common_ways_to_write(way, probe, recorder, root):
    """They are one effect too."""
    (root / "a.txt").write_text("a")
    recorder.sink = sink = Sink()
    way(root / "a.txt")
    assert sink.labels == ["write a.txt"]
    assert probe.read(frozenset())[0] != {"file:a.txt": "a"}


@pytest.mark.parametrize("act", [lambda path: os.remove(path), lambda path: os.rename(path, f"{path}.old")], ids="rm")
def test_a_kill_before_a_removal(act, probe, recorder, root):
    """A worker killed before a removal has removed nothing."""
    (root / "a.txt").write_text("a")
    recorder.sink = Sink("before", Killed())
    with pytest.raises(Killed):
        act(root / "a.txt")
    assert (root / "a.txt").exists()


def test_contents(probe, recorder, root):
    """Bytes stay bytes, a large file is a digest, and one that cannot be read is told."""
    recorder.sink = Sink()
    (root / "a.bin").write_bytes(b"\xff\x00")
    (root / "b.txt").write_text("x" * 1_000_000)
    os.symlink("loop", root / "loop")
    state, unreadable = probe.read(frozenset())
    assert state["file:a.bin"] == b"\xff\x00"
    assert state["file:b.txt"]["bytes"] == 1_000_000
    assert [each.reason for each in unreadable] == ["file:loop could not be read: Too many levels of symbolic links"]


def test_one_watched_file(recorder, tmp_path):
    """A root can be one file."""
    probe = FilesProbe()
    probe.add(tmp_path / "a.txt")
    probe.install(recorder)
    recorder.sink = sink = Sink()
    for name in ("a.txt", "b.txt"):
        Path(tmp_path, name).write_text("x")
    probe.remove()
    assert [effect.target for effect in sink.effects] == ["file:a.txt"]


def test_remove_restores():
    """After `remove` every function is the original one."""
    owners = [builtins, io, os, shutil]
    before = [dict(vars(owner)) for owner in owners]
    probe = FilesProbe()
    probe.install(Recorder())
    probe.refresh()
    assert builtins.open is io.open
    assert hasattr(shutil.rmtree, "avoids_symlink_attacks")
    probe.remove()
    assert [{name: each for name, each in vars(owner).items() if before[index].get(name) is not each}
            for index, owner in enumerate(owners)] == [{}] * 4
    assert available()
