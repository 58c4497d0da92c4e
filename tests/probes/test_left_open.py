"""A transaction that a job left open ends with the world, as it would with the worker's process."""

import sqlite3
from contextlib import closing

from celery import Celery

from pytest_jobs import in_process_worker

app = Celery("shop", broker="memory://localhost/", set_as_current=False)
left = []


@app.task(shared=False)
def forget_to_commit(path):
    left.append(sqlite3.connect(path))
    left[-1].execute("INSERT INTO orders VALUES (7)")


def test_nobody_waits_for_its_locks(tmp_path):
    """What the next run's fixtures write, they can write; what was not committed is not there."""
    path = str(tmp_path / "shop.db")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    with in_process_worker(app) as jobs:
        jobs.run(forget_to_commit, path)
    with closing(sqlite3.connect(path, timeout=0)) as db, db:
        db.execute("INSERT INTO orders VALUES (8)")
        assert db.execute("SELECT id FROM orders").fetchall() == [(8,)]
    left.pop().close()
