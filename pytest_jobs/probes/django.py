"""Django: its databases, its mail, its cache."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pytest_jobs.probes.base import Held, Patches, Recorder
from pytest_jobs.probes.tables import Tables, Wrote
from pytest_jobs.world import EVERYTHING, Rows, Unreadable

if TYPE_CHECKING:
    from pytest_jobs.probes.django_kept import KeptProject
    from pytest_jobs.probes.django_orm import Orm
    from pytest_jobs.probes.django_services import Services

__all__ = ["DjangoProbe", "available", "model_rows", "queryset_rows"]


def available() -> bool:
    """Tell whether the process runs a Django project whose apps are ready."""
    conf, registry = sys.modules.get("django.conf"), sys.modules.get("django.apps")
    return conf is not None and registry is not None and conf.settings.configured and registry.apps.ready


def model_rows(model: Any) -> tuple[str, Rows]:
    """Return a model's table: its subject and its rows."""
    from pytest_jobs.probes import django_rows

    return django_rows.model_rows(model)


def queryset_rows(queryset: Any) -> tuple[str, Rows]:
    """Return what a queryset selects: the subject of its table, and those rows."""
    from pytest_jobs.probes import django_rows

    return django_rows.queryset_rows(queryset)


class DjangoProbe:
    """Sees what tasks do through Django; does nothing where no project is set up."""

    name = "django"

    def __init__(self) -> None:
        self._patches = Patches()
        self._recorder = Recorder()
        self._orm: Orm | None = None
        self._services: Services | None = None
        self._known: dict[str, Tables] = {}
        self._kept: KeptProject | None = None

    def install(self, recorder: Recorder) -> None:
        """Hook the connections and backends of a project that is set up."""
        self._recorder = recorder
        recorder.holds[self.name] = self._holding
        recorder.leaves[self.name] = self._leave
        recorder.blocks[self.name] = self._blocks
        recorder.nests[self.name] = lambda: self._orm.apart() if self._orm is not None else nullcontext()
        self.refresh()

    def refresh(self) -> None:
        """Hook a project that has been set up since, and backends that were loaded."""
        if self._services is not None:
            self._services.refresh()
        elif available():
            from pytest_jobs.probes.django_orm import Orm
            from pytest_jobs.probes.django_services import Services

            self._orm = Orm(self._recorder, self._patches)
            self._services = Services(self._recorder, self._patches)

    def remove(self) -> None:
        """Unhook everything."""
        self._recorder.holds.pop(self.name, None)
        self._recorder.blocks.pop(self.name, None)
        self._recorder.nests.pop(self.name, None)
        self._recorder.leaves.pop(self.name, None)
        self._patches.undo()
        self._orm = self._services = self._kept = None
        self._known = {}

    def read(self, wanted: frozenset[str]) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        """Return the rows of each table written, of the wanted ones of the project's models, and the cache's values."""
        if self._orm is None or self._services is None:
            return {}, ()
        state: dict[str, Any] = {}
        unreadable: list[Unreadable] = []
        with self._recorder.paused():
            for alias, tables in self._tables(wanted).items():
                wrote = Wrote(set(self._orm.written.get(alias, ())), self._orm.called.get(alias, set()))
                seen, blind = self._rows(alias, tables, wrote)
                state |= seen
                unreadable += blind
            try:
                state |= self._services.state()
            except Exception as error:  # noqa: BLE001 - caches fail in as many ways as they have backends
                unreadable.append(Unreadable(self.name, f"the cache could not be read: {error}"))
        return state, tuple(unreadable)

    def forget(self) -> None:
        """Roll back the transactions that a killed task left open."""
        if self._orm is not None:
            with self._recorder.paused():
                self._orm.forget()

    def keep(self) -> None:
        """Remember what the project's databases, mail and caches hold."""
        if self._orm is not None and self._services is not None:
            from pytest_jobs.probes.django_kept import KeptProject

            self._kept = self._kept or KeptProject(self._orm, self._services)
            self._kept.keep()

    def restore(self) -> tuple[str, ...]:
        """Put it back; return one sentence for each part that could not be."""
        return self._kept.restore() if self._kept is not None else ()

    def _holding(self) -> Iterable[Held]:
        return self._orm.holding() if self._orm is not None else ()

    def _leave(self) -> None:
        if self._orm is not None:
            sys.modules["django.db"].connections.close_all()

    def _blocks(self) -> Sequence[Mapping[str, None]]:
        return self._orm.blocks.open() if self._orm is not None else ()

    def _rows(self, alias: str, tables: list[str], wrote: Wrote) -> tuple[Mapping[str, Any], tuple[Unreadable, ...]]:
        from pytest_jobs.probes.django_rows import tables_rows

        return tables_rows(alias, tables, self._known, wrote)

    def _tables(self, wanted: frozenset[str]) -> dict[str, list[str]]:
        if self._orm is None:
            return {}
        written = self._orm.written
        tables = {alias: dict(written.get(alias, ())) for alias in (*written, *self._orm.called)}
        if wanted:
            apps = sys.modules["django.apps"].apps
            known = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
            connections = sys.modules["django.db"].connections
            aliases = set(connections)
            for subject in wanted:
                if subject in EVERYTHING:
                    tables |= {alias: dict.fromkeys((*tables.get(alias, ()), *known)) for alias in aliases if connections[alias].connection}
                    continue
                table, _, alias = subject.partition("@")
                if table in known and (alias or "default") in aliases:
                    tables.setdefault(alias or "default", {})[table] = None
        return {alias: list(names) for alias, names in tables.items()}
