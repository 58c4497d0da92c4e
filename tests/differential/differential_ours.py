"""A scenario on our worker."""

from datetime import datetime

from differential_nodes import Outcome, Scenario, publish
from differential_tasks import make_app, runs
from kombu import Queue

from pytest_jobs import in_process_worker


def outcome_of(app, scenario, written, left, dead):
    """Sum up what was written down about a scenario, and what its results say."""
    mine = [run for run in written if run["scenario"] == scenario.name]
    delays, values, seen = {}, {}, set()
    for run in mine:
        label, retries = run["label"], run["retries"]
        if (label, retries) not in seen and retries:
            delays.setdefault(label, []).append(_wait(run))
        seen.add((label, retries))
        if run["values"]:
            values.setdefault(label, []).extend(run["values"])
    shown = [f"{run['label']}{run['retries']}{'+' if run['redelivered'] else ''}" for run in mine]
    labels = dict.fromkeys(scenario.labels)
    return Outcome(
        scenario.ordered(shown),
        {label: app.AsyncResult(scenario.id_of(label)).state for label in labels},
        {label: tuple(each) for label, each in delays.items()},
        {label: tuple(each) for label, each in values.items()},
        left,
        dead,
    )


def buries(conf):
    """Whether the queues of this configuration have one for dead letters each."""
    return any("x-dead-letter-exchange" in arguments for arguments in conf.get("queue_arguments", {}).values())


def bury(app, scenarios):
    """Make the queues for dead letters; no worker consumes them."""
    with app.connection_for_write() as connection:
        for scenario in scenarios:
            Queue(scenario.dead_letters).declare(channel=connection.default_channel)


def waiting(app, queue):
    """Return how many messages lie in a queue."""
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue=queue, passive=True).message_count


def _wait(run):
    """How long a retry was told to wait."""
    return round(datetime.fromisoformat(run["eta"]).timestamp() - run["sent"]) if run["eta"] else 0


def run_ours(scenario: Scenario, urls, conf, log) -> Outcome:
    """Run a scenario in process, in virtual time."""
    app = make_app(urls["broker"], urls["backend"], conf, str(log))
    try:
        with in_process_worker(app) as jobs:
            for name in scenario.faults:
                jobs.crash(f"differential_tasks.{name}", child=name == "kill_child", times=1000)
            if buries(conf):
                bury(app, [scenario])
            publish(app, scenario)
            jobs.settle()
            left = sum(len(entry.copies) for entry in jobs._session.worker.ledger.entries.values())
            return outcome_of(app, scenario, runs(log), left, waiting(app, scenario.dead_letters) if buries(conf) else 0)
    finally:
        app.close()
