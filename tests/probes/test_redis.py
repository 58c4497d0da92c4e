"""What a task does to Redis, through redis-py and fakeredis, with and without asyncio."""

import asyncio

import fakeredis
import pytest
import redis
from redis import asyncio as aioredis

from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.redis import RedisProbe, client_state
from pytest_jobs.world import EVERYTHING

NOTHING = frozenset()


class Killed(BaseException):
    pass


class Sink:
    def __init__(self, at="never", error=None):
        self.at = at
        self.error = error
        self.effects = []

    def before(self, effect, error):
        self.strike("before", error)

    def after(self, effect, error):
        self.effects.append(effect)
        self.strike("after", error)

    def strike(self, place, error):
        if self.at == place:
            raise self.error or error()

    @property
    def labels(self):
        return [effect.label for effect in self.effects]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def probe(recorder):
    probe = RedisProbe()
    probe.install(recorder)
    yield probe
    recorder.sink = None
    probe.remove()


@pytest.fixture
def server():
    return fakeredis.FakeServer()


@pytest.fixture
def client(server):
    with fakeredis.FakeRedis(server=server) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def do(request, server):
    """Run one command, of a client of either kind."""
    if request.param == "sync":
        with fakeredis.FakeRedis(server=server) as client:
            yield lambda name, *args, **kwargs: getattr(client, name)(*args, **kwargs)
        return

    def run(name, *args, **kwargs):
        async def main():
            async with fakeredis.FakeAsyncRedis(server=server) as client:
                return await getattr(client, name)(*args, **kwargs)

        return asyncio.run(main())

    yield run


def state(probe, *wanted):
    found, unreadable = probe.read(frozenset(wanted))
    assert unreadable == ()
    return found


def test_writes_are_effects_and_keys_are_state(do, probe, recorder):
    """Each command that writes, with its key; a lifetime is part of the state, its length is not."""
    recorder.sink = sink = Sink()
    do("set", "paid:7", 500, ex=60)
    do("hset", "order:7", mapping={"status": "paid"})
    do("sadd", "orders", 7)
    do("rpush", "line", "a", "b")
    do("zadd", "ranks", {"ann": 1})
    do("get", "paid:7")
    assert sink.labels == ["SET paid:7", "HSET order:7", "SADD orders", "RPUSH line", "ZADD ranks"]
    effect = sink.effects[0]
    assert (effect.kind, effect.target, effect.safe, effect.detail) == ("redis", "redis:paid:7", True, "paid:7 500 EX 60")
    found = state(probe)
    assert found["redis:paid:7"] == "500"
    assert found["redis:paid:7 expires"] == "yes"
    assert set(found) == {"redis:paid:7", "redis:paid:7 expires", "redis:order:7", "redis:orders", "redis:line", "redis:ranks"}
    assert (found["redis:order:7"], found["redis:line"]) == ({"status": "paid"}, ["a", "b"])
    assert 'redis:order:7 expires' not in found


def test_a_fake_server_of_its_own(probe, recorder):
    """`FakeRedis()` without a server makes one that nobody else can name: each is read, and kept apart from the others."""
    first, second = fakeredis.FakeRedis(), fakeredis.FakeRedis()
    recorder.sink = Sink()
    first.set("order", 1)
    assert probe.read(NOTHING) == ({"redis:order": "1"}, ())
    second.set("order", 2)
    state, unreadable = probe.read(NOTHING)
    assert (sorted(state.values()), len(state), unreadable) == (["1", "2"], 2, ())


def test_reading_is_no_effect(do, probe, recorder):
    """Nothing is recorded of it, and no state is read for it."""
    recorder.sink = sink = Sink()
    do("get", "paid:7")
    do("exists", "paid:7")
    do("ttl", "paid:7")
    assert sink.effects == []
    assert probe.read(NOTHING) == ({}, ())


def test_nothing_outside_a_job(do, probe, recorder):
    """What the test does is unseen, and reading costs nothing then."""
    do("set", "paid:7", 1)
    assert probe.read(NOTHING) == ({}, ())


