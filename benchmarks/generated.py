"""How surely generated faults find six planted bugs, and what an example costs.

    python benchmarks/generated.py [--seeds 20] [--examples 200] [--clean 2000]

Prints for each bug: in how many seeds it was found within so many examples, and how often it was shrunk to the minimal
story of the documentation; the median number of examples until it was found; how many examples of its repaired twin ran
clean. Then how many examples a second a trivial task gets (to stay above 100).
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "generated"))

from celery import Celery
from hypothesis import given, seed, settings
from planted_bugs import BUGS
from planted_runs import hunt, repaired

from pytest_jobs import in_process_worker
from pytest_jobs.strategies import args_for, schedules

clock = time.process_time  # CPU time: nothing here waits, and what else the machine does is left out


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser()
    for name, usual in (("seeds", 20), ("examples", 200), ("clean", 2000)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    for name in BUGS:
        if asked.only in name:
            planted(name, asked)
    for kinds in ((), ("twice",), ("twice", "late", "crash", "fail", "reply-lost", "overlap")):
        rate(kinds)


def planted(name: str, asked: argparse.Namespace) -> None:
    """Hunt for one bug in each seed, then run its repaired twin."""
    began = clock()
    hunts = [hunt(name, number, asked.examples) for number in range(asked.seeds)]
    found = [one for one in hunts if one.story]
    minimal = sum(one.minimal for one in found)
    median = statistics.median(one.examples for one in found) if found else 0
    print(f"{name}: found in {len(found)} of {len(hunts)} seeds, minimal in {minimal}, median example {median:g}", flush=True)
    for one in found:
        if not one.minimal:
            print(f"    otherwise: {'; '.join(one.story)}")
    print(f"    {clock() - began:.0f} s", flush=True)
    began = clock()
    if asked.clean:
        ran, trouble = repaired(name, 0, asked.clean)
        print(f"    repaired: {ran} examples {trouble or 'clean'}, {(clock() - began) / max(ran, 1) * 1000:.1f} ms each", flush=True)


def rate(kinds: tuple[str, ...]) -> None:
    """Count the examples that a trivial task gets in a second."""
    app = Celery("trivial", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)

    @app.task(shared=False, acks_late=True)
    def add(a: int, b: int) -> int:
        return a + b

    count = 1000
    with in_process_worker(app, source=[__file__]) as jobs:

        @seed(0)
        @settings(max_examples=count, deadline=None, database=None)
        @given(args_for(add), schedules(kinds or ("twice",)))
        def example(args: tuple[int, int], schedule: object) -> None:
            with jobs.fresh():
                jobs.deliver(add, *args, schedule=schedule if kinds else "once")  # type: ignore[arg-type]

        began = clock()
        example()
    print(f"a trivial task, {', '.join(kinds) or 'undisturbed'}: {count / (clock() - began):.0f} examples a second", flush=True)


if __name__ == "__main__":
    main()
