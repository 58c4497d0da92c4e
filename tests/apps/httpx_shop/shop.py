"""A service that speaks to others over httpx, and keeps locks and marks in Redis."""

import asyncio
from contextlib import suppress

import httpx
import redis
from celery import Celery
from redis.exceptions import LockError, WatchError

PAY = "https://pay.example/charges"
CARRIER = "https://carrier.example/parcels"
CHAT = "https://chat.example/messages"

app = Celery("shop", broker="redis://localhost/0", backend="redis://localhost/1")
app.conf.task_acks_late = True
retried = {
    "autoretry_for": (httpx.TransportError, redis.ConnectionError, WatchError),
    "retry_backoff": True, "retry_jitter": False, "max_retries": 5,
}

store = redis.Redis()
async_store = redis.asyncio.Redis


# A request, and a mark that it was made.


@app.task(**retried)
def charge(order_id):
    """Charge, then mark: whoever comes between charges again."""
    if store.exists(f"paid:{order_id}"):
        return
    httpx.post(PAY, json={"order": order_id}).raise_for_status()
    store.set(f"paid:{order_id}", 1)


@app.task(**retried)
def charge_once(order_id):
    """Charge under a key that the payment service knows again."""
    if store.exists(f"paid:{order_id}"):
        return
    key = {"Idempotency-Key": f"order-{order_id}"}
    httpx.post(PAY, json={"order": order_id}, headers=key).raise_for_status()
    store.set(f"paid:{order_id}", 1)


# A lock.


@app.task(**retried)
def dispatch(order_id):
    """Take a lock that a dead worker never gives back."""
    if not store.set(f"lock:{order_id}", 1, nx=True):
        return
    httpx.put(f"{CARRIER}/{order_id}", json={"to": "ann"}).raise_for_status()
    store.delete(f"lock:{order_id}")


@app.task(bind=True, **retried)
def dispatch_once(self, order_id):
    """Take a lock that expires, and come back when somebody has it."""
    lock = store.lock(f"lock:{order_id}", timeout=30)
    if not lock.acquire(blocking=False):
        raise self.retry(countdown=60)
    try:
        httpx.put(f"{CARRIER}/{order_id}", json={"to": "ann"}).raise_for_status()
    finally:
        with suppress(LockError):
            lock.release()


# A look first, and a write later.


@app.task(**retried)
def claim(order_id):
    """Let two workers look before one of them writes."""
    if store.get(f"claimed:{order_id}"):
        return
    store.set(f"claimed:{order_id}", 1)
    store.incr("claims")


@app.task(**retried)
def claim_once(order_id):
    """Write both or nothing, and only if nobody wrote since the look."""
    with store.pipeline() as pipeline:
        pipeline.watch(f"claimed:{order_id}")
        if pipeline.exists(f"claimed:{order_id}"):
            return
        pipeline.multi()
        pipeline.set(f"claimed:{order_id}", 1)
        pipeline.incr("claims")
        pipeline.execute()


# A resource.


@app.task(**retried)
def book(order_id):
    """Book a parcel under a number that is another one each time."""
    with httpx.Client() as client:
        known = client.get(CARRIER).json()
        client.put(f"{CARRIER}/{known + 1}", json={"order": order_id}).raise_for_status()


@app.task(**retried)
def book_once(order_id):
    """Book it under the order's number."""
    with httpx.Client() as client:
        client.put(f"{CARRIER}/{order_id}", json={"order": order_id}).raise_for_status()


# The same with asyncio.


@app.task(**retried)
def tell(order_id):
    """Post a message for each delivery."""
    asyncio.run(post(order_id, {}))


@app.task(**retried)
def tell_once(order_id):
    """Post it under a key."""
    asyncio.run(post(order_id, {"Idempotency-Key": f"told-{order_id}"}))


async def post(order_id, headers):
    async with httpx.AsyncClient() as client:
        (await client.post(CHAT, json={"order": order_id}, headers=headers)).raise_for_status()
    async with async_store() as client:
        await client.sadd("told", order_id)


@app.task(**retried)
def line_up(order_id):
    """Append to a list."""
    asyncio.run(append(order_id))


@app.task(**retried)
def line_up_once(order_id):
    """Add to a set."""
    asyncio.run(add(order_id))


async def append(order_id):
    async with async_store() as client:
        await client.rpush("line", order_id)


async def add(order_id):
    async with async_store() as client:
        await client.sadd("line", order_id)
