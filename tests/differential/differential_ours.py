"""A scenario on our worker."""

from differential_nodes import Outcome, Scenario, publish
from differential_tasks import make_app, runs

from pytest_jobs import in_process_worker


def outcome_of(app, scenario, written, left):
    """Sum up what was written down about a scenario, and what its results say."""
    mine = [run for run in written if run["scenario"] == scenario.name]
    delays, values, last = {}, {}, {}
    for run in mine:
        label = run["label"]
        if run["retries"] > last.get(label, {"retries": 0})["retries"]:
            delays.setdefault(label, []).append(_wait(run, last[label]))
        last[label] = run
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
    )


def _wait(run, before):
    from datetime import datetime

    return 0 if run["eta"] is None else round(datetime.fromisoformat(run["eta"]).timestamp() - before["at"])


def run_ours(scenario: Scenario, urls, conf, log) -> Outcome:
    """Run a scenario in process, in virtual time."""
    app = make_app(urls["broker"], urls["backend"], conf, str(log))
    try:
        with in_process_worker(app) as jobs:
            for name in scenario.faults:
                jobs.crash(f"differential_tasks.{name}", child=name == "kill_child", times=1000)
            publish(app, scenario)
            jobs.settle()
            left = sum(len(entry.copies) for entry in jobs._session.worker.ledger.entries.values())
            return outcome_of(app, scenario, runs(log), left)
    finally:
        app.close()