def test_wanted_keys_are_read_too(client, probe, recorder):
    """What another run wrote is looked up in this one; a key that is not there is no subject."""
    client.set("paid:7", 1)
    recorder.sink = Sink()
    client.set("other", 1)
    assert state(probe, "redis:paid:7", "redis:paid:8", "payments") == {"redis:other": "1", "redis:paid:7": "1"}


def test_a_key_that_is_deleted_or_expired(client, probe, recorder):
    """It is no subject any more, though it was written."""
    recorder.sink = sink = Sink()
    client.set("a", 1)
    client.delete("a", "b")
    client.set("c", 1, px=1)
    client.pexpire("c", 0)
    assert sink.labels == ["SET a", "DEL a b", "SET c", "PEXPIRE c"]
    assert state(probe) == {}


def test_a_pipeline_is_one_effect(client, probe, recorder):
    """Its commands go out together; of many the first are named."""
    recorder.sink = sink = Sink()
    with client.pipeline() as pipe:
        pipe.set("a", 1).incr("b").get("a").rpush("c", 1).sadd("d", 1).execute()
    assert sink.labels == ["SET a, INCRBY b, RPUSH c, 1 more"]
    assert set(state(probe)) == {"redis:a", "redis:b", "redis:c", "redis:d"}


def test_an_async_pipeline_is_one_effect(server, probe, recorder):
    """With asyncio as well."""
    recorder.sink = sink = Sink()

    async def main():
        async with fakeredis.FakeAsyncRedis(server=server) as client, client.pipeline() as pipe:
            await pipe.set("a", 1).incr("b").execute()

    asyncio.run(main())
    assert sink.labels == ["SET a, INCRBY b"]
    assert state(probe) == {"redis:a": "1", "redis:b": "1"}


def test_a_watched_pipeline(client, probe, recorder):
    """What a transaction reads first is no effect."""
    recorder.sink = sink = Sink()
    with client.pipeline() as pipe:
        pipe.watch("a")
        assert pipe.get("a") is None
        pipe.multi()
        pipe.set("a", 1)
        pipe.execute()
    assert sink.labels == ["SET a"]


def test_a_flush_touches_every_key(client, probe, recorder):
    """What was there before is compared."""
    client.set("old", 1)
    recorder.sink = sink = Sink()
    client.flushdb()
    client.set("new", 1)
    assert sink.labels == ["FLUSHDB", "SET new"]
    assert state(probe) == {"redis:new": "1"}


def test_locks(client, probe, recorder):
    """A lock is a key while it is held; to take it and to give it back are effects."""
    recorder.sink = sink = Sink()
    lock = client.lock("lock:7", timeout=30)
    assert lock.acquire(blocking=False)
    assert set(state(probe)) == {"redis:lock:7", "redis:lock:7 expires"}
    lock.release()
    assert state(probe) == {}
    assert sink.labels == ["SET lock:7", "EVALSHA lock:7"]


def test_an_injected_error_is_the_librarys_own(do, probe, recorder):
    """Before the command nothing is written."""
    recorder.sink = Sink("before")
    with pytest.raises(redis.ConnectionError, match="Connection closed by server"):
        do("set", "paid:7", 1)
    recorder.sink = None
    assert do("get", "paid:7") is None


def test_a_lost_reply_comes_after_the_command(do, probe, recorder):
    """It is written, and the caller does not know."""
    recorder.sink = Sink("after")
    with pytest.raises(redis.ConnectionError):
        do("set", "paid:7", 1)
    recorder.sink = None
    assert do("get", "paid:7") == b"1"


@pytest.mark.parametrize(("at", "left"), [("before", None), ("after", b"1")])
def test_a_kill_leaves_what_the_server_has(at, left, do, probe, recorder):
    """A command that went out stays done; one that did not is not sent."""
    recorder.sink = Sink(at, Killed())
    with pytest.raises(Killed):
        do("set", "paid:7", 1)
    probe.forget()
    recorder.sink = None
    assert do("get", "paid:7") == left


