"""What a task writes to Redis, as it writes it, and the keys that it leaves."""

import inspect
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import redis
from redis.client import Pipeline, Redis

from pytest_jobs.probes.base import Patches, Recorder
from pytest_jobs.probes.kept import Keys
from pytest_jobs.probes.redis_state import Server, client_state, identity_of, server_of, text
from pytest_jobs.probes.rediscommands import SCRIPTS, written
from pytest_jobs.records import Effect
from pytest_jobs.world import EVERYTHING, Unreadable

__all__ = ["RedisProbe", "client_state"]

LONGEST = 200
MOST_NAMED = 3


class RedisProbe:
    """Sees every redis-py and fakeredis client of the process, sync and async.

    Args:
        own: Tells the plugin's own broker and result clients, which are neither reported nor read.
    """

    def __init__(self, own: Callable[[Any], bool] = lambda _: False) -> None:
        self.name = "redis"
        self._own = own
        self._recorder = Recorder()
        self._patches = Patches()
        self._met: WeakKeyDictionary[Any, Server | None] = WeakKeyDictionary()
        self._servers: dict[tuple[Any, ...], Server] = {}
        self._keys: dict[tuple[Any, ...], set[bytes]] = {}
        self._kept: dict[tuple[Any, ...], tuple[Keys, set[bytes]]] = {}
        self._keeping = False
        self._ages: dict[tuple[Any, ...], Ages] = {}
        self._ours: set[tuple[Any, ...]] = set()
        self._anywhere: set[tuple[Any, ...]] = set()

    def install(self, recorder: Recorder) -> None:
        """Hook the clients where commands and pipelines go out."""
        self._recorder = recorder
        self._patch(Redis, "execute_command", self._command)
        self._patch(Pipeline, "immediate_execute_command", self._command)
        self._patch(Pipeline, "execute", self._pipeline)
        if "redis.asyncio" in sys.modules:
            from redis.asyncio.client import Pipeline as AsyncPipeline
            from redis.asyncio.client import Redis as AsyncRedis

            self._patch(AsyncRedis, "execute_command", self._async_command)
            self._patch(AsyncPipeline, "immediate_execute_command", self._async_command)
            self._patch(AsyncPipeline, "execute", self._async_pipeline)

    def remove(self) -> None:
        """Leave the clients as they were."""
        self._patches.undo()
        for server in self._servers.values():
            server.close()
        self._met.clear()
        self._servers = {}
        self._keys = {}
        self._ages = {}
        self._ours.clear()
        self._anywhere.clear()

    def read(self, wanted: frozenset[str]) -> tuple[dict[str, Any], tuple[Unreadable, ...]]:
        """Return the keys that jobs wrote, with their values, and the wanted ones."""
        asked = {
            subject.removeprefix("redis:").removesuffix(" expires").encode()
            for subject in wanted
            if subject.startswith("redis:")
        }
        state: dict[str, Any] = {}
        unreadable: tuple[Unreadable, ...] = ()
        if not self._servers:
            return state, unreadable
        with self._recorder.paused():
            for identity, server in self._servers.items():
                keys = self._keys[identity] | asked
                # Where the plugin keeps its own keys, nobody could tell them apart.
                everything = (wanted >= EVERYTHING or identity in self._anywhere) and identity not in self._ours
                if not keys and not everything:
                    continue
                try:
                    self._age(server)
                    keys = keys.union(server.keys()) if everything else keys
                    found, failed = server.read(keys)
                except Exception as error:  # noqa: BLE001 - a server that went away, in any state
                    unreadable += (Unreadable(self.name, f"{server.place} could not be read: {error}"),)
                    continue
                for subject, value in found.items():
                    state[f"{subject} ({server.place})" if subject in state else subject] = value
                unreadable += failed
        return state, unreadable

    @property
    def touched(self) -> Iterable[str]:
        """The keys that jobs wrote to, those that are gone among them."""
        names = [f"redis:{text(key)}" for keys in self._keys.values() for key in keys]
        return [*names, *(f"{name} expires" for name in names)]

    def forget(self) -> None:
        """A dead process leaves its keys and locks, and nothing else."""

    def keep(self) -> None:
        """Remember the keys of each database that is used from now on, at its first use."""
        self._kept.clear()
        self._keeping = True

    def restore(self) -> tuple[str, ...]:
        """Put them back; return one sentence for each database that could not be."""
        self._keeping = False
        left: list[str] = []
        for identity, (keys, touched) in self._kept.items():
            left += keys.restore()
            self._keys[identity] = touched
        return tuple(left)

    def _keep(self, server: Server) -> None:
        if server.identity not in self._kept:
            keys = Keys(server.client, f"Redis {server.place}")
            self._kept[server.identity] = keys, set(self._keys[server.identity])
            with self._recorder.paused():
                keys.keep()

    def _age(self, server: Server) -> None:
        """Let a real server's keys age with the virtual clock, those that this process wrote: a fake server's do."""
        ages = self._ages.get(server.identity)
        if ages is not None:
            passed, ages.seen = time.time() - ages.seen, time.time()
            if passed > 0 and ages.keys:
                with self._recorder.paused(), suppress(redis.RedisError):  # whoever asks next is told
                    server.age(ages.keys, passed)

    def _patch(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        def made(original: Any) -> Any:
            replacement = make(original)
            replacement.__name__, replacement.__doc__ = original.__name__, original.__doc__
            return replacement

        self._patches.replace(owner, name, made)

    def _command(self, original: Any) -> Any:
        def execute_command(client: Any, *args: Any, **options: Any) -> Any:
            effect = self._effect(client, [args])
            if effect is None or (_scripted(args) and not self._known(client, original, args)):
                return original(client, *args, **options)
            with self._recorder.doing(effect, unavailable):
                return original(client, *args, **options)

        return execute_command

    def _async_command(self, original: Any) -> Any:
        async def execute_command(client: Any, *args: Any, **options: Any) -> Any:
            effect = self._effect(client, [args])
            if effect is None or (_scripted(args) and not await self._known(client, original, args)):
                return await original(client, *args, **options)
            with self._recorder.doing(effect, unavailable):
                return await original(client, *args, **options)

        return execute_command

    def _known(self, client: Any, original: Any, args: Sequence[Any]) -> Any:
        """Ask whether the server has a script: when it has not, redis-py loads it and comes again."""
        answer = original(client, "SCRIPT EXISTS", args[1])
        return _first(answer) if inspect.isawaitable(answer) else answer[0]

    def _pipeline(self, original: Any) -> Any:
        def execute(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            effect = self._effect(pipe, _queued(pipe))
            if effect is None:
                return original(pipe, *args, **kwargs)
            with self._recorder.doing(effect, unavailable):
                return original(pipe, *args, **kwargs)

        return execute

    def _async_pipeline(self, original: Any) -> Any:
        async def execute(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            effect = self._effect(pipe, _queued(pipe))
            if effect is None:
                return await original(pipe, *args, **kwargs)
            with self._recorder.doing(effect, unavailable):
                return await original(pipe, *args, **kwargs)

        return execute

    def _effect(self, client: Any, commands: Sequence[Sequence[Any]]) -> Effect | None:
        """Describe what goes out, and remember its keys; nothing when it only reads, or is the plugin's own."""
        if self._recorder.sink is not None and not self._recorder.active:
            return None
        server = self._server(client)
        if self._keeping and server is not None:
            self._keep(server)
        ages = self._ages.get(server.identity) if server is not None else None
        if server is None or not (self._recorder.active or ages is not None):
            return None
        self._age(server)
        writes = [(found, args) for args in commands if (found := written(args)) is not None]
        if ages is not None:
            ages.keys.update(key for (_, keys), _ in writes for key in keys)
        if not writes or not self._recorder.active:
            return None
        labels = []
        for (name, keys), args in writes:
            touched = self._keys[server.identity]
            if name.startswith("FLUSH"):
                with self._recorder.paused():
                    touched.update(server.keys())
            touched.update(keys)
            if name in SCRIPTS and not keys:
                self._anywhere.add(server.identity)
            shown = " ".join(str(text(key)) for key in keys) or str(text(args[1]) if len(args) > 1 else "")
            labels.append(f"{name} {shown}".strip())
        named = labels[:MOST_NAMED] + ([f"{len(labels) - MOST_NAMED} more"] if len(labels) > MOST_NAMED else [])
        (_, keys), args = writes[-1]
        target = text(keys[0]) if keys else text(args[1]) if len(args) > 1 else "*"
        detail = " ".join(str(text(each)) for each in args[1:])
        return Effect("redis", f"redis:{target}", ", ".join(named), safe=True, detail=detail[:LONGEST])

    def _server(self, client: Any) -> Server | None:
        """Return the database behind a client, and remember it; nothing for the plugin's own."""
        pool = client.connection_pool
        if pool in self._met:
            return self._met[pool]
        found = None
        if self._own(client):
            self._ours.add(identity_of(client))
        else:
            found = server_of(client)
        if found is not None:
            found = self._servers.setdefault(found.identity, found)
            self._keys.setdefault(found.identity, set())
            if not found.fake:
                self._ages.setdefault(found.identity, Ages(time.time()))
        self._met[pool] = found
        return found


@dataclass(slots=True)
class Ages:
    """How far a real server's keys have aged: until when by the virtual clock, and which."""

    seen: float
    keys: set[bytes] = field(default_factory=set)


def unavailable() -> BaseException:
    """Make the error of a server that does not answer."""
    error: BaseException = redis.ConnectionError("Connection closed by server.")
    return error


def _queued(pipe: Any) -> list[Sequence[Any]]:
    return [command[0] if isinstance(command, tuple) else command.args for command in pipe.command_stack]


def _scripted(args: Sequence[Any]) -> bool:
    return bool(args) and args[0] == "EVALSHA"


async def _first(answer: Any) -> Any:
    return (await answer)[0]
