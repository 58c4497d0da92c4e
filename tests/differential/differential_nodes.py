"""What a scenario is made of, as values; and how it is published."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import celery
from celery import chain, chord, group

CELERY = tuple(int(part) for part in celery.__version__.split(".")[:2])


@dataclass(frozen=True)
class Job:
    """One message: what each of its runs does, the last entry again for every further run.

    One that is published by the test, as the first of a chain or a part of a header is, can lie in its queue `twice`.

    A run is steps separated by spaces (see `differential_tasks.do`); what follows `then` happens in `on_success`.
    """

    label: str
    script: tuple[str, ...] = ("ok",)
    task: str = "early"
    options: Mapping[str, Any] = field(default_factory=dict)
    link: "Job | None" = None
    link_error: "Job | None" = None
    takes: bool = False
    twice: bool = False


@dataclass(frozen=True)
class Chain:
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Group:
    members: tuple[Any, ...]


@dataclass(frozen=True)
class Chord:
    header: tuple[Any, ...]
    body: Any


@dataclass(frozen=True)
class Raw:
    """A message that no Celery app would write."""

    label: str
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Revoke:
    """A revoke by id."""

    label: str


@dataclass(frozen=True)
class RevokeStamped:
    """A revoke by stamped header."""

    headers: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        runs: Every run of a body, in order: label, retries, `+` when marked as redelivered.
        states: What the result backend says of each label.
        delays: Whole seconds each retry was told to wait.
        values: What each body was handed, for labels that were handed anything.
        left: How many messages still lie in the broker, ready or unacknowledged.
        dead: How many lie in the queue for dead letters.
    """

    runs: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    delays: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    left: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Scenario:
    """One thing that happens, and what must come of it.

    Attributes:
        name: Its name, unique.
        publish: What is published or told, in order.
        runs: The expected runs, as in `Outcome`, separated by spaces.
        on: The brokers it is about.
        from_version: The first Celery version that has what it is about.
        older: What differs before a version: `{(5, 7): {"runs": …}}`.
        amqp: What differs on RabbitMQ.
        ours: What our worker knowingly does otherwise; the limits in the documentation say so.
        any_order: Whether the order of runs is nobody's promise.
    """

    name: str
    publish: tuple[Any, ...]
    runs: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    delays: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    left: int = 0
    dead: int = 0
    on: tuple[str, ...] = ("redis", "rabbitmq")
    from_version: tuple[int, int] = (5, 3)
    older: Mapping[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)
    amqp: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    any_order: bool = False

    def expected(self, broker: str, *, really: bool = False) -> Outcome:
        """Return what must come of it on this broker and this version of Celery, on a real worker or on ours."""
        told = {name: getattr(self, name) for name in ("runs", "states", "delays", "values", "left", "dead")}
        for version in sorted(self.older, reverse=True):
            if version > CELERY:
                told |= self.older[version]
        told |= self.amqp if broker == "rabbitmq" else {}
        told |= {} if really else self.ours
        return Outcome(**(told | {"runs": self.ordered(told["runs"].split())}))

    def ordered(self, runs: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(runs)) if self.any_order else tuple(runs)

    def id_of(self, label: str) -> str:
        return f"{self.queue}-{label}"

    @property
    def queue(self) -> str:
        return "differential-" + "".join(each if each.isalnum() else "-" for each in self.name)

    @property
    def dead_letters(self) -> str:
        return f"{self.queue}-dead"

    @property
    def wait(self) -> float:
        """How many seconds its messages wait at most; one that is revoked is acked only then."""
        jobs = [job for each in self.publish for job in _jobs(each)]
        return max((job.options.get("countdown", 0.0) for job in jobs), default=0.0)

    @property
    def labels(self) -> list[str]:
        return [label for each in self.publish for label in _labels(each)]

    @property
    def faults(self) -> list[str]:
        """Which of the tasks' ways to die it uses."""
        scripts = [step for each in self.publish for job in _jobs(each) for run in job.script for step in run.split()]
        return [
            name for name in ("kill_child", "kill_worker")
            if any(step.partition(":")[0].endswith(name.replace("_", "-")) for step in scripts)
        ]


def _jobs(node: Any) -> list[Job]:
    if isinstance(node, Job):
        return [node, *(_jobs(node.link) if node.link else ()), *(_jobs(node.link_error) if node.link_error else ())]
    if isinstance(node, Chord):
        return [job for each in (*node.header, node.body) for job in _jobs(each)]
    members = getattr(node, "steps", getattr(node, "members", ()))
    return [job for each in members for job in _jobs(each)]


def _labels(node: Any) -> list[str]:
    return [node.label] if isinstance(node, Raw | Revoke) else [job.label for job in _jobs(node)]


def publish(app: Any, scenario: Scenario) -> None:
    """Publish a scenario, each part after the other."""
    for node in scenario.publish:
        if isinstance(node, Raw):
            with app.producer_or_acquire() as producer:
                headers = {"id": scenario.id_of(node.label), "task": "differential.early", **node.headers}
                producer.publish(
                    node.body, routing_key=scenario.queue, exchange="", content_type=node.content_type,
                    content_encoding="utf-8", headers={name: value for name, value in headers.items() if value is not None},
                    correlation_id=scenario.id_of(node.label),
                    declare=[app.amqp.queues[scenario.queue]],
                )
        elif isinstance(node, Revoke):
            app.control.revoke(scenario.id_of(node.label))
        elif isinstance(node, RevokeStamped):
            app.control.revoke_by_stamped_headers(dict(node.headers))
        else:
            with _doubling(app, {scenario.id_of(job.label) for job in _jobs(node) if job.twice}):
                signature(app, scenario, node).apply_async()


@contextmanager
def _doubling(app: Any, ids: Collection[str]) -> Iterator[None]:
    """Send the messages with these ids twice."""
    send = app.amqp.send_task_message

    def sending(producer: Any, name: str, message: Any, **options: Any) -> Any:
        if message.headers["id"] in ids:
            send(producer, name, message, **options)
        return send(producer, name, message, **options)

    vars(app.amqp)["send_task_message"] = sending
    try:
        yield
    finally:
        vars(app.amqp)["send_task_message"] = send


def signature(app: Any, scenario: Scenario, node: Any) -> Any:
    """Make the signature of a node."""
    if isinstance(node, Chain):
        return chain(*(signature(app, scenario, each) for each in node.steps), app=app)
    if isinstance(node, Group):
        return group(*(signature(app, scenario, each) for each in node.members), app=app)
    if isinstance(node, Chord):
        header = [signature(app, scenario, each) for each in node.header]
        return chord(header, signature(app, scenario, node.body), app=app)
    options = {"queue": scenario.queue, "task_id": scenario.id_of(node.label), **node.options}
    stamps = options.pop("stamps", None)
    if "expired" in options:
        options["expires"] = datetime.now(UTC) - timedelta(seconds=options.pop("expired"))
    task = app.tasks.get(f"differential.{node.task}")
    kwargs = {"scenario": scenario.name, "label": node.label, "script": list(node.script)}
    if task is None:
        made = app.signature(f"differential.{node.task}", kwargs=kwargs)
    else:
        made = task.s(**kwargs) if node.takes else task.si(**kwargs)
    made = made.set(**options)
    if node.link is not None:
        made.link(signature(app, scenario, node.link))
    if node.link_error is not None:
        made.link_error(signature(app, scenario, node.link_error))
    if stamps:
        made.stamp(**stamps)
    return made
