"""Databases on the servers of this machine, one a process, in which nobody waits long for a lock."""

import os
from contextlib import closing

import pytest

NAME = f"jobs_{os.getpid()}"


def _postgresql(statement):
    import psycopg

    with psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres connect_timeout=2", autocommit=True) as server:
        server.execute(statement)


def _mariadb(statement):
    import pymysql

    with closing(pymysql.connect(host="127.0.0.1", user="root", connect_timeout=2)) as server:
        server.cursor().execute(statement)


SERVERS = {
    "postgresql": (
        _postgresql,
        f"postgresql+psycopg://postgres@127.0.0.1/{NAME}?options=-c%20lock_timeout=3s%20-c%20statement_timeout=9s",
        " WITH (FORCE)",
    ),
    "mariadb": (
        _mariadb,
        f"mysql+pymysql://root@127.0.0.1/{NAME}?read_timeout=9"
        "&init_command=SET%20SESSION%20lock_wait_timeout=3%2C%20innodb_lock_wait_timeout=3",
        "",
    ),
}


@pytest.fixture(scope="session")
def server():
    """Return the SQLAlchemy URL of an empty database on a server, by the server's name; skip where it is not running."""
    made = {}

    def url(name):
        administer, address, _ = SERVERS[name]
        if name not in made:
            try:
                administer(f"DROP DATABASE IF EXISTS {NAME}")
                administer(f"CREATE DATABASE {NAME}")
            except Exception as error:  # noqa: BLE001 - each driver has its own family of errors
                made[name] = str(error)
            else:
                made[name] = ""
        if made[name]:
            pytest.skip(f"no {name} server: {made[name]}")
        return address

    yield url
    for name, failed in made.items():
        administer, _, force = SERVERS[name]
        if not failed:
            administer(f"DROP DATABASE {NAME}{force}")
