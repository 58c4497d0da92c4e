"""Every detection has a task that must fail under it, with this first line, and a repaired twin that must pass."""

from typing import NamedTuple

import pytest

LATE = "shared=False, acks_late=True"
RETRIES = f"{LATE}, autoretry_for=(sqlite3.OperationalError,), retry_backoff=60"
BOUND = f"{LATE}, bind=True"
OUTGOING = 'jobs.outgoing("shop.gateway.charge")'
RUN = "jobs.run(shop.charge, 7)"


class Pair(NamedTuple):
    """A broken task, its repaired twin, what its test does and the first line of the broken one's failure."""

    marker: str
    line: str
    broken: str
    repaired: str
    test: str = RUN
    options: str = LATE
    mended: str = ""


def sql(*statements):
    """Return the body of a task that runs statements, each in a transaction of its own."""
    lines = "\n".join(f"    with closing(connect()) as c, c: c.execute({statement!r}, (order,))" for statement in statements)
    return f"def charge(order):\n{lines}\n"


ADD = "UPDATE orders SET charged = charged + 1 WHERE id = ?"
SET = "UPDATE orders SET charged = 1 WHERE id = ?"
ADD_NEW = "UPDATE orders SET charged = charged + 1 WHERE id = ? AND status = 'new'"
PAID = "UPDATE orders SET status = 'paid' WHERE id = ?"
BOTH = "UPDATE orders SET charged = charged + 1, status = 'paid' WHERE id = ? AND status = 'new'"
SHIP = """
@app.task(shared=False, acks_late=True)
def ship(order):
    with closing(connect()) as c, c: c.execute("UPDATE orders SET status = 'shipped' WHERE id = ?", (order,))
"""
AROUND = """
class Careless(app.Task):
    def __call__(self, order):
        with closing(connect()) as c, c: c.execute("UPDATE orders SET charged = charged + 1 WHERE id = ?", (order,))
        return super().__call__(order)


class Careful(app.Task):
    def __call__(self, order):
        with closing(connect()) as c, c: c.execute("UPDATE orders SET charged = 1 WHERE id = ?", (order,))
        return super().__call__(order)
"""
LOOK = """
def charge(order):
    with closing(connect()) as c:
        work(c, order)


def work(c, order):
    ((charged,),) = c.execute("SELECT charged FROM orders WHERE id = ?", (order,)).fetchall()
    if not charged:
        c.execute("UPDATE orders SET charged = charged + 1 WHERE id = ?", (order,))
        c.commit()
"""
GUARDED = """
def charge(order):
    with closing(connect()) as c:
        c.execute("UPDATE orders SET charged = charged + 1 WHERE id = ? AND charged = 0", (order,))
        c.commit()
"""
RETRY = """
def charge(self, order):
    try:
        gateway.charge(order)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown={countdown}, max_retries={most})
"""
UNKNOWN = """
def charge(self, order):
    try:
        answer = gateway.charge(order)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=len(answer))
"""
ALARM = """
def charge(self, order):
    try:
        gateway.charge(order)
    except ConnectionError as error:
        if self.request.retries == self.max_retries:
            with closing(connect()) as c, c: c.execute("UPDATE orders SET status = 'gave up' WHERE id = ?", (order,))
            return "gave up"
        raise self.retry(exc=error, countdown=60)
"""
CALL = """
def charge(order):
    gateway.charge(order)
"""
LOCK = """
def charge(self, order):
    if not client.set("lock:7", "held", nx=True{ttl}):
        {else_}
    with closing(connect()) as c, c: c.execute("UPDATE orders SET charged = 1 WHERE id = ?", (order,))
    client.delete("lock:7")
"""
AGAIN = """
def charge(order):
    with closing(connect()) as c, c:
        c.execute("CREATE TABLE IF NOT EXISTS receipts (order_id)")
        if c.execute("SELECT 1 FROM receipts WHERE order_id = ?", (order,)).fetchone():
            c.execute("UPDATE orders SET charged = {charged} WHERE id = ?", (order,))
        else:
            c.execute("INSERT INTO receipts VALUES (?)", (order,))
"""
REMOVED = """
def charge(order):
    if not client.setnx("seen", 1):
        client.delete("{key}")
"""
CLAIM = """
def charge(order):
    with closing(connect()) as c:
        work(c, order)


def work(c, order):
    ((status,),) = c.execute("SELECT status FROM orders WHERE id = ?", (order,)).fetchall()
    if status in {done}:
        return
    c.execute("UPDATE orders SET status = 'processing' WHERE id = ?", (order,))
    c.commit()
    c.execute("UPDATE orders SET status = 'done' WHERE id = ?", (order,))
    c.commit()
"""
TRIGGER = """with shop.closing(shop.connect()) as c:
    c.execute("CREATE TABLE log (order_id)")
    c.execute("CREATE TRIGGER log_it AFTER UPDATE ON orders BEGIN INSERT INTO log VALUES (new.id); END")
"""
SCRIPT = """
def charge(order):
    with closing(connect()) as c: c.executescript("BEGIN; UPDATE orders SET charged = {charged} WHERE id = 7; COMMIT")
"""
GATEWAY = f"{OUTGOING}\n{RUN}"
CLIENT = f"shop.client = jobs.redis\n{RUN}"
PERMANENT = f'jobs.fail("shop.gateway.charge", Declined("no"))\njobs.check_delays({RUN}, [])'
TRANSIENT = f'jobs.fail("shop.gateway.charge", ConnectionError("down"), times=1)\njobs.check_delays({RUN}, [60])'

