"""What of time limits and shutdowns an app's settings and the installed Celery really keep."""

import math
from types import MappingProxyType
from typing import Any

from celery import VERSION

__all__ = ["kept_limits", "prefetch", "soft_window"]
__tracebackhide__ = True

Limits = tuple[float | None, float | None]
# Which pools keep the soft and the hard limit; billiard's keeps both, and of a pool of one's own nothing is known.
KEEPS = MappingProxyType({"solo": (False, False), "threads": (False, False), "thread": (False, False),
                          "eventlet": (False, False), "gevent": (False, True)})  # fmt: skip


def kept_limits(app: Any, limits: Limits) -> tuple[Limits, str]:
    """Return the limits (soft, hard) that the app's pool keeps, and the name of the pool when it ignores one of them."""
    if limits == (None, None):
        return limits, ""
    pool = str(app.conf.worker_pool).partition(":")[0].rpartition(".")[2]
    soft, hard = KEEPS.get(pool, (True, True))
    kept = (limits[0] if soft else None, limits[1] if hard else None)
    return kept, "" if kept == limits else pool


def soft_window(app: Any) -> float | None:
    """Return the seconds that a soft shutdown leaves a running task, None before Celery 5.5."""
    if VERSION < (5, 5):
        return None
    return float(app.conf.worker_soft_shutdown_timeout or 0.0) or math.inf


def prefetch(app: Any, children: int, redis: bool) -> int | None:
    """Return how many messages a worker takes unacknowledged; 0: what its children are free for, None: all there are."""
    if redis and VERSION >= (5, 6) and app.conf.worker_disable_prefetch:
        return 0
    return children * int(app.conf.worker_prefetch_multiplier) or None
