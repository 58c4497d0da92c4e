"""What the tables of several databases are called in one world."""

__all__ = ["Names"]


class Names:
    """Gives a table's plain name to the database that used it first, and puts the database's name before any other."""

    def __init__(self) -> None:
        self._owners: dict[str, object] = {}

    def public(self, owner: object, label: str, table: str) -> str:
        """Return the subject of a table.

        Args:
            owner: Its database.
            label: What the database is called.
            table: What the database calls it.
        """
        return table if self._owners.setdefault(table, owner) is owner else f"{label}.{table}"

    def private(self, owner: object, label: str, subject: str) -> tuple[str, ...]:
        """Return what a database may call the table of a subject, nothing when it is another database's."""
        if self._owners.get(subject, owner) is not owner:
            return ()
        # The database's name may be that of a schema as well.
        return (subject, subject.removeprefix(f"{label}.")) if subject.startswith(f"{label}.") else (subject,)
