"""The command line: `python -m pytest_jobs demo`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Answers misuse with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"python -m pytest_jobs: {message}; allowed is: python -m pytest_jobs demo [--keep DIR]\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: The command's words, None for those of the process.
    """
    parser = _Parser(prog="python -m pytest_jobs", description="Job-resilience testing for Celery, as a pytest plugin.")
    parser.add_argument("command", nargs="?", metavar="demo", help="write a small shop, find its double charge, repair it")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="write the shop here, and leave it there to play with")
    given = parser.parse_args(argv)
    if given.command is None:
        parser.error("a command is missing")
    if given.command != "demo":
        parser.error(f"there is no command {given.command!r}")
    from pytest_jobs.demo import demo

    try:
        return demo(given.keep)
    except FileExistsError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
