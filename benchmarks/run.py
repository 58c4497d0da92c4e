"""What the in-process worker costs, beside eager mode and Celery's own test worker.

    python benchmarks/run.py [--quick]

Prints one line a measure: what was measured, the target, whether this run met it. Nothing is asserted. Times are CPU
times, only the two tests that are compared through pytest are timed by the wall clock, as pytest does. It needs only
what pytest-jobs itself depends on.
"""

import argparse
import gc
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from pytest_jobs import Jobs, in_process_worker

DELAYS = (30, 60, 300, 900, 3600)
clock = time.process_time  # CPU time: nothing here waits, and what else the machine does is left out

WITH_WORKER = """
import pytest

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://localhost/", "result_backend": "cache+memory://"}

@pytest.fixture
def add(celery_app):
    @celery_app.task
    def add(a, b):
        return a + b
    return add

@pytest.mark.parametrize("number", range(ROUNDS))
def test_add(add, celery_worker, number):
    celery_worker.reload()
    assert add.delay(number, 2).get(timeout=30) == number + 2
"""
WITH_JOBS = """
import pytest
from celery import Celery

app = Celery("shop", broker="memory://localhost/", backend="cache+memory://")

@app.task
def add(a, b):
    return a + b

@pytest.mark.parametrize("number", range(ROUNDS))
def test_add(jobs, number):
    assert add.delay(number, 2).get(timeout=30) == number + 2
"""
# One plain test again and again in one process, in turn with an empty plugin and with ours, whatever they load loaded anew.
STARTS = """
import contextlib, gc, io, sys, time
import pytest

took = {"nothing_at_all": [], "pytest_jobs.plugin": []}
sys.path.insert(0, "")
for _ in range(int(sys.argv[1]) + 1):
    for plugin, seconds in took.items():
        before = set(sys.modules)
        gc.collect()
        gc.disable()
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            assert pytest.main(["-q", "-p", "no:cacheprovider", "-p", plugin]) == 0
        seconds.append(time.process_time() - began)
        gc.enable()
        for name in set(sys.modules) - before:
            del sys.modules[name]
print(*(min(seconds[1:]) for seconds in took.values()))
"""


class Busy(Exception):
    """What the retried task meets."""


def make_app(broker: str, eager: bool = False) -> tuple[Celery, Any]:
    """Make an app with one trivial task."""
    app = Celery("bench", broker=broker, set_as_current=False)
    app.conf.update(task_always_eager=eager)

    @app.task(shared=False, name="bench.add")
    def add(a: int, b: int) -> int:
        return a + b

    return app, add


@contextmanager
def calm() -> Iterator[None]:
    """Keep the garbage collector out of a measure."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call."""
    with calm():
        began = clock()
        work()
        return clock() - began


def eager_job(count: int) -> float:
    """Return the seconds of one eager `.delay()`."""
    _, add = make_app("memory://localhost/", eager=True)
    add.delay(1, 2)
    return seconds(lambda: [add.delay(1, 2) for _ in range(count)]) / count


def batch(jobs: Jobs, add: Any, count: int) -> None:
    """Publish so many jobs and run them."""
    for number in range(count):
        add.delay(number, 2)
    assert len(jobs.drain()) == count


def real_job(broker: str, count: int) -> float:
    """Return the seconds of one job, publish included, of a batch in one world."""
    app, add = make_app(broker)
    with in_process_worker(app) as jobs:
        batch(jobs, add, 10)
        return seconds(lambda: batch(jobs, add, count)) / count


def one_by_one(broker: str, count: int) -> float:
    """Return the seconds of one `jobs.run`."""
    app, add = make_app(broker)
    with in_process_worker(app) as jobs:
        jobs.run(add, 1, 2)
        return seconds(lambda: [jobs.run(add, 1, 2) for _ in range(count)]) / count


def world() -> None:
    """Open and close a world, as the fixture does."""
    app, _ = make_app("redis://localhost/0")
    with in_process_worker(app):
        pass


def world_with_a_job() -> None:
    """Open a world, run one job, close it."""
    app, add = make_app("redis://localhost/0")
    with in_process_worker(app) as jobs:
        assert jobs.run(add, 1, 2).result == 3


def retries() -> float:
    """Return the seconds of a job that is retried five times within 81.5 minutes of virtual time."""
    app = Celery("bench", broker="redis://localhost/0", set_as_current=False)

    @app.task(shared=False, name="bench.flaky", bind=True, max_retries=len(DELAYS))
    def flaky(self: Any) -> None:
        raise self.retry(exc=Busy(), countdown=[*DELAYS, 0][self.request.retries])

    with in_process_worker(app) as jobs:
        took = seconds(lambda: jobs.run(flaky))
        assert jobs.all.one.delays == list(DELAYS)
    return took


