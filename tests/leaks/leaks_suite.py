"""The generated suite: small tests of twenty kinds, in two broker families."""

SHOP = '''
import time

from celery import Celery

app = Celery("leaky", broker="{broker}", backend="{backend}")
app.conf.task_acks_late = True
app.conf.beat_schedule = {{"adding": {{"task": "leaky_shop.add", "schedule": 60.0, "args": (1, 2)}}}}
sent = []


@app.task
def add(a, b):
    return a + b


@app.task(bind=True, max_retries=3)
def send(self, order):
    try:
        deliver(order)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=60)
    return order


def deliver(order):
    sent.append(order)


@app.task
def send_once(order):
    if order not in sent:
        deliver(order)


@app.task
def asleep(order):
    time.sleep(3600)
    deliver(order)


@app.task(time_limit=5)
def slow(order):
    deliver(order)
'''

HEAD = '''
import os
import time

import pytest
from celery import chord, group

import leaky_shop
from leaky_shop import add, app, asleep, send, send_once, sent, slow
from pytest_jobs import in_process_worker


@pytest.fixture(autouse=True)
def nothing_sent():
    sent.clear()

'''

KINDS = {
    "run": "def test_{n}(jobs):\n    assert jobs.run(add, {n}, 1).result == {n} + 1\n",
    "marked": "@pytest.mark.idempotent\ndef test_{n}(jobs):\n    jobs.watch(sent)\n    jobs.run(send_once, {n})\n",
    "marked_fails": "@pytest.mark.idempotent\ndef test_{n}(jobs):\n    jobs.watch(sent)\n    jobs.run(send, {n})\n",
    "crash": "@pytest.mark.idempotent('crash')\ndef test_{n}(jobs):\n    jobs.watch(sent)\n    jobs.run(send_once, {n})\n",
    "fault": "def test_{n}(jobs):\n    jobs.fail('leaky_shop.deliver', ConnectionError, times=2)\n    assert jobs.run(send, {n}).succeeded\n",
    "killed": "def test_{n}(jobs):\n    jobs.crash('leaky_shop.deliver')\n    assert jobs.run(send, {n}).succeeded\n",
    "hang": "def test_{n}(jobs):\n    jobs.hang('leaky_shop.deliver')\n    assert not jobs.run(slow, {n}).succeeded\n",
    "eager": (
        "def test_{n}(jobs, monkeypatch):\n    monkeypatch.setitem(app.conf, 'task_always_eager', True)\n"
        "    assert add.delay({n}, 1).get() == {n} + 1\n"
    ),
    "pending": "def test_{n}(jobs):\n    send.apply_async(({n},), countdown=7200)\n    jobs.advance(60)\n    jobs.shutdown('kill')\n",
    "fails": "def test_{n}(jobs):\n    send.delay({n})\n    assert jobs.run(add, 1, 1).result == 3\n",
    "error": "def test_{n}(jobs):\n    jobs.lose('leaky_shop.add')\n    raise RuntimeError({n})\n",
    "canvas": "def test_{n}(jobs):\n    assert chord([add.s(1, {n}), add.s(2, 2)], add.s(['z'])).delay().get()[-1] == 'z'\n",
    "context": "def test_{n}():\n    with in_process_worker(app) as jobs:\n        assert jobs.run(add, {n}, 1).succeeded\n",
    "plain": "def test_{n}(tmp_path):\n    (tmp_path / 'x').write_text('{n}')\n",
    "sleep": "def test_{n}(jobs):\n    time.sleep(3600)\n    os.environ.get('HOME')\n    assert jobs.clock.elapsed.total_seconds() == 3600\n",
    "beat": "def test_{n}(jobs):\n    assert len(jobs.beat(180)) == 3\n",
    "workers": (
        "def test_{n}(jobs):\n    asleep.delay({n})\n    add.delay({n}, 1)\n"
        "    assert len(jobs.settle(workers={{'celery': [1, 2]}})) == 2\n"
    ),
    "workers_fail": "def test_{n}(jobs):\n    asleep.delay({n})\n    jobs.settle(60, workers={{'celery': 1}})\n",
    "outage": (
        "def test_{n}(jobs):\n    jobs.outage('broker', times=2)\n    assert jobs.run(add, {n}, 1).succeeded\n"
        "    jobs.outage('results', times=2)\n    assert jobs.run(add, {n}, 1).lost\n"
    ),
    "strain": "def test_{n}(jobs):\n    jobs.check_threads(add, {n}, 1, threads=2)\n",
    "bad_fault": "def test_{n}(jobs):\n    jobs.fail('leaky_shop.nothing', ValueError)\n",
}  # fmt: skip


def make(count, seed, broker, backend):
    """Return the modules of the suite: the shop, and tests in an order of their own."""
    import random

    order = random.Random(seed)
    names = list(KINDS)
    tests = [KINDS[names[number % len(names)]].format(n=number) for number in range(count)]
    order.shuffle(tests)
    files = {"leaky_shop": SHOP.format(broker=broker, backend=backend)}
    for part in range(4):
        files[f"test_part{part}"] = HEAD + "\n\n".join(tests[part::4])
    return files
