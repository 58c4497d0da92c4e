"""Runs the examples of README.md and docs/ as a reader would.

On each page, in order:
- a `python`, `ini` or `toml` block that begins with `# name.ext` is that file, new or written anew;
- a `python` block without a name is the file of the `$ pytest` command that follows it, when that file is not there yet;
  else it is one more piece of the page's own test file, which imports everything from the page's `shop.py`, if there is one;
- a `text` block that begins with `$ pytest …` is a command and its output: the lines shown must stand in the real output
  one after the other; a line `…` leaves some out; durations and the numbers in schedule ids may differ.

At the end every test of the page is run: those fail that were shown to fail, the others pass.
"""

import ast
import re
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies  # noqa: F401 - else pytester forgets it after each run, and rewriting it takes seconds
import pytest
from celery import _state
from kombu import pools

import pytest_jobs.queues.celery  # noqa: F401 - else pytester forgets it after each run, and half of kombu with it

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.joinpath("docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"\A# ([\w./]+\.\w+)\n")
VARYING = re.compile(r"\bin \d+\.\d+s\b(?: =+)?|(?<=@)\d+\b")
ISSUE_2 = """\
@app.task(bind=True, max_retries=5)
def send_email(self, user_id, template):
    try:
        gateway.send(user_id, template)
    except TransientError as exc:
        raise self.retry(exc=exc, countdown=30 * 2 ** self.request.retries)

def test_gives_up_after_five(jobs):
    jobs.fail("shop.gateway.send", TransientError("503"))
    job = jobs.run(send_email, 7, "welcome")
    assert job.dead and len(job.attempts) == 6
    jobs.check_delays(job, [30, 60, 120, 240, 480])

def test_permanent_is_not_retried(jobs):
    jobs.fail("shop.gateway.send", PermanentError("404"))
    assert len(jobs.run(send_email, 7, "welcome").attempts) == 1

@pytest.mark.idempotent
def test_one_mail_only(jobs, outbox):
    jobs.watch(outbox)
    jobs.run(send_email, 7, "welcome")
"""


@dataclass
class Block:
    """One fenced block: its language, its text, the line of the page it begins at."""

    language: str
    text: str
    line: int


def blocks(page):
    """Return the fenced blocks of a page."""
    text = page.read_text("utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(text)]


def command(block):
    """Return the words after `$ pytest`, None when the block shows no such command."""
    first = block.text.partition("\n")[0]
    return shlex.split(first.removeprefix("$ pytest")) if first.startswith("$ pytest") else None


@contextmanager
def celery_as_before():
    """Take the apps, shared tasks and connections of a run out of the process-wide state of Celery and kombu again."""
    apps = set(_state._get_active_apps())
    before = _state._tls.current_app, _state.default_app, set(_state._on_app_finalizers)
    known = [(group, dict(group)) for group in (pools.connections, pools.producers)]
    try:
        yield
    finally:
        _state._tls.current_app, _state.default_app = before[:2]
        _state._on_app_finalizers.clear()
        _state._on_app_finalizers.update(before[2])
        for group, held in known:
            dict.clear(group)
            dict.update(group, held)
        # What a failure of the page holds would be a live app for the next page.
        for app in set(_state._get_active_apps()) - apps:
            _state._deregister_app(app)


class Reader:
    """Owns the folder in which one page's examples are tried."""

    def __init__(self, pytester, page):
        self.pytester = pytester
        self.page = page
        self.own = f"test_{re.sub(r'[^a-z]', '_', page.stem.lower())}.py"
        self.shown_failing = set()
        self.write("pytest.ini", "[pytest]\nfilterwarnings = default\n")

    def path(self, name):
        """Return a file of the folder."""
        return self.pytester.path / name

    def write(self, name, text):
        """Write a file."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text, "utf-8")

    def run(self, *words):
        """Run pytest as the page's reader does; return its output's lines and what failed."""
        with celery_as_before():
            result = self.pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider", *words)
        reports = result.reprec.getreports("pytest_runtest_logreport")
        failed = {report.nodeid for report in reports if report.failed}
        self.shown_failing = self.shown_failing - {report.nodeid for report in reports} | failed
        return [line.rstrip() for line in result.outlines], failed

    def read(self):
        """Write the page's files and try its commands, in order."""
        page = blocks(self.page)
        for number, block in enumerate(page):
            words = command(block) if block.language == "text" else None
            if words is not None:
                self.compare(block, words)
            name = NAMED.match(block.text)
            if name and block.language in {"python", "ini", "toml"}:
                self.write(name[1], block.text)
            elif block.language == "python":
                self.piece(block, page[number + 1] if number + 1 < len(page) else None)

    def piece(self, block, following):
        """Write a block that has no name."""
        words = (command(following) if following is not None else None) or [""]
        name = words[0].partition("::")[0]
        if name.endswith(".py") and name != self.own and not self.path(name).exists():
            self.write(name, block.text)
            return
        before = self.path(self.own).read_text("utf-8") if self.path(self.own).exists() else ""
        if not before:
            before = "import pytest\n" + ("from shop import *\n" if self.path("shop.py").exists() else "")
        known, new = (
            {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)} for text in (before, block.text)
        )
        assert not known & new, f"{self.page.name}:{block.line} defines {known & new} a second time"
        self.write(self.own, f"{before}\n\n{block.text}")

    def compare(self, block, words):
        """Run a command and look for the lines that the page shows."""
        out, _ = self.run(*words)
        out = [VARYING.sub("…", line) for line in out]
        at = 0
        for part in re.split(r"^…\n", block.text.partition("\n")[2], flags=re.MULTILINE):
            lines = [VARYING.sub("…", line.rstrip()) for line in part.splitlines()]
            places = [i for i in range(at, len(out) - len(lines) + 1) if out[i : i + len(lines)] == lines]
            shown = "\n".join([f"{self.page.name}:{block.line} shows", *lines, "but the real output is", *out])
            assert places, shown
            at = places[0] + len(lines)


@pytest.fixture
def reader(pytester, request):
    """A reader of the page that the test is about."""
    return Reader(pytester, request.param)


@pytest.mark.parametrize("reader", PAGES, indirect=True, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples(reader):
    """The page's outputs are real; the tests it shows failing fail, all others pass."""
    reader.read()
    tests = [str(path.relative_to(reader.pytester.path)) for path in sorted(reader.pytester.path.rglob("test_*.py"))]
    if tests:
        expected = reader.shown_failing
        out, failed = reader.run(*tests)
        assert failed == expected, "\n".join(out)


def test_the_first_example():
    """What every user tries first stands in the tutorial, word for word."""
    assert any(ISSUE_2 in block.text for block in blocks(ROOT / "docs" / "tutorial.md"))


def test_readme_is_short():
    """At most 90 lines; the first example is complete by line 20 and its output follows."""
    lines = ROOT.joinpath("README.md").read_text("utf-8").splitlines()
    first, second = blocks(ROOT / "README.md")[:2]
    assert len(lines) <= 90
    assert first.language == "python"
    assert first.line + first.text.count("\n") - 1 <= 20
    assert command(second) is not None


def test_reference_names_every_call():
    """Each public call and property of the fixture, and each public name, stands in the reference."""
    from pytest_jobs import Jobs, __all__

    text = "\n".join(path.read_text("utf-8") for path in ROOT.joinpath("docs", "reference").glob("*.md"))
    calls = [f"jobs.{name}" for name in vars(Jobs) if not name.startswith("_")]
    assert [name for name in [*calls, *__all__] if not re.search(rf"`{re.escape(name)}\b", text)] == []


def test_reference_names_every_option(pytestconfig):
    """Each ini key and command line option stands in the reference."""
    text = ROOT.joinpath("docs", "reference", "options.md").read_text("utf-8")
    source = ROOT.joinpath("pytest_jobs", "options.py").read_text("utf-8")
    names = set(re.findall(r'addini\(\s*"(jobs_\w+)"|addoption\(\s*"(--jobs-[\w-]+)"', source))
    assert names
    assert [name for name in sorted("".join(pair) for pair in names) if f"`{name}" not in text] == []
