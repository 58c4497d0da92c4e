"""What the probe of database drivers asks of each of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pytest_jobs.probes.catalogs import Query
from pytest_jobs.probes.tables import Wrote

if TYPE_CHECKING:
    from pytest_jobs.probes.dbapi import DBAPIProbe

__all__ = ["Driver", "Look", "Place"]

Look = Callable[[set[str] | None, Wrote], Any]


class Place:
    """One database that jobs wrote to.

    Attributes:
        label: What it is called where two have a table of the same name.
        look: Reads wanted tables, all for None.
        single: Whether no other connection can reach it.
        wrote: What jobs wrote to, and called.
    """

    def __init__(self, label: str, look: Look, single: bool) -> None:
        self.label = label
        self.look = look
        self.single = single
        self.wrote = Wrote()


class Driver(Protocol):
    """Knows one driver.

    Attributes:
        family: `sqlite`, `postgresql` or `mysql`.
        folds: Whether names without quotes are in lower case.
    """

    family: str
    folds: bool

    def install(self, probe: "DBAPIProbe") -> None:
        """Hook the driver."""

    def remove(self) -> None:
        """Leave it as it was."""

    def error(self) -> BaseException:
        """Make the driver's transient error."""

    def text(self, statement: Any, connection: Any) -> str:
        """Return a statement's SQL."""

    def open(self, connection: Any) -> bool:
        """Whether a transaction is open; never raises."""

    def begins(self, connection: Any, verb: str) -> bool:
        """Whether a write, if it is the first one, begins a transaction."""

    def key(self, connection: Any) -> tuple[object, str]:
        """Return what identifies the database, and its label."""

    def single(self, key: object) -> bool:
        """Whether no other connection can reach the database of this key."""

    def foreign(self, connection: Any) -> bool:
        """Whether the connection was made in another thread, and can be used only there."""

    def look(self, connection: Any) -> Look:
        """Return what reads wanted tables of the database, all for None."""

    def locked(self, connection: Any) -> None:
        """Know of a statement that locked rows."""

    def query(self, connection: Any) -> Query | None:
        """Return what runs a statement over a connection, None where that cannot be done at once."""

    def blocks(self, key: object) -> bool:
        """Whether somebody who wanted to write to the database of this key would wait now."""

    def release(self, connection: Any) -> None:
        """Let go of whatever the connection holds in the database, as the end of its process would."""
