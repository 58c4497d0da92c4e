"""The demonstration: a shop that charges twice, how that is found, and its repaired twin."""

import difflib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

__all__ = ["demo"]

VERDICT = "charge is not idempotent at twice"
ADDONS = ("-p", "pytest_jobs.plugin", "-p", "no:cacheprovider")
HIDDEN = "PYTEST_ADDOPTS", "PYTEST_PLUGINS"

INTRO = """\
A small shop, written to {folder}

   shop.py          orders and payments in SQLite, receipts in Redis,
                    money through a payment provider
   billing.py       the Celery tasks charge and send_receipt
   test_billing.py  their test, with one line more than usual:

{test}

1. FOUND
   charge passes its own test. The marker runs that test again and delivers
   each message once more, as every broker does now and then (an ack is lost,
   a worker is restarted, a visibility timeout passes). Then it compares what
   both runs left behind: the charges, Redis, the database.
"""
REPAIR = """
2. THE REPAIR
   The order is the idempotency key: the payment provider recognises it, and a
   payment or receipt that is there already is not added again.
"""
PROVED = """
3. PROVED
   The same test with the repaired tasks. No server, no sleep, no mock of Celery:
   its own worker code consumed, ran and acked every delivery.
"""
LAST = """
NEXT
   Your own task    put @pytest.mark.idempotent on a test that runs it; run pytest
   Play with this   {play}
   Read on          https://pytest-jobs.readthedocs.io/tutorial
"""
BROKEN = """
The demo did not show what it promises: {why}. That is a bug of pytest-jobs:
please report it with the output above.
"""


class _Listener:
    """Notes how the tests of one pytest run ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the call phase, or the phase that kept it from running."""
        if report.when == "call" or report.failed:
            self.ended[report.nodeid] = f"{report.outcome} {report.longreprtext}"


def demo(keep: Path | None = None) -> int:
    """Write the shop, show what is found, the repair and the proof.

    Args:
        keep: Where to write the shop; None writes it into a folder that is removed again.

    Returns:
        0 when both tests ended as promised, else 1.

    Raises:
        FileExistsError: When the folder to keep has files in it.
    """
    if keep is not None:
        return _show(_emptied(keep), f"cd {keep} && pytest")
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        return _show(Path(folder), "python -m pytest_jobs demo --keep shop && cd shop && pytest")


def _emptied(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"--keep was given {str(folder)!r}, which has something in it already")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _show(folder: Path, play: str) -> int:
    _write(folder)
    with _alone(folder):
        print(INTRO.format(folder=folder, test=_indented((folder / "test_billing.py").read_text("utf-8"))))
        found = _pytest("test_billing.py")
        print(REPAIR)
        print(_repair(folder))
        print(PROVED)
        proved = _pytest("test_billing_repaired.py")
    why = _broken(found, proved)
    print(BROKEN.format(why=why) if why else LAST.format(play=play))
    return 1 if why else 0


def _write(folder: Path) -> None:
    for template in files("pytest_jobs").joinpath("demo_shop").iterdir():
        if template.name.endswith(".txt"):
            (folder / template.name.removesuffix(".txt")).write_text(template.read_text("utf-8"), "utf-8")


def _pytest(test: str) -> str:
    """Run one test file in this process, aloud; return how its test ended."""
    print(f"   $ pytest {test}", flush=True)
    listener = _Listener()
    pytest.main(["-q", "--no-header", "--tb=short", *ADDONS, test], plugins=[listener])
    return " ".join(listener.ended.values())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Stand in the folder, with nothing of the caller's pytest, with no other plugin, and leave nothing elsewhere."""
    before = dict(os.environ)
    for name in HIDDEN:
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        with chdir(folder), tempfile.TemporaryDirectory(prefix="shop-tests-") as scratch:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = scratch
            yield
    finally:
        sys.dont_write_bytecode = written
        os.environ.clear()
        os.environ.update(before)


def _repair(folder: Path) -> str:
    """Return the lines that the repair changes, three lines of context around each."""
    before, after = ((folder / name).read_text("utf-8").splitlines() for name in ("billing.py", "billing_repaired.py"))
    changed = difflib.unified_diff(before, after, "billing.py", "billing_repaired.py", lineterm="", n=2)
    return "\n".join(_coloured(f"   {line}") for line in changed)


def _indented(text: str) -> str:
    return "\n".join(f"      {line}".rstrip() for line in text.strip().splitlines())


def _coloured(line: str) -> str:
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return line
    colour = {"-": "31", "+": "32", "@": "36"}.get(line.strip()[:1])
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


def _broken(found: str, proved: str) -> str:
    """Say what went otherwise than promised, empty for nothing."""
    if not found.startswith("failed") or VERDICT not in found:
        return "the double charge was not found"
    if not proved.startswith("passed"):
        return "the repaired tasks did not pass"
    return ""
