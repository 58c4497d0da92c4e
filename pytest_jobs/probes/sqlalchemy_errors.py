"""The transient errors that drivers raise, for the faults of a task that uses SQLAlchemy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["unavailable"]

LOCK_WAIT = (1205, "Lock wait timeout exceeded; try restarting transaction")
UNAVAILABLE: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"sqlite": ("database is locked",), "mysql": LOCK_WAIT, "mariadb": LOCK_WAIT}
)


def unavailable(dialect: Any) -> BaseException:
    """Make the driver's transient error, one that does not make SQLAlchemy throw its pool away."""
    driver = dialect.loaded_dbapi
    kind = getattr(driver, "OperationalError", driver.Error)
    error: BaseException = kind(*UNAVAILABLE.get(dialect.name, ("the database is not available",)))
    return error
