"""Jobs of several workers, run side by side in virtual time: each child is a thread, and one runs at a time."""

from datetime import datetime
from typing import TYPE_CHECKING

from pytest_jobs.baton import Baton
from pytest_jobs.crew import Crew
from pytest_jobs.hosting import Call
from pytest_jobs.stuck import runaway

if TYPE_CHECKING:
    from pytest_jobs.worker import Worker

__all__ = ["side_by_side"]
__tracebackhide__ = True


def side_by_side(worker: "Worker", call: Call, until: datetime, crew: Crew) -> None:
    """Settle as a crew would.

    Raises:
        RunawayJobs: When something is still due, or asleep, beyond the limit.
    """
    worker.baton = baton = Baton(worker, at_lines=False)
    worker.crew = crew
    try:
        with worker.queue.together():
            while True:
                _do_what_can_be_done(worker, call, crew, baton)
                ahead = [instant for instant in (baton.next_wake, worker.next_due()) if instant is not None]
                due = min(ahead, default=None)
                if due is None:
                    return
                if due > until:
                    told = f"something is still due at {due:%Y-%m-%d %H:%M:%S}, beyond the limit of settle"
                    raise runaway(worker, told, None)
                worker.clock.move_to(max(due, worker.clock.now))
    finally:
        baton.close()
        worker.baton = worker.crew = None


def _do_what_can_be_done(worker: "Worker", call: Call, crew: Crew, baton: Baton) -> None:
    """Let children that are free begin, and those that do not sleep go on, until nothing moves at this instant."""
    moved = True
    while moved:
        baton.run_ready()
        moved = worker.run_due()
        for envelope in crew.receive(worker.clock.now, worker.queue.pop):
            worker.deliver(call, envelope)
            moved = True
        moved = crew.begin(baton) or moved
