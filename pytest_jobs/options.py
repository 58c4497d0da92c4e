"""The settings of a run, checked once."""

import importlib
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_jobs.errors import UsageError
from pytest_jobs.kinds import kinds

if TYPE_CHECKING:
    import pytest

__all__ = ["Options", "configured", "declare"]
__tracebackhide__ = True

HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
BROKERS = ("auto", "redis", "rabbitmq", "memory")


# Every method that a dataclass writes takes time at each start of pytest.
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Options:
    """The effective settings; every one is an ini key with `jobs_` before it.

    Attributes:
        app: A Celery app or `"module:attribute"`; None takes over every live app.
        broker: `auto` (by the app's own URL), `redis`, `rabbitmq` or `memory`: whose rules apply.
        schedules: The kinds a bare `idempotent` marker stands for.
        max_schedules: The most schedules explored in one test.
        start: The instant the virtual clock starts at; None for now.
        ignore: Patterns of differences that are fine.
        idempotency_headers: Request headers that carry an idempotency key, besides those of the well-known APIs.
        source: Paths and importable names of project code; empty for the root directory.
        root: The directory that `source` paths are relative to.
        explore: The kinds that every marked test gets; empty for its own.
    """

    app: Any = None
    broker: str = "auto"
    schedules: tuple[str, ...] = ("twice",)
    max_schedules: int = 256
    start: datetime | None = None
    ignore: tuple[str, ...] = ()
    idempotency_headers: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    root: Path | None = None
    explore: tuple[str, ...] = ()

    @classmethod
    def of(cls, **given: Any) -> "Options":
        """Check values and make options of them.

        Raises:
            UsageError: On an unknown name or value; it lists what is allowed.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise UsageError(f"there is no option {name!r}; allowed are {', '.join(names[:-2])}")
        if "start" in given:
            given["start"] = _instant(given["start"])
        if "schedules" in given:
            given["schedules"] = kinds(_words(given["schedules"], "schedules") or ("",), "jobs_schedules")
        for name in ("ignore", "idempotency_headers", "source"):
            if name in given:
                given[name] = _words(given[name], name)
        if isinstance(given.get("max_schedules"), str) and given["max_schedules"].isdecimal():
            given["max_schedules"] = int(given["max_schedules"])
        options = cls(**given)
        if options.broker not in BROKERS:
            raise UsageError(f"jobs_broker is {options.broker!r}; allowed are {', '.join(BROKERS)}")
        for header in options.idempotency_headers:
            if not re.fullmatch(HEADER, header):
                raise UsageError(f"jobs_idempotency_headers has {header!r}; allowed are names of headers, for example X-Order-Key")
        if options.source:
            from pytest_jobs.source import check

            check(options.source, options.root or Path.cwd())
        most = options.max_schedules
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise UsageError(f"jobs_max_schedules is {most!r}; allowed is a whole number from 1")
        return options

    def load_app(self) -> Any:
        """Import the app that `app` names.

        Raises:
            UsageError: When it cannot be imported or is no Celery app.
        """
        app = self.app
        if isinstance(app, str):
            module, colon, attribute = app.partition(":")
            if not (module and colon and attribute):
                raise UsageError(f'jobs_app is {app!r}; allowed is "module:attribute", for example "shop.celery:app"')
            try:
                app = importlib.import_module(module)
                for part in attribute.split("."):
                    app = getattr(app, part)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise UsageError(f"jobs_app is {self.app!r}, which cannot be imported ({reason})") from error
        if app is not None and not (hasattr(app, "tasks") and hasattr(app, "send_task")):
            raise UsageError(f"jobs_app is {self.app!r}, which is {app!r} and no Celery app")
        return app


def _words(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    try:
        words = tuple(value)
    except TypeError:
        words = (value,)
    if not all(isinstance(word, str) for word in words):
        raise UsageError(f"jobs_{name} is {value!r}; allowed are names, as text or a sequence of texts")
    return words


def _instant(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(
                f"jobs_start is {value!r}; allowed is an ISO instant, for example 2030-01-31T09:00:00+00:00"
            ) from None
    if not isinstance(value, datetime):
        raise UsageError(f"jobs_start is {value!r}; allowed is an ISO instant or a datetime")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def configured(config: "pytest.Config") -> Options:
    """Return the settings of a pytest run.

    Raises:
        UsageError: On an unknown value; it lists what is allowed.
    """
    names = ("app", "broker", "schedules", "max_schedules", "start", "ignore", "idempotency_headers", "source")
    given = {name: config.getini(f"jobs_{name}") for name in names}
    options = Options.of(**{**given, "app": given["app"] or None, "root": config.rootpath})
    if config.getoption("jobs_schedule") is not None:
        from pytest_jobs.schedules import parse

        parse(config.getoption("jobs_schedule"))
    wanted = config.getoption("jobs_explore")
    if wanted is None:
        return options
    return replace(options, explore=kinds([name for name in wanted.split(",") if name] or [wanted], "--jobs-explore"))


def declare(parser: "pytest.Parser") -> None:
    """Declare the ini keys and the command line."""
    parser.addini("jobs_app", 'the Celery app, "module:attribute"; default: every live app', default="")
    parser.addini("jobs_broker", "whose rules apply: auto, redis, rabbitmq or memory", default="auto")
    parser.addini("jobs_schedules", "the kinds of schedules a bare idempotent marker stands for", type="args", default=["twice"])
    parser.addini("jobs_max_schedules", "the most schedules explored in one test", default="256")
    parser.addini("jobs_start", "the instant the virtual clock starts at, ISO; default: now", default="")
    parser.addini("jobs_ignore", "patterns of differences that are fine", type="linelist", default=[])
    parser.addini(
        "jobs_idempotency_headers", "further request headers that carry an idempotency key", type="args", default=[]
    )
    parser.addini("jobs_source", "what counts as project code: paths and module names", type="args", default=[])
    group = parser.getgroup("jobs", "job resilience (pytest-jobs)")
    group.addoption(
        "--jobs-schedule", dest="jobs_schedule", metavar="ID", default=None,
        help="replay one schedule, by the id a failure names",
    )  # fmt: skip
    group.addoption(
        "--jobs-explore", dest="jobs_explore", metavar="KINDS", nargs="?", const="all", default=None,
        help="give marked tests every kind of schedule, or these (comma-separated): twice,late,crash,fail,reply-lost,overlap",
    )  # fmt: skip
    group.addoption(
        "--jobs-all", dest="jobs_all", action="store_true", default=False,
        help="treat every test that runs a job as marked idempotent",
    )  # fmt: skip
