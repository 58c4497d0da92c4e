"""A scenario on our worker."""

from datetime import datetime

from differential_nodes import Outcome, Scenario, publish
from differential_tasks import make_app, runs

from pytest_jobs import in_process_worker


def outcome_of(app, scenario, written, left):
    """Sum up what was written down about a scenario, and what its results say."""
    mine = [run for run in written if run["scenario"] == scenario.name]
    delays, values, seen = {}, {}, {}
    for run in mine:
        label, retries = run["label"], run["retries"]
        if (label, retries) not in seen and retries:
            delays.setdefault(label, []).append(_wait(run, seen[label, retries - 1]))
        seen.setdefault((label, retries), []).append(run["at"])
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
    """How long after the latest of the runs before it, that was not yet too late, a retry was told to wait."""
    if run["eta"] is None:
        return 0
    eta = datetime.fromisoformat(run["eta"]).timestamp()
    return min(round(eta - at) for at in before if at <= eta)


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
