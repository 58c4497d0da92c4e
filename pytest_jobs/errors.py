"""The exceptions a test may meet."""

__all__ = ["JobLost", "JobNotFinished", "JobsWarning", "RunawayJobs", "UsageError", "WouldWaitForever"]


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
