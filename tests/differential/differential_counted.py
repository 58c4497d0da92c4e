"""A result backend that counts the parts of a chord, as Celery's memcached backend does; here the values lie in Redis."""

import redis
from celery.backends.base import KeyValueStoreBackend


class CountedBackend(KeyValueStoreBackend):
    """Celery's own key-value backend with `incr`, by which a chord knows that its header is complete."""

    implements_incr = True
    supports_native_join = True

    def __init__(self, app, url=None, **options):
        super().__init__(app, url=url, **options)
        self.client = redis.Redis.from_url(url)

    def get(self, key):
        return self.client.get(key)

    def mget(self, keys):
        return self.client.mget(keys)

    def set(self, key, value):
        self.client.set(key, value)

    def delete(self, key):
        self.client.delete(key)

    def incr(self, key):
        return self.client.incr(key)

    def expire(self, key, value):
        return self.client.expire(key, int(value))
