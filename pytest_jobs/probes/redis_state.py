"""Keys and values behind a Redis client."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_jobs.world import Lifetime, Unreadable

__all__ = ["Server", "client_state", "identity_of", "server_of", "text"]

BATCH = 500
SHARED = (
    "db",
    "host",
    "port",
    "path",
    "username",
    "password",
    "credential_provider",
    "server",
    "server_key",
    "server_type",
    "version",
)
Seen = tuple[dict[str, Any], tuple[Unreadable, ...]]


class Server:
    """Owns a synchronous client to one database of one Redis server, one of our own wherever that can be."""

    def __init__(self, identity: tuple[Any, ...], client: Any, ours: bool = True) -> None:
        self.identity = identity
        self.client = client
        self.ours = ours
        self.place = f"database {identity[-1]}"

    def read(self, keys: Iterable[bytes], prefix: str = "redis") -> Seen:
        """Return the value of each key that exists, and whether it expires, by subject."""
        state: dict[str, Any] = {}
        unreadable: list[Unreadable] = []
        wanted = sorted(set(keys))
        with _no_collection():
            for start in range(0, len(wanted), BATCH):
                self._read_batch(wanted[start : start + BATCH], prefix, state, unreadable)
        return state, tuple(unreadable)

    def _read_batch(self, keys: list[bytes], prefix: str, state: dict[str, Any], unreadable: list[Unreadable]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for key in keys:
            pipe.type(key)
            pipe.pttl(key)
        answers = pipe.execute()
        kinds = [text(kind) for kind in answers[::2]]
        pipe = self.client.pipeline(transaction=False)
        there = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if _ask(pipe, key, kind)]
        lasts = dict(zip(keys, answers[1::2], strict=True))
        for (key, kind), value in zip(there, pipe.execute(raise_on_error=False), strict=True):
            subject = f"{prefix}:{text(key)}"
            if isinstance(value, Exception):
                unreadable.append(Unreadable("redis", f"{subject} could not be read: {value}"))
                continue
            state[subject] = _value(kind, value)
            if lasts[key] >= 0:
                state[f"{subject} expires"] = Lifetime.of(lasts[key] / 1000)
        for key, kind in zip(keys, kinds, strict=True):
            if kind != "none" and (key, kind) not in there:
                unreadable.append(Unreadable("redis", f"{prefix}:{text(key)} could not be read: it is a {kind}"))

    def keys(self) -> list[bytes]:
        """Return every key of the database."""
        with _no_collection():
            return [key if isinstance(key, bytes) else key.encode() for key in self.client.scan_iter(count=BATCH)]

    @property
    def fake(self) -> bool:
        """Whether it is one of fakeredis, which reads the virtual clock."""
        return bool(self.identity[0][0] == "fake")

    def age(self, keys: Iterable[bytes], passed: float) -> None:
        """Take so many seconds off what is left to the keys that expire."""
        wanted = list(keys)
        with _no_collection():
            pipe = self.client.pipeline(transaction=False)
            for key in wanted:
                pipe.pttl(key)
            left = dict(zip(wanted, pipe.execute(), strict=True))
            for key, lasts in left.items():
                if lasts >= 0:
                    pipe.pexpire(key, max(int(lasts - passed * 1000), 0))
            pipe.execute()

    def close(self) -> None:
        """Close the connections of our own client."""
        if self.ours:
            self.client.close()
            self.client.connection_pool.disconnect()


def client_state(client: Any, prefix: str = "redis") -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
    """Return every key of the database that a client, sync or async, talks to.

    Args:
        client: A redis-py or fakeredis client.
        prefix: What the subjects begin with.
    """
    server = server_of(client)
    try:
        return server.read(server.keys(), prefix)
    finally:
        server.close()


def server_of(client: Any) -> Server:
    """Return the database behind a client, for a synchronous client that reads bytes."""
    import redis

    pool = client.connection_pool
    if hasattr(pool, "get_master_address"):
        return Server(identity_of(client), client, ours=False)
    given = {name: value for name, value in pool.connection_kwargs.items() if name in SHARED or name.startswith("ssl")}
    kind = _connection_class(pool.connection_class, given, redis)
    reader = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, **given))
    return Server(identity_of(client), reader)


def identity_of(client: Any) -> tuple[Any, ...]:
    """Return what tells the database behind a client from others; its number comes last."""
    pool = client.connection_pool
    if hasattr(pool, "get_master_address"):
        return "sentinel", id(pool), 0
    given = pool.connection_kwargs
    address = (given.get("host", "localhost"), given.get("port", 6379), given.get("path"))
    fake = ("fake", id(given["server"])) if given.get("server") is not None else ("fake", *address)
    return fake if "server" in given else address, given.get("db") or 0


def _connection_class(used: type, given: dict[str, Any], redis: Any) -> Any:
    if used.__module__.partition(".")[0] == "fakeredis":
        import fakeredis

        if given.get("server") is not None:
            given.pop("host", None)
            given.pop("port", None)
        return getattr(fakeredis, "FakeRedisConnection", None) or fakeredis.FakeConnection
    if "path" in given:
        return redis.UnixDomainSocketConnection
    return redis.SSLConnection if "SSL" in used.__name__ else redis.Connection


def _ask(pipe: Any, key: bytes, kind: str) -> bool:
    """Queue the command that returns a whole value; say whether there is one."""
    if kind == "string":
        pipe.get(key)
    elif kind == "hash":
        pipe.hgetall(key)
    elif kind == "list":
        pipe.lrange(key, 0, -1)
    elif kind == "set":
        pipe.smembers(key)
    elif kind == "zset":
        pipe.zrange(key, 0, -1, withscores=True)
    elif kind == "stream":
        pipe.xrange(key)
    else:
        return False
    return True


def _value(kind: str, value: Any) -> Any:
    if kind == "hash":
        return {text(field): text(each) for field, each in value.items()}
    if kind == "list":
        return [text(each) for each in value]
    if kind == "set":
        return {text(each) for each in value}
    if kind == "zset":
        return {text(member): score for member, score in value}
    if kind == "stream":
        return [{text(field): text(each) for field, each in (entry or {}).items()} for _, entry in value]
    return text(value)


def text(value: Any) -> Any:
    """Return bytes as text where they are UTF-8."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep a redis `AsyncResult` from being collected inside a command of fakeredis, which can deadlock on its lock."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