PAIRS = {
    "twice": Pair('"twice"', "charge is not idempotent at twice: orders.charged 1 -> 2", sql(ADD), sql(SET)),
    "a table that only the second one writes": Pair(
        '"twice", "crash"', "charge is not idempotent at twice: orders.charged 0 -> 1", AGAIN.format(charged="charged + 1"), AGAIN.format(charged="charged"),
    ),
    "a table that only the second one writes, checked": Pair(
        "", "charge is not idempotent at twice: orders.charged 0 -> 1", AGAIN.format(charged="charged + 1"), AGAIN.format(charged="charged"),
        "jobs.check_idempotent(shop.charge, 7)",
    ),
    "trigger": Pair(
        '"twice"', "charge is not idempotent at twice: log 1 -> 2 rows",
        sql(SET), sql("UPDATE orders SET charged = 1 WHERE id = ? AND charged = 0"), f"{TRIGGER}{RUN}",
    ),
    "script": Pair(
        '"twice"', "charge is not idempotent at twice: orders.charged 1 -> 2",
        SCRIPT.format(charged="charged + 1"), SCRIPT.format(charged="1"),
    ),
    "a key that only the second one removes": Pair(
        '"twice"', "charge is not idempotent at twice: redis:stock '5' -> absent", REMOVED.format(key="stock"), REMOVED.format(key="other"),
        f"jobs.redis.set('stock', 5, ex=86_400)\n{CLIENT}",
    ),
    "late": Pair(
        '"twice", "late"', "charge is not idempotent at late@1: orders.status 'shipped' -> 'paid'",
        sql(PAID), sql(BOTH), f"{RUN}\njobs.run(shop.ship, 7)",
    ),
    "crash": Pair('"twice", "crash"', "charge is not idempotent at crash@9: orders.charged 1 -> 2", sql(ADD_NEW, PAID), sql(BOTH)),
    "fail": Pair('"twice", "fail"', "charge is not idempotent at fail@3: orders.charged 1 -> 2", sql(ADD_NEW, PAID), sql(BOTH), options=RETRIES),
    "reply-lost": Pair('"twice", "reply-lost"', "charge is not idempotent at reply-lost@2: orders.charged 1 -> 2", sql(ADD_NEW, PAID), sql(BOTH), options=RETRIES),
    "overlap": Pair('"twice", "crash", "overlap"', "charge is not idempotent at overlap@7: orders.charged 1 -> 2", LOOK, GUARDED),
    "lost": Pair('"crash"', "charge is not idempotent at crash@3: lost: acknowledged before it ran, then kill… (+1 more)", sql(SET), sql(SET), options="shared=False", mended=LATE),
    "endless": Pair('"fail"', "charge is not idempotent at fail@1-: endless: 100 retries, no cap", RETRY.format(countdown=60, most=None), RETRY.format(countdown=60, most=5), GATEWAY, f"{BOUND}, max_retries=None"),
    "no delay": Pair('"fail"', "charge is not idempotent at fail@1-: no delay: 5 retries without a wait", RETRY.format(countdown=0, most=5), RETRY.format(countdown=60, most=5), GATEWAY, BOUND),
    "no delay but by chance": Pair(
        '"fail"', "charge is not idempotent at fail@1-: no delay: 3 retries without a wait", CALL, CALL, GATEWAY,
        f"{LATE}, autoretry_for=(ConnectionError,), default_retry_delay=0",
        f"{LATE}, autoretry_for=(ConnectionError,), retry_backoff=True, retry_backoff_max=0",
    ),
    "no cap but a year": Pair(
        '"fail"', "charge is not idempotent at fail@1-: the test fails: RunawayJobs: charge doe…",
        RETRY.format(countdown="60 * 3 ** self.request.retries", most=None),
        RETRY.format(countdown="min(60 * 3 ** self.request.retries, 600)", most=5), GATEWAY, f"{BOUND}, max_retries=None",
    ),
    "endless, not its alarm": Pair(
        '"fail"', "charge is not idempotent at fail@1-: endless: 100 retries, no cap",
        RETRY.format(countdown=60, most=None), ALARM, GATEWAY, f"{BOUND}, max_retries=None", f"{BOUND}, max_retries=3",
    ),
    "another error": Pair('"fail"', "charge is not idempotent at fail@1: another error: UnboundLocalError (+1 more)", UNKNOWN, RETRY.format(countdown=60, most=5), GATEWAY, BOUND),
    "lock": Pair(
        '"crash"', 'charge is not idempotent at crash@6: redis:lock:7: lock left behind (+1 more)',
        LOCK.format(ttl="", else_="return"), LOCK.format(ttl=", ex=60", else_="raise self.retry(countdown=61)"), CLIENT, BOUND,
    ),
    "around the body": Pair(
        '"crash"', "charge is not idempotent at crash@10: orders.charged 1 -> 2", sql(PAID), sql(PAID), RUN,
        f"{LATE}, base=Careless", f"{LATE}, base=Careful",
    ),
    "stuck": Pair('"twice", "crash"', "charge is not idempotent at crash@13: orders.status: stuck at 'processing'", CLAIM.format(done=("done", "processing")), CLAIM.format(done=("done",))),
    "permanent error retried": Pair(
        "", "charge does not wait as expected: 0 retries expected, 3 made", CALL, CALL, PERMANENT,
        f"{LATE}, autoretry_for=(Exception,)", f"{LATE}, autoretry_for=(ConnectionError,)",
    ),
    "transient error not retried": Pair(
        "", "charge does not wait as expected: 1 retry expected, 0 made", CALL, CALL, TRANSIENT, LATE, f"{LATE}, autoretry_for=(ConnectionError,), default_retry_delay=60",
    ),
}  # fmt: skip


def task(options, body):
    """Return the module's own part."""
    return f"class Declined(Exception):\n    pass\n\n{SHIP}\n{AROUND}\n\n@app.task({options})\n{body.strip()}\n"


def source_of(pair):
    """Return the test."""
    marker = f"@pytest.mark.idempotent({pair.marker})\n" if pair.marker else ""
    body = "\n    ".join(pair.test.splitlines())
    return f"from shop import Declined\n\n\n{marker}def test_charge(jobs):\n    {body}\n"


@pytest.mark.parametrize("name", PAIRS)
def test_the_broken_one_fails(mutant, name):
    """With this first line."""
    pair = PAIRS[name]
    assert mutant.run(task(pair.options, pair.broken), source_of(pair)) == f"AssertionError: {pair.line}"


@pytest.mark.parametrize("name", PAIRS)
def test_the_repaired_one_passes(mutant, name):
    """Under the same schedules."""
    pair = PAIRS[name]
    assert mutant.run(task(pair.mended or pair.options, pair.repaired), source_of(pair)) == ""
