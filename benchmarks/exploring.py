"""What exploring costs: one test with about 30 points on SQLite, plain and under every kind of schedule.

    python benchmarks/exploring.py

Prints the CPU milliseconds of the plain test, of the explored one (and those by the clock), how often its body ran, and the cost
of one schedule in plain runs (to stay below 2.0; the whole below 3 s); and what seeing the lines of a body costs (at most 4 times).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = '''
from celery import Celery
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, update
from sqlalchemy.dialects.sqlite import insert

app = Celery("bank", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
app.conf.task_acks_late = True
metadata = MetaData()
entries = Table("entries", metadata, Column("id", Integer, primary_key=True), Column("key", String, unique=True),
                Column("state", String))
engine = None


@app.task(shared=False)
def post(order):
    for part in ("fee", "tax", "net", "tip", "sum"):
        key = f"{order}:{part}"
        with engine.begin() as connection:
            connection.execute(insert(entries).values(key=key, state="new").on_conflict_do_nothing())
            connection.execute(update(entries).where(entries.c.key == key).values(state="done"))
    return order


@app.task(shared=False)
def count_down(count):
    total = 0
    while count:
        count -= 1
        total += count
    return total
'''

TEST = '''
import pytest
import bank


@pytest.fixture
def engine(tmp_path):
    bank.engine = bank.create_engine(f"sqlite:///{tmp_path}/bank.db")
    bank.metadata.create_all(bank.engine)
    yield bank.engine
    bank.engine.dispose()


ran = []


def test_warm(jobs, engine):
    jobs.run(bank.post, 7)


@pytest.mark.parametrize("number", range(10))
def test_plain(jobs, engine, number):
    jobs.run(bank.post, 7)


@pytest.mark.idempotent("all")
def test_explored(jobs, engine):
    ran.append(1)
    jobs.run(bank.post, 7)


def test_count():
    print(f"COUNT {len(ran)}")
'''

CONFTEST = '''
import time

import pytest

CLOCK = (time.process_time, time.perf_counter)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    began = [clock() for clock in CLOCK]
    result = yield
    print("TOOK", item.name, *(f"{clock() - each:.6f}" for clock, each in zip(CLOCK, began)))
    return result
'''


TRACED = '''
import time
from contextlib import suppress
from functools import partial
import bank
from pytest_jobs import in_process_worker


def least(run):
    took = []
    for _ in range(20):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return min(took)


def deliver(jobs, task, given, kind):
    with suppress(AssertionError):  # there is no such point or call: of `crash` every line is seen, and nothing strikes
        jobs.deliver(task, given, schedule=f"{kind}@900000")


bank.engine = bank.create_engine("sqlite:///traced.db")
bank.metadata.create_all(bank.engine)
for name, task, given in (("SQL", bank.post, 7), ("LINES", bank.count_down, 2_000)):
    with in_process_worker(bank.app) as jobs:
        print(name, *(least(partial(deliver, jobs, task, given, kind)) for kind in ("fail", "crash")))
'''


def main() -> None:
    """Run the suite in a process of its own and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("bank.py", TASKS), ("test_bank.py", TEST), ("conftest.py", CONFTEST)):
            Path(folder, name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", "--rootdir", folder, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        done_traced = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, check=True, cwd=folder)
    traced = {name: (float(plain), float(lined)) for name, plain, lined in map(str.split, done_traced.stdout.splitlines())}
    took = [line.split("TOOK ")[1].split() for line in done.stdout.splitlines() if "TOOK " in line]
    count = [int(line.split("COUNT ")[1]) for line in done.stdout.splitlines() if "COUNT " in line]
    if not count:
        raise SystemExit(done.stdout + done.stderr)
    plain = sorted(float(seconds) for name, seconds, _ in took if name.startswith("test_plain"))
    middle = plain[len(plain) // 2]
    explored, waited = next((float(seconds), float(real)) for name, seconds, real in took if name == "test_explored")
    print(f"plain test                {middle * 1e3:8.1f} ms")
    print(f"explored in every kind    {explored * 1e3:8.1f} ms, {waited * 1e3:.1f} ms by the clock, {count[0]} runs of its body (target 3,000 ms)")
    print(f"one schedule              {explored / count[0] / middle:8.2f} plain runs (target 2.00)")
    for name, what in (("SQL", "a body of five transactions"), ("LINES", "a body of 6,000 lines and nothing else")):
        untraced, lined = traced[name]
        print(f"{what}, its lines seen  {lined / untraced:8.2f} x untraced (target 4.00)  {lined * 1e3:.1f} ms / {untraced * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