def test_databases_and_servers_are_told_apart(server, probe, recorder):
    """The same key in two of them is two subjects."""
    with fakeredis.FakeRedis(server=server, db=0) as zero, fakeredis.FakeRedis(server=server, db=1) as one:
        recorder.sink = Sink()
        zero.set("a", 0)
        one.set("a", 1)
        assert state(probe) == {"redis:a": "0", "redis:a (database 1)": "1"}


def test_clients_of_one_database_are_one(server, probe, recorder):
    """Whoever wrote, a key is read once."""
    with fakeredis.FakeRedis(server=server) as first, fakeredis.FakeRedis(server=server, decode_responses=True) as second:
        recorder.sink = Sink()
        first.set("a", 0)
        second.set("a", 1)
        assert state(probe) == {"redis:a": "1"}


def test_the_plugins_own_clients_are_unseen(server, recorder):
    """Neither reported nor read."""
    with fakeredis.FakeRedis(server=server) as own:
        probe = RedisProbe(lambda client: client is own)
        probe.install(recorder)
        recorder.sink = sink = Sink()
        own.set("celery-task-meta-7", "{}")
        recorder.sink = None
        assert (sink.effects, probe.read(NOTHING)) == ([], ({}, ()))
        probe.remove()


def test_a_script_that_names_no_key(client, probe, recorder):
    """Every key is compared: nobody knows which it writes to."""
    client.set("there", 1)
    recorder.sink = Sink()
    client.eval("return redis.call('INCR', 'paid:' .. ARGV[1])", 0, 7)
    assert state(probe) == {"redis:paid:7": "1", "redis:there": "1"}


def test_everything_is_asked_for(client, probe, recorder):
    """As `jobs.check_idempotent` does: also what only the second delivery will write to."""
    client.set("there", 1)
    recorder.sink = Sink()
    client.set("paid:7", 1)
    assert state(probe, *EVERYTHING) == {"redis:paid:7": "1", "redis:there": "1"}


@pytest.mark.parametrize(
    "task",
    [lambda client: client.eval("return redis.call('SET', 'a', 1)", 0), lambda client: client.set("b", 1)],
    ids=["a script", "a write"],
)
def test_everything_beside_the_plugins_own_keys(server, recorder, task):
    """In a database that the plugin uses too, nobody could tell whose keys they are."""
    with fakeredis.FakeRedis(server=server) as own, fakeredis.FakeRedis(server=server) as client:
        probe = RedisProbe(lambda client: client is own)
        probe.install(recorder)
        own.set("celery-task-meta-7", "{}")
        recorder.sink = Sink()
        task(client)
        assert "redis:celery-task-meta-7" not in state(probe, *EVERYTHING)
        recorder.sink = None
        probe.remove()


def test_a_server_that_went_away(server, client, probe, recorder):
    """It is told that it could not be read, and why."""
    recorder.sink = Sink()
    client.set("a", 1)
    recorder.sink = None
    server.connected = False
    found, (unreadable,) = probe.read(NOTHING)
    assert found == {}
    assert unreadable.probe == "redis"
    assert unreadable.reason.startswith("database 0 could not be read: ")
    server.connected = True
    assert state(probe) == {"redis:a": "1"}


def test_everything_behind_a_client(server, client):
    """`jobs.watch(client)` reads every key, written by whomever."""
    client.set("a", 1)
    client.hset("b", mapping={"c": 2})
    assert client_state(client) == ({"redis:a": "1", "redis:b": {"c": "2"}}, ())
    assert client_state(fakeredis.FakeAsyncRedis(server=server), "store") == ({"store:a": "1", "store:b": {"c": "2"}}, ())


def test_removal_leaves_redis_as_it_was(recorder):
    """Every patched attribute is what it was."""
    owners = (redis.Redis, redis.client.Pipeline, aioredis.Redis, aioredis.client.Pipeline)
    before = [dict(vars(owner)) for owner in owners]
    probe = RedisProbe()
    probe.install(recorder)
    assert [dict(vars(owner)) for owner in owners] != before
    probe.remove()
    assert [dict(vars(owner)) for owner in owners] == before
