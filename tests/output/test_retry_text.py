"""The whole texts of failures about retries and locks, line by line."""

from pytest_jobs import render
from pytest_jobs.ignore import Ignore
from pytest_jobs.records import Effect
from pytest_jobs.verdict import compare
from pytest_jobs.world import Outcome, World

DONE = Outcome("shop.charge", 1, (("succeeded", "paid"),), "succeeded")
DOWN = "ConnectionError('down')"


def check(now: World, schedule: str, expected: str, once: World | None = None) -> None:
    """Compare a failure's text with the one drawn in the test."""
    compared = compare(once or World({}, outcomes=(DONE,)), now, Ignore([]))
    text = render.failure(render.Failure("shop.charge", schedule, compared.findings, compared.ignored))
    assert text.splitlines() == expected.strip("\n").splitlines()


def after(injected: int, *delays: float, attempts=DONE.attempts, state="succeeded", died_of="") -> World:
    """Return a world in which the job met so many injected errors."""
    job = Outcome("shop.charge", 1, attempts, state, frozenset(), (DOWN,) * injected, delays, died_of)
    return World({}, outcomes=(job,))


def test_no_cap() -> None:
    """A job that is still retried after a hundred failures."""
    check(after(100, *[60.0] * 100), "fail@1-", """
charge is not idempotent at fail@1-: endless: 100 retries, no cap

           once    now
 charge    –       100 retries

Fix:     https://pytest-jobs.readthedocs.io/failures#endless
""")


def test_no_delay() -> None:
    """A job that hammers what is down."""
    check(after(4, 0.0, 0.0, 0.0), "fail@1-", """
charge is not idempotent at fail@1-: no delay: 3 retries without a wait

           once    now
 charge    –       waits 0, 0, 0 s

Fix:     https://pytest-jobs.readthedocs.io/failures#no-delay
""")


def test_one_retry_at_once_is_fine() -> None:
    """A first retry without a wait, and waits after it, are no finding; nor are a few failures."""
    for world in (after(4, 0.0, 60.0, 120.0), after(3, 0.0, 0.0), after(1, 0.0, 0.0, 0.0)):
        assert compare(World({}, outcomes=(DONE,)), world, Ignore([])).findings == ()


def test_another_error() -> None:
    """A job that dies of its own error handling."""
    failed = after(1, attempts=(("failed", "KeyError('id')"),), state="failed", died_of="KeyError('id')")
    check(failed, "fail@1", """
charge is not idempotent at fail@1: another error: KeyError

            once                       now
 charge
   error    ConnectionError('down')    KeyError('id')

Fix:     https://pytest-jobs.readthedocs.io/failures#other-error
""")


def test_what_is_ignored() -> None:
    """Each rule has a word for `ignore`, and says when it hid something."""
    failed = after(1, attempts=(("failed", "KeyError('id')"),), state="failed", died_of="KeyError('id')")
    for world, word in ((failed, "other-error"), (failed, "result"), (after(100, *[0.0] * 99), "endless"), (after(4, 0, 0, 0), "no-delay")):
        patterns = [word, "no-delay"] if word == "endless" else [word]
        compared = compare(World({}, outcomes=(DONE,)), world, Ignore(patterns))
        assert (compared.findings, compared.ignored) == ((), tuple(patterns))


def test_a_lock_left_behind() -> None:
    """A key that is set only where there is none, and still there when all is quiet."""
    taken = Effect("redis", "redis:lock:7", "SET lock:7", safe=True, detail="SET lock:7 token NX")
    check(World({"redis:lock:7": "token"}, (taken,), (DONE,)), "crash@3", """
charge is not idempotent at crash@3: redis:lock:7: lock left behind

                 once    now
 redis:lock:7    –       'token'    <- added

Fix:     https://pytest-jobs.readthedocs.io/failures#lock
""")


def test_a_key_that_is_no_lock() -> None:
    """Any other key is told as state."""
    put = Effect("redis", "redis:paid:7", "SET paid:7", safe=True, detail="SET paid:7 yes")
    compared = compare(World({}, (), (DONE,)), World({"redis:paid:7": "yes"}, (put,), (DONE,)), Ignore([]))
    assert [finding.rule for finding in compared.findings] == ["state"]
