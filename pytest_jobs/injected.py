"""Errors that a schedule injected, and the jobs that gave up with one."""

from pytest_jobs.ledger import Entry, Ledger

__all__ = ["gave_up_with", "injected_failures", "is_injected", "mark_injected"]

NOTE = "injected by the schedule"


def mark_injected(error: BaseException, schedule: object) -> BaseException:
    """Say on an error which schedule made it."""
    error.add_note(f"{NOTE} {schedule}")
    return error


def is_injected(error: BaseException | None) -> bool:
    """Tell whether an error is an injected one, as a library or the task itself may have wrapped it (`raise … from`)."""
    seen = 0
    while error is not None and seen < 10:
        if any(NOTE in note for note in getattr(error, "__notes__", ())):
            return True
        inner = getattr(error, "orig", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__
        seen += 1
    return False


def gave_up_with(entry: Entry, error: BaseException | None) -> bool:
    """Tell whether an error is the injected one, or Celery's own word for too many retries after it."""
    return is_injected(error) or (bool(entry.injected) and type(error).__name__ == "MaxRetriesExceededError")


def injected_failures(ledger: Ledger) -> tuple[str, ...]:
    """Return the ids of the jobs whose outcome is the injected error: they gave up, which they may."""
    return tuple(entry.id for entry in ledger.entries.values() if entry.state == "failed" and gave_up_with(entry, entry.error))
