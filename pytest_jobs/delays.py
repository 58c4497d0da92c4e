"""Whether a job waited as its backoff schedule says."""

from collections.abc import Sequence
from typing import Literal

from pytest_jobs.errors import UsageError

__all__ = ["bounds", "check"]

TOLERANCE = 1e-6


def check(
    actual: Sequence[float], expected: Sequence[float], jitter: float | Literal["full"] = 0.0
) -> tuple[bool, ...]:
    """Tell of each delay whether it is as expected; a delay that is missing or too many is not.

    Args:
        actual: The seconds a job was told to wait before each retry.
        expected: The seconds it should have been told.
        jitter: The part of each delay that may be added or taken away, from 0 to 1; `"full"`: anything from 0 seconds
            to the expected ones.

    Raises:
        UsageError: When `jitter` or a delay is none of these.
    """
    if isinstance(expected, str) or not isinstance(expected, Sequence):
        raise UsageError(f"check_delays expects a list of seconds, such as [30, 60, 120], not {expected!r}")
    for delay in expected:
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay >= 0:
            raise UsageError(f"check_delays expects seconds from 0 upwards, not {delay!r}")
    limits = bounds(expected, jitter)
    right = [low - TOLERANCE <= delay <= high + TOLERANCE for delay, (low, high) in zip(actual, limits, strict=False)]
    return (*right, *(False for _ in range(abs(len(actual) - len(expected)))))


def bounds(expected: Sequence[float], jitter: float | Literal["full"]) -> tuple[tuple[float, float], ...]:
    """Return the least and the most seconds of each delay.

    Raises:
        UsageError: When `jitter` is neither a number from 0 to 1 nor `"full"`.
    """
    if jitter == "full":
        return tuple((0.0, float(delay)) for delay in expected)
    if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        raise UsageError(f"jitter={jitter!r} is neither a number from 0 to 1 (0.1: each within ± 10 %) nor 'full'")
    return tuple((delay * (1 - jitter), delay * (1 + jitter)) for delay in expected)
