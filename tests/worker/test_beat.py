"""Beat under virtual time: crontabs, intervals, schedules of one's own, gaps, and more than one beat."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.schedules import crontab, schedule

from pytest_jobs import in_process_worker

START = "2026-01-05T00:00:00"
HOUR = 3600


@pytest.fixture
def beating():
    """Make apps whose beat has one entry, which runs `tick`; none keeps a schedule that a later test would see."""
    made = []

    def make(entry, **conf):
        app = Celery("beating", broker="memory://localhost/", backend="cache+memory://", set_as_current=False)
        app.conf.update(conf)

        @app.task(name="tick", shared=False)
        def tick():
            return "ticked"

        app.conf.beat_schedule = {"entry": {"task": "tick", **entry}}
        made.append(app)
        return app

    yield make
    for app in made:
        app.conf.beat_schedule = {}


def sent(jobs):
    """Return when jobs were published, as hours and minutes."""
    return [job.published_at.strftime("%H:%M") for job in jobs]


def test_a_crontab_that_was_missed_is_sent_once_when_beat_is_up_again(beating):
    """Beat was down at 3, 4 and 5 o'clock: one run at 5:10, then the schedule again."""
    with in_process_worker(beating({"schedule": crontab(minute=0)}), start=START) as jobs:
        assert sent(jobs.beat(2 * HOUR)) == ["01:00", "02:00"]
        assert jobs.advance(3 * HOUR + 600) == []
        assert sent(jobs.beat(2 * HOUR)) == ["05:10", "06:00", "07:00"]


def test_an_interval_that_was_missed_moves_the_schedule(beating):
    """It is sent at once, and counts from there."""
    with in_process_worker(beating({"schedule": 3600.0}), start=START) as jobs:
        jobs.beat(2 * HOUR)
        jobs.advance(3 * HOUR + 600)
        assert sent(jobs.beat(2 * HOUR)) == ["05:10", "06:10", "07:10"]


def test_a_deadline_lets_missed_crontabs_go(beating):
    """`beat_cron_starting_deadline` bounds how late a crontab entry may be."""
    app = beating({"schedule": crontab(minute=0)}, beat_cron_starting_deadline=300)
    with in_process_worker(app, start=START) as jobs:
        jobs.beat(2 * HOUR)
        jobs.advance(3 * HOUR + 600)
        assert sent(jobs.beat(2 * HOUR)) == ["06:00", "07:00"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [({"schedule": crontab(minute=0)}, ["06:00", "07:00"]), ({"schedule": 3600.0}, ["06:10", "07:10"])],
    ids=["crontab", "interval"],
)
def test_without_its_file_beat_has_missed_nothing(beating, entry, expected):
    """A fresh beat knows of no earlier run: a deploy each hour keeps an hourly interval from ever running."""
    with in_process_worker(beating(entry), start=START) as jobs:
        jobs.beat(2 * HOUR)
        jobs.advance(3 * HOUR + 600)
        assert sent(jobs.beat(2 * HOUR, fresh=True)) == expected
        before = len(jobs.all)
        for _ in range(5):
            jobs.beat(HOUR - 1, fresh=True)
        assert len(jobs.all) - before == (5 if "crontab" in repr(entry) else 0)


def test_a_schedule_of_ones_own(beating):
    """Whatever `is_due` answers."""

    class Weekdays(schedule):
        def is_due(self, last_run_at):
            due = super().is_due(last_run_at)
            return due if self.now().weekday() < 5 else type(due)(False, due.next)

    with in_process_worker(beating({"schedule": Weekdays(timedelta(hours=12))}), start=START) as jobs:
        jobs.beat(timedelta(days=7))
        assert {job.published_at.weekday() for job in jobs.all} == {0, 1, 2, 3, 4}


def test_two_beats_and_one_of_them_for_a_while_only(beating):
    """An entry is fired twice as long as two are up."""
    with in_process_worker(beating({"schedule": crontab(minute=0)}), start=START) as jobs:
        assert sent(jobs.beat(2 * HOUR, beats=2)) == ["01:00", "01:00", "02:00", "02:00"]
        assert sent(jobs.beat(HOUR)) == ["03:00"]


def test_the_apps_time_zone_counts(beating):
    """A nightly entry of Berlin runs at one o'clock UTC."""
    app = beating({"schedule": crontab(minute=0, hour=2)}, timezone="Europe/Berlin")
    with in_process_worker(app, start=START) as jobs:
        jobs.beat(timedelta(days=1))
        assert jobs.all.one.published_at == datetime(2026, 1, 5, 1, tzinfo=UTC)


def test_expires_of_an_entry_belongs_into_its_options(beating):
    """Without a worker messages pile up; those with `expires` are discarded when it comes back."""
    for entry, ran in (({"options": {"expires": 60}}, 1), ({}, 3)):
        with in_process_worker(beating({"schedule": 600.0, **entry}), start=START) as jobs:
            jobs.postpone(by=3 * HOUR, times=2)
            jobs.beat(1800)
            jobs.settle()
            assert len(jobs.succeeded) == ran


def test_the_worker_may_die_beside_beat(beating):
    """Beat is a process of its own."""
    with in_process_worker(beating({"schedule": crontab(minute="*/30")}), start=START) as jobs:
        jobs.beat(HOUR)
        jobs.shutdown("kill")
        assert sent(jobs.beat(HOUR)) == ["01:30", "02:00"]
