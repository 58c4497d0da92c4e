"""Tasks that do all they can to change the world after their death. Each begins by noting how the world looks."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

seen = []
look = None
redis = None
folder = None


def transactions():
    seen.append(look())
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        try:
            connection.execute("INSERT INTO paid VALUES ('first')")
            connection.commit()
            connection.execute("INSERT INTO paid VALUES ('second')")
            connection.execute("INSERT INTO paid VALUES ('third')")
            connection.commit()
        except BaseException:
            connection.execute("INSERT INTO paid VALUES ('caught')")
            connection.commit()
        finally:
            connection.execute("INSERT INTO paid VALUES ('finally')")
            connection.commit()
    return "done"


def one_line_transactions():
    seen.append(look())
    connection = sqlite3.connect(folder / "shop.db")
    with connection: connection.execute("INSERT INTO paid VALUES ('first')")  # noqa
    with suppress(BaseException), connection:
        connection.execute("INSERT INTO paid VALUES ('second')")
        connection.execute("INSERT INTO paid VALUES ('third')")
    connection.close()
    return "done"


def engines():
    seen.append(look())
    engine = create_engine(f"sqlite:///{folder / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO paid VALUES ('first')"))
    session = Session(engine)
    try:
        session.execute(text("INSERT INTO paid VALUES ('second')"))
        with suppress(BaseException), session.begin_nested():
            session.execute(text("INSERT INTO paid VALUES ('third')"))
    finally:
        session.commit()
        session.close()
        engine.dispose()
    return "done"


def redis_locks():
    seen.append(look())
    lock = redis.lock("lock:7", timeout=2, sleep=1)
    try:
        lock.acquire()
        redis.set("paid:7", "no")
        redis.set("paid:7", "yes")
    except BaseException:
        redis.set("paid:7", "failed")
    finally:
        lock.release()
    with suppress(BaseException), redis.lock("lock:8", timeout=2, sleep=1):
        redis.delete("paid:7")
    return "done"


def redis_pipelines():
    seen.append(look())
    with redis.pipeline() as pipeline:
        try:
            pipeline.incr("count")
            pipeline.incr("total")
        finally:
            pipeline.execute()
    return "done"


def files():
    seen.append(look())
    with open(folder / "out" / "report.txt", "w") as file:
        file.write("one\n")
        file.flush()
        file.write("two\n")
    file = open(folder / "out" / "left.txt", "w")
    try:
        file.write("three\n")
        file.write("four\n")
    except BaseException:
        file.write("caught\n")
    finally:
        file.close()
    return "done"


def renames():
    seen.append(look())
    with suppress(BaseException), tempfile.NamedTemporaryFile("w", dir=folder / "out", prefix="t", delete=False) as file:
        file.write("whole\n")
    try:
        os.replace(file.name, folder / "out" / "report.txt")
    finally:
        with suppress(BaseException):
            Path(file.name).unlink(missing_ok=True)
    with suppress(BaseException):
        shutil.rmtree(folder / "out" / "old", ignore_errors=True)
        (folder / "out" / "old").mkdir()
    return "done"


TASKS = [transactions, one_line_transactions, engines, redis_locks, redis_pipelines, files, renames]
