"""The exceptions a test may meet."""

__all__ = ["JobLost", "JobNotFinished", "JobsWarning", "RunawayJobs", "UsageError", "WouldWaitForever", "error_text"]


class UsageError(Exception):
    """Tell in one sentence what was given and what is allowed."""

    __module__ = "pytest_jobs"


class RunawayJobs(Exception):
    """Tell that jobs never come to rest: what is still scheduled, and the loop that keeps it going."""

    __module__ = "pytest_jobs"


class JobNotFinished(Exception):
    """Tell that the result was asked of a job that has no outcome yet."""

    __module__ = "pytest_jobs"


class JobLost(Exception):
    """Tell that a job was acknowledged or dropped without an outcome."""

    __module__ = "pytest_jobs"


class WouldWaitForever(Exception):
    """Tell that a result was waited for that no job will ever store."""

    __module__ = "pytest_jobs"


class JobsWarning(UserWarning):
    """Tell something about the jobs of a test that is no failure, but should not pass in silence."""

    __module__ = "pytest_jobs"


def error_text(error: BaseException | None) -> str:
    """Show an error by its repr; by its class and what it was given where its own, as redis-py 8's, tells neither."""
    shown = repr(error)
    if error is None or shown.startswith(type(error).__name__) or any(str(given) and str(given) in shown for given in error.args):
        return shown
    return BaseException.__repr__(error)
