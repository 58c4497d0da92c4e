"""Celery's own beat scheduler, ticked in virtual time."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from celery import VERSION
from celery.beat import Scheduler
from celery.schedules import crontab

from pytest_jobs.errors import UsageError

__all__ = ["VirtualBeat", "beating", "run"]
__tracebackhide__ = True

FAR = 366 * 86400.0


def beating(apps: list[Any], default: Any) -> Any:
    """Return the app whose beat runs: the default one when it has a schedule, else the only one that has.

    Raises:
        UsageError: When several apps have one, or none has.
    """
    for app in apps:
        app.finalize()  # handlers of on_after_finalize add periodic tasks
    found = [app for app in apps if app.conf.beat_schedule]
    if default in found or len(found) == 1:
        return default if default in found else found[0]
    named = ", ".join(str(app.main) for app in found)
    what = f"several apps have a beat schedule ({named})" if found else "no app has a beat schedule"
    raise UsageError(f"jobs.beat was called, but {what}; name the one to run as jobs_app, and set beat_schedule there")


class _Exact(Scheduler):
    """Celery's scheduler without the 10 ms that it wakes too early, as real sleeps need."""

    def adjust(self, n: float | None, drift: float = 0.0) -> float | None:
        return n

    def is_due(self, entry: Any) -> tuple[bool, float]:
        due, wait = super().is_due(entry)
        rule = entry.schedule
        if VERSION < (5, 7) and not due and self.app.conf.beat_cron_starting_deadline and isinstance(rule, crontab):
            # After missed runs it takes one that is due this very instant, which no real clock reads, for missed as well.
            last, now = rule.maybe_make_aware(entry.last_run_at), rule.maybe_make_aware(rule.now())
            due = not rule.remaining_estimate(max(last, now - timedelta(microseconds=1)))
        return due, wait


class VirtualBeat:
    """One beat process of an app; it lives as long as the world, so a gap between two periods is a gap for it too."""

    def __init__(self, app: Any) -> None:
        self.scheduler = _Exact(app=app, max_interval=FAR, lazy=False)

    def tick(self) -> float:
        """Send every entry that is due; return the seconds until the next may be."""
        wait = 0.0
        while wait <= 0.0:
            wait = self.scheduler.tick()
        return float(wait)


def run(
    known: list[VirtualBeat], app: Any, count: int, period: timedelta, now: Callable[[], datetime], until: Callable[[datetime], Any]
) -> None:
    """Visit each instant at which an entry is due, in order.

    Args:
        known: The beat processes there were so far; more are added when there are too few.
        app: Whose schedule it is.
        count: How many of them are up; two send everything twice, as in the field.
        period: How much virtual time passes.
        now: Reads the clock.
        until: Runs what is due up to an instant, and moves the clock there.
    """
    known += [VirtualBeat(app) for _ in range(count - len(known))]
    beats, end = known[:count], now() + period
    while True:
        wait = min(beat.tick() for beat in beats)
        following = now() + timedelta(seconds=wait)
        if following > end:
            until(end)
            return
        until(following)
