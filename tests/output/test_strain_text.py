"""The whole texts of the checks under strain, and of a job that its broker's outage costs."""

from pytest_jobs import render_checks
from pytest_jobs.ignore import Ignore
from pytest_jobs.verdict import compare
from pytest_jobs.world import World


def check(text: str, expected: str) -> None:
    """Compare a text with the one drawn in the test, which begins after its first line break."""
    assert text.splitlines() == expected.strip("\n").splitlines()


def test_memory_that_grows() -> None:
    """The lines that keep most, and how much each run adds."""
    check(
        render_checks.grows("shop.remember", 200, [("shop/cache.py:12", 64_000), ("shop/tasks.py:40", 4_800)]),
        """
shop.remember keeps 344 bytes more from run to run, in 200 runs

  shop/cache.py:12                                320 bytes a run
  shop/tasks.py:40                                 24 bytes a run

A worker lives for days: what a run adds to a module, a class or a cache is never freed.
Fix:  https://pytest-jobs.readthedocs.io/failures#memory
""",
    )


def test_a_herd() -> None:
    """When they came back, drawn."""
    check(
        render_checks.herd("shop.capture", 1, 80, 100, [(60, 80), (61, 20)]),
        """
shop.capture comes back as a herd: 80 of 100 jobs retry in one second

They failed at one instant. Retry 1 of each ran at:
  00:01:00    80  ########################################
  00:01:01    20  ##########

Whatever was down is hit by all of them at once, again and again.
Fix:  retry_backoff with retry_jitter, or a random countdown
      https://pytest-jobs.readthedocs.io/failures#herd
""",
    )


def test_no_herd() -> None:
    """Nothing was retried, so nothing is known."""
    check(
        render_checks.no_herd("shop.capture", 100),
        """
shop.capture was never retried in 100 jobs, so nothing is known of how they come back; let it fail first, with jobs.fail for example
      https://pytest-jobs.readthedocs.io/failures#herd
""",
    )


def test_threads_that_break() -> None:
    """What the threads left, and that the same run finds it again."""
    compared = compare(World({"stock": {"left": 90}}), World({"stock": {"left": 99}}), Ignore(()))
    check(
        render_checks.breaks("shop.take", 10, compared, 3, 12),
        """
take breaks in 10 threads: stock.left 90 -> 99

           one by one    in threads
 stock     1 entry       1 entry
   left    90            99

Found in interleaving 3 of 12, the same in every run: the threads change between two lines of
project code. They share modules, classes and objects; what one sets, another one reads.
Fix:     https://pytest-jobs.readthedocs.io/failures#threads
""",
    )


def test_threads_that_wait_for_each_other() -> None:
    """Each line at which threads wait, and how many do."""
    check(
        render_checks.deadlocks("shop.move", 3, ["shop/stock.py:8", "shop/stock.py:8", "shop/stock.py:14"]),
        """
move comes to no end in 3 threads: they wait for each other

  shop/stock.py:8  2 threads
  shop/stock.py:14  1 thread

Fix:     https://pytest-jobs.readthedocs.io/failures#threads
""",
    )


def test_what_varies_without_threads() -> None:
    """No verdict where the jobs one after the other do not leave the same twice."""
    compared = compare(World({"stock": {"left": 90}}), World({"stock": {"left": 99}}), Ignore(()))
    check(
        render_checks.varies("shop.take", compared),
        """
two runs of take differ: stock.left 90 -> 99, so nothing was compared

           first run    second run
 stock     1 entry      1 entry
   left    90           99

The jobs ran one after the other, twice, before any thread. Seed random values, and let jobs.watch see what is
kept in memory, so that it can be put back.
Fix:     https://pytest-jobs.readthedocs.io/failures#irreproducible
""",
    )


def test_a_dropped_retry() -> None:
    """Celery drops a job whose retry cannot be published."""
    check(
        render_checks.dropped("shop.send", ["00:00:00  delivery 1  send(7)  retry lost after reject, acked"]),
        """
send is lost: its retry could not be published

 00:00:00  delivery 1  send(7)  retry lost after reject, acked

self.retry() publishes a new message. When the broker stays out of reach for all tries, Celery rejects the old
message and drops the job; acknowledged late or early makes no difference.
Fix:     self.retry(retry_policy={'max_retries': …}), task_publish_retry_policy, or a sweep that finds such jobs
         https://pytest-jobs.readthedocs.io/failures#lost
""",
    )
