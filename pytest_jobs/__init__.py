"""Prove that your jobs may run twice, crash half-way and come late: a pytest plugin for job-resilience testing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_jobs import strategies
    from pytest_jobs.clock import Clock
    from pytest_jobs.errors import JobLost, JobNotFinished, JobsWarning, RunawayJobs, UsageError, WouldWaitForever
    from pytest_jobs.faults import Fault
    from pytest_jobs.jobs import Jobs, in_process_worker
    from pytest_jobs.machine import JobMachine
    from pytest_jobs.records import Attempt, Effect, Job, JobList

__all__ = [
    "Attempt",
    "Clock",
    "Effect",
    "Fault",
    "Job",
    "JobList",
    "JobLost",
    "JobMachine",
    "JobNotFinished",
    "Jobs",
    "JobsWarning",
    "RunawayJobs",
    "UsageError",
    "WouldWaitForever",
    "in_process_worker",
    "strategies",
]

_HOMES = (
    ("clock", ("Clock",)),
    ("errors", ("JobLost", "JobNotFinished", "JobsWarning", "RunawayJobs", "UsageError", "WouldWaitForever")),
    ("faults", ("Fault",)),
    ("jobs", ("Jobs", "in_process_worker")),
    ("machine", ("JobMachine",)),
    ("records", ("Attempt", "Effect", "Job", "JobList")),
)


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module(f"{__name__}.strategies")
    for home, names in _HOMES:
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without what brings Hypothesis: freezegun reads every name of every module when time is frozen.
    return [name for name in __all__ if name not in ("JobMachine", "strategies")]