def bytes_a_job(count: int) -> float:
    """Return how much memory one finished job still holds while its world lasts."""
    app, add = make_app("memory://localhost/")
    with in_process_worker(app) as jobs:
        batch(jobs, add, 100)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            batch(jobs, add, count)
            gc.collect()
            return (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()


def pytest_seconds(source: str, rounds: int, *plugins: str) -> list[float]:
    """Run a test file; return the seconds of each of its tests, fixtures included, first one left out."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\njunit_duration_report = total\n")
        Path(folder, "test_one.py").write_text(source.replace("ROUNDS", str(rounds + 1)))
        given = [word for plugin in plugins for word in ("-p", plugin)]
        command = [sys.executable, "-m", "pytest", "-q", *given, "--junitxml=report.xml", "test_one.py"]
        done = subprocess.run(command, cwd=folder, env=alone(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        cases = ET.parse(Path(folder, "report.xml")).iter("testcase")
        return [float(case.attrib["time"]) for case in cases][1:]


def alone() -> dict[str, str]:
    """Return an environment in which pytest loads only the plugins it is told to."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTEST_ADDOPTS", "PYTEST_PLUGINS"}}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def suite_without_jobs(rounds: int) -> tuple[float, str]:
    """Return the CPU seconds that the plugin adds to a pytest run with one plain test; and how many instructions, where counted."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_plain.py").write_text("def test_plain():\n    assert True\n")
        Path(folder, "nothing_at_all.py").write_text("")
        command = [sys.executable, "-c", STARTS, str(rounds)]
        # Python must keep what it compiles, as it does for everybody.
        kept = {name: value for name, value in alone().items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        without, with_plugin = (float(word) for word in done.stdout.splitlines()[-1].split())
        counted = [instructions(folder, kept, name) for name in ("nothing_at_all", "pytest_jobs.plugin")]
    if None in counted:
        return with_plugin - without, ""
    more = (counted[1] - counted[0]) / counted[0]
    return with_plugin - without, f"{more:.1%} more instructions in all"


def instructions(folder: str, env: dict[str, str], plugin: str) -> int | None:
    """Count the instructions of a pytest run with one plain test, whatever else the machine does; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    counter = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*counter, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin]
    done = subprocess.run(command, cwd=folder, env={**env, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    return int(found[1].replace(",", "")) if found else None


def best(measure: Callable[[], float], rounds: int) -> float:
    """Return the least of several rounds: what the work costs when nothing disturbs it."""
    return min(measure() for _ in range(rounds))


def told(what: str, value: float, unit: str, target: float, details: str = "", least: bool = False) -> None:
    """Print one measure."""
    met = value >= target if least else value <= target
    sign = ">=" if least else "<="
    verdict = "met" if met else "NOT MET"
    print(f"{what:<58} {value:>9.2f} {unit:<6} target {sign} {target:<6g} {verdict:<8} {details}".rstrip(), flush=True)


def main() -> None:
    """Measure everything, once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a minute less, and more noise")
    quick = parser.parse_args().quick
    count, rounds = (200, 3) if quick else (500, 7)

    jobs = (lambda: eager_job(count), lambda: real_job("memory://localhost/", count), lambda: real_job("redis://localhost/0", count))
    # In turn: what else the machine does then strikes all three.
    eager, memory, redis = (min(took) for took in zip(*[[job() for job in jobs] for _ in range(rounds * 3)], strict=True))
    told("a trivial job, memory / eager .delay()", memory / eager, "x", 2.5, f"{memory * 1e3:.2f} ms / {eager * 1e3:.2f} ms")
    told("a trivial job, fakeredis / eager .delay()", redis / eager, "x", 8, f"{redis * 1e3:.2f} ms")
    single = [best(lambda url=url: one_by_one(url, count), rounds) for url in ("memory://localhost/", "redis://localhost/0")]
    print(f"  for comparison, jobs.run one by one: memory {single[0] / eager:.2f} x, fakeredis {single[1] / eager:.2f} x")

    opened = [seconds(world) for _ in range(rounds * 4)][1:]
    told("the fixture, set-up and tear-down", statistics.median(opened) * 1e3, "ms", 15)
    used = [seconds(world_with_a_job) for _ in range(rounds * 4)][1:]
    print(f"  for comparison, with one job in it: {statistics.median(used) * 1e3:.2f} ms")

    ours = min(pytest_seconds(WITH_JOBS, 10 if quick else 30, "pytest_jobs.plugin"))
    theirs = min(pytest_seconds(WITH_WORKER, 1 if quick else 3, "celery.contrib.pytest"))
    told("a test with one job, celery_worker / jobs", theirs / ours, "x", 200, f"{theirs:.2f} s / {ours * 1e3:.1f} ms", least=True)

    retried = best(retries, rounds * 2)
    told("retries after 30 s, 1, 5, 15 and 60 minutes", retried * 1e3, "ms", 30)

    few = best(lambda: real_job("memory://localhost/", 1_000), rounds)
    many = best(lambda: real_job("memory://localhost/", 10_000), 1 if quick else 3)
    told("a job among 10,000 / a job among 1,000", many / few, "x", 1.3, f"{many * 1e3:.2f} ms / {few * 1e3:.2f} ms")
    held = bytes_a_job(1_000 if quick else 10_000)
    told("memory held by a job among 10,000", held / 1024, "KB", 10)

    plain, more = suite_without_jobs(20 if quick else 60)
    told("what a suite without jobs pays, CPU", plain * 1e3, "ms", 10, more)


if __name__ == "__main__":
    main()
