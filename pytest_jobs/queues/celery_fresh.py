"""Brokers, results and workers put back as they were, without starting them again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_jobs.queues.celery import CeleryQueue
from pytest_jobs.queues.celery_servers import Client, MemoryServer, RedisServer, Server
from pytest_jobs.queues.celery_worker import AppWorker

__all__ = ["Apart"]

BINDINGS = b"_kombu.binding."
Kept = Mapping[tuple[int, bytes], tuple[int, bytes]]


class Apart:
    """Owns the clients by which the keys of one world's Redis servers are copied and put back."""

    def __init__(self, queue: CeleryQueue) -> None:
        self._queue = queue
        self._clients: dict[tuple[RedisServer, int], Any] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let all that is published, stored and held meanwhile be gone afterwards; nothing may be due when it begins."""
        queue, takeover = self._queue, self._queue.takeover
        stores = {name: dict(store) for name, store in takeover._stores.items()}
        servers = {server: self._kept(server) for server in takeover.servers.values()}
        owners, beats, outage = dict(queue._owners), list(queue._beats), queue.outage
        queue._beats.clear()
        try:
            yield
        finally:
            for worker in queue._workers.values():
                _empty(worker)
            takeover.forget_run_state()
            takeover.publisher = None
            for server in takeover.servers.values():
                self._put_back(server, servers.get(server, {}))
            for name, store in takeover._stores.items():
                store.clear()
                store.update(stores.get(name, {}))
            for courier in takeover._couriers.values():
                courier.qos._delivered.clear()
            queue._redelivery.clear()
            queue._owners, queue.outage = owners, outage
            queue._beats[:] = beats
            for task, *_ in queue.bodies.led.values():
                vars(task).pop("override_max_retries", None)

    def _client(self, server: RedisServer, db: int) -> Any:
        if (server, db) not in self._clients:
            self._clients[server, db] = Client(connection_pool=server.pool(db=db))
        return self._clients[server, db]

    def _kept(self, server: Server) -> Kept:
        """Copy the keys of a Redis server, each with the milliseconds it has left."""
        kept: dict[tuple[int, bytes], tuple[int, bytes]] = {}
        if isinstance(server, MemoryServer):
            return kept
        for db in list(server.fake.dbs):
            client = self._client(server, db)
            for key in client.keys("*"):
                if not key.startswith(BINDINGS):
                    kept[db, key] = max(client.pttl(key), 0), client.dump(key)
        return kept

    def _put_back(self, server: Server, kept: Kept) -> None:
        """Empty the queues; give a Redis server its keys back, and leave it the bindings that publishers rely on."""
        if isinstance(server, MemoryServer):
            for line in server.queues.values():
                line.clear()
            return
        for db in list(server.fake.dbs):
            client = self._client(server, db)
            made = [key for key in client.keys("*") if (db, key) not in kept and not key.startswith(BINDINGS)]
            if made:
                client.delete(*made)
        for (db, key), (expires, value) in kept.items():
            client = self._client(server, db)
            if client.dump(key) != value or client.pttl(key) != (expires or -1):
                client.restore(key, expires, value, replace=True)


def _empty(worker: AppWorker) -> None:
    """Let a worker forget every message that it holds."""
    worker.timer.clear()
    worker.consumer.pool.flush()
    worker.channel.qos._delivered.clear()
    worker.channel.qos._dirty.clear()
    worker.consumer.perform_pending_operations()
