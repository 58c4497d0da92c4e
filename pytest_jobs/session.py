"""One world: clock, queue, worker, faults, probes; opened together and closed together."""

import threading
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_jobs import render
from pytest_jobs.clock import Clock, seconds
from pytest_jobs.crew import Crew
from pytest_jobs.errors import UsageError
from pytest_jobs.faults import Fault, Faults
from pytest_jobs.ignore import Ignore
from pytest_jobs.options import Options
from pytest_jobs.probes.active import Active
from pytest_jobs.probes.base import Probe, Recorder, Touching
from pytest_jobs.records import Effect, Job, JobList
from pytest_jobs.resting import left_over, outcomes
from pytest_jobs.schedules import ONCE, Schedule
from pytest_jobs.source import Source
from pytest_jobs.worker import Worker
from pytest_jobs.world import EVERYTHING, Unreadable, World

__all__ = ["Session"]
__tracebackhide__ = True


PLAIN = (list, dict, set, deque)


class _Only:
    """Keeps worlds from nesting: they would share the process's clock and apps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise UsageError(
                "an in-process worker is active already (the fixture jobs, or in_process_worker()); "
                "use that one, worlds do not nest"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()


ONLY = _Only()


class Session:
    """Owns one world from start to end."""

    def __init__(
        self, options: Options, schedule: Schedule = ONCE, roots: Sequence[Path] = (), record: bool = False
    ) -> None:
        self.options = options
        self._record = record
        self._home = str(next(iter(roots), ""))
        self.schedule = schedule
        self.clock = Clock(options.start)
        self.recorder = Recorder()
        self.watched: list[Probe] = []
        self._cheap: list[Probe] = []
        self.active = Active(self.recorder, roots, self._is_own_redis, options.idempotency_headers)
        self.ignore: list[str] = list(options.ignore)
        self.apart: Any = None
        self.replaying = False
        self.told: set[str] = set()
        self._watch: Any = None
        self._stack = ExitStack()

    settle_limit = 366 * 86400.0

    def __enter__(self) -> "Session":
        # Imported here: a pytest start must not pay for Celery.
        from pytest_jobs.queues.celery import CeleryQueue

        with ExitStack() as stack:
            stack.enter_context(ONLY)
            app = self.options.load_app()
            self.queue = CeleryQueue(app, self.options.broker, lambda: self.clock.now)
            stack.callback(self.clock.stop)
            self.clock.start()
            self.faults = Faults(lambda: self.worker.current)
            stack.callback(self.faults.close)
            self.worker: Worker = Worker(
                self.queue, self.clock, self.recorder, self.faults, self.schedule, self._record
            )
            self.clock.on_sleep = self.worker.slept
            stack.callback(self._look_away)
            stack.callback(self.queue.stop)
            self.queue.start(self.worker)
            stack.callback(self.active.remove)
            self.active.refresh()
            self.worker.on_execute = self.active.begin
            self.worker.on_death = self._forget
            self.worker.find_source = self.source
            self.worker.signatures = self._signature
            self.worker.keep_lost = "lost" in self.ignore
            if self.worker.route.lines:
                self.worker.source = self.source()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def run(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
        """Publish and settle."""
        job_id = self.queue.publish(task, args, kwargs)
        self.worker.settle(self.settle_limit)
        return self.job(job_id)

    def settle(self, limit: Any, workers: Any) -> JobList:
        """Settle as several workers would."""
        crew = Crew(workers, self.queue.prefetch, self.worker.ledger.holds)
        deadly = self.faults.deadly
        if deadly is not None:
            raise UsageError(f"jobs.settle(workers=…) cannot run while {deadly.plan} is armed; kills are for one worker")
        self.looking()
        return self.worker.settle(limit, crew)

    def job(self, job_id: str) -> Job:
        """Return a job by its id."""
        return self.worker.ledger.job(self.worker.ledger.entries[job_id], self.clock.now)

    def jobs(self, *states: str) -> JobList:
        """Return the jobs in these states."""
        return self.worker.ledger.jobs(self.clock.now, *states)

    def drain(self, task: Any, queue: str | None, limit: int | None, spawned: bool) -> JobList:
        """Run what is due now, of one task and queue."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise UsageError(f"jobs.drain was given limit={limit!r}; allowed is a whole number from 0")
        if queue is not None and not isinstance(queue, str):
            raise UsageError(f"jobs.drain was given queue={queue!r}; allowed is the name of a queue")
        name = None
        if task is not None:
            found = self.queue.resolve(task)
            if found is None:
                raise UsageError(f"jobs.drain was given task={task!r}; allowed is a task or its registered name")
            name = found.name
        return self.worker.drain(name, queue, limit, spawned)

    def redeliver(self, job: Job) -> Job:
        """Deliver a job's message once more."""
        entry = self.worker.ledger.entries.get(getattr(job, "id", ""))
        if entry is None:
            raise UsageError(f"jobs.redeliver was given {job!r}; allowed is a job of this test")
        self.worker.redeliver(entry.last)
        return self.job(entry.id)

    def keep(self, context: AbstractContextManager[Any]) -> None:
        """Enter something that lasts as long as the world."""
        self._stack.enter_context(context)

    def come_late(self, schedule: Schedule, since: int = 0) -> None:
        """Deliver once more, now that everything else is done, what a schedule names; settle after it.

        Args:
            schedule: The schedule.
            since: How many deliveries there were before it began.
        """
        first = list(self.worker.deliveries[since:])
        for step in schedule.steps:
            there = step.kind == "late" and step.at is not None and step.at <= len(first)
            if there and self.worker.route.strikes("late", step.at):
                self.worker.redeliver(first[(step.at or 1) - 1])
                self.worker.settle(self.settle_limit)

    def beat(self, period: Any, beats: Any, fresh: bool) -> JobList:
        """Run the beat schedule over a period; return the jobs that were published in it."""
        if isinstance(beats, bool) or not isinstance(beats, int) or beats < 1:
            raise UsageError(f"jobs.beat was given beats={beats!r}; allowed is a whole number from 1")
        known = frozenset(self.worker.ledger.entries)
        self.queue.beat(timedelta(seconds=seconds(period, "jobs.beat")), beats, fresh, self.worker.move_to)
        return JobList(job for job in self.jobs() if job.id not in known)

    def postpone(self, task: Any, by: Any, times: int) -> Fault:
        """Arm a delay of deliveries."""
        return self.faults.delivery(self.queue, "postpone", task, times, seconds(by, "jobs.postpone"))

    def watch(self, source: Any, name: str | None, ignore: Sequence[str], caller: FrameType | None) -> None:
        """Add a probe for something the test names."""
        from pytest_jobs.probes.watch import watched

        patterns = Ignore(ignore).patterns
        probe = watched(source, name=name, caller=caller)
        probe.install(self.recorder)
        self._stack.callback(probe.remove)
        self.watched.append(probe)
        self.active.watch(source)
        if isinstance(getattr(source, "__self__", source), PLAIN) or hasattr(source, "mock_calls"):
            self._cheap.append(probe)
        self.ignore.extend(patterns)

    def source(self) -> Source:
        """Return what decides which files are project code, and begin to look at them.

        Raises:
            UsageError: When Python lets nobody look.
        """
        from pytest_jobs.points import Watch

        if self._watch is not None:
            self.worker.watch = self._watch
            return self._watch.source  # type: ignore[no-any-return]
        root = self.options.root or Path.cwd()
        places = [root / name for name in self.options.source if (root / name).exists()]
        modules = [name for name in self.options.source if not (root / name).exists()]
        source = Source(places or [root], (), modules)
        # One for the whole world: fresh worlds within it forget theirs, and Python gives few tools out.
        self.worker.watch = self._watch = Watch(source)
        return source

    def looking(self) -> Source:
        """Return the source, made when first wanted: runs are traced from then on."""
        self.worker.source = self.worker.source or self.source()
        return self.worker.source  # type: ignore[no-any-return]

    def killing(self) -> Faults:
        """Return the faults for one that kills: the runs before it are traced already."""
        self.looking()
        return self.faults

    def _look_away(self) -> None:
        if self._watch is not None:
            self._watch.close()
            for left in self._watch.left:
                warnings.warn(f"a killed task cannot be stopped: {left}", RuntimeWarning, stacklevel=2)

    def _forget(self) -> None:
        for probe in (*self.active.probes, *self.watched):
            probe.forget()

    def _signature(self) -> Any:
        """Sum up the watched values that are cheap to read."""
        return tuple(repr(probe.read(frozenset())[0]) for probe in self._cheap)

    def _is_own_redis(self, client: Any) -> bool:
        """Tell whether a Redis client is the plugin's own: the broker's, or the result backend's."""
        return type(client).__module__.startswith("pytest_jobs.")

    def effects(self) -> tuple[Effect, ...]:
        """Return every effect of every attempt, in order."""
        return tuple(self.worker.effects)

    def check_faults(self) -> None:
        """Fail when a fault never fired."""
        unfired = [fault for fault in self.faults.all if not fault.fired]
        if unfired:
            raise AssertionError(render.unfired(unfired))

    def world(self, wanted: frozenset[str] = frozenset(), gave_up: frozenset[str] = frozenset()) -> World:
        """Read the world as it is now; for jobs that gave up with an injected error only later attempts count."""
        state: dict[str, Any] = {}
        unreadable: list[Unreadable] = []
        with self.recorder.paused():
            for probe in (*self.active.probes, *self.watched):
                try:
                    seen, blind = probe.read(wanted)
                except Exception as error:  # noqa: BLE001 - a probe must never decide a verdict by raising
                    unreadable.append(Unreadable(probe.name, f"it raised {error!r}"))
                else:
                    state.update(_named_apart(state, seen, probe.name))
                    unreadable.extend(blind)
        touched = (name for probe in self.active.probes if isinstance(probe, Touching) for name in probe.touched)
        return World(
            state, self.effects(), outcomes(self.worker, gave_up), left_over(self.worker), frozenset(self.clock.instants),
            self.clock.real, tuple(unreadable), self.worker.early,
            tuple(each.name for each in self.worker.ledger.entries.values() if not each.attempts),
            frozenset((*state, *touched)), self.worker.kept, self._home,
        )  # fmt: skip

    def whole_world(self) -> World:
        """Read the world with what jobs have not written to yet: another run may, and what lies there now is what it begins with."""
        world = self.world()
        return replace(world, state={**self.world(EVERYTHING).state, **world.state})


def _named_apart(state: Mapping[str, Any], seen: Mapping[str, Any], probe: str) -> dict[str, Any]:
    """Give what another probe calls the same another name, unless it is the same."""
    taken = {subject for subject, value in seen.items() if subject in state and state[subject] != value}
    return {f"{subject} ({probe})" if subject in taken else subject: value for subject, value in seen.items()}
