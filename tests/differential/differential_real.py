"""Scenarios on a real Celery worker: prefork, one process, on a real server."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from differential_nodes import Outcome, Scenario, publish
from differential_ours import buries, bury, outcome_of
from differential_tasks import make_app, runs
from kombu import pools

PATIENCE = 40.0  # seconds until a scenario that does not do what is expected is given up
QUIET = 1.0  # seconds in which nothing more may happen, in a first round; in a further one there are more


class RealWorker:
    """Owns the process of a real worker; starts another one when it was killed."""

    def __init__(self, settings, queues, processes: int, directory: Path) -> None:
        self.settings = settings
        self.queues = queues
        self.processes = processes
        self.log = directory / "worker.log"
        self.process = None

    def start(self) -> None:
        here = str(Path(__file__).parent)
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "DIFFERENTIAL_SETTINGS": json.dumps(self.settings), "PYTHONPATH": os.pathsep.join(paths)}
        command = [
            sys.executable, "-m", "celery", "-A", "differential_app", "worker", "--pool", "prefork", "--concurrency",
            str(self.processes),
            "--queues", ",".join(self.queues), "--loglevel", "INFO", "--without-gossip", "--without-mingle",
            "--without-heartbeat", "--hostname", f"differential{os.getpid()}-{time.monotonic_ns()}@localhost",
        ]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=here, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def keep_alive(self) -> None:
        """Start another worker when this one was killed."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """Kill parent and child, as SIGKILL does: nothing is restored."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def run_real(batches: Sequence[Sequence[Scenario]], broker, urls, conf, processes, directory: Path, number: int):
    """Run batches of scenarios at once, each batch on a worker of its own; return the outcome of each by its name."""
    log = directory / "runs.log"
    settings = {"broker": urls["broker"], "backend": urls["backend"], "conf": conf, "log": str(log)}
    app = make_app(**settings)
    everything = [scenario for batch in batches for scenario in batch]
    queues = [[scenario.queue for scenario in batch] for batch in batches]
    queues[0].append(app.conf.task_default_queue)
    workers = [RealWorker(settings, each, processes, directory) for each in queues]
    try:
        for worker in workers:
            worker.start()
        _wait_until(lambda: len(app.control.ping(timeout=0.5)) == len(workers), workers, PATIENCE)
        if buries(conf):
            bury(app, everything)
        for scenario in everything:
            publish(app, scenario)
        due = time.monotonic() + max(scenario.wait for scenario in everything)
        missing = everything

        def over() -> bool:
            nonlocal missing
            missing = _not_yet(app, log, broker, missing)
            return not missing

        _wait_until(over, workers, PATIENCE)
        _wait_until(lambda: time.monotonic() >= due, workers, PATIENCE)
        _wait_until(lambda: False, workers, QUIET * (2 * number - 1))
        for worker in workers:
            worker.kill()
        left = urls["left"]([scenario.queue for scenario in everything])
        dead = urls["left"]([each.dead_letters for each in everything]) if buries(conf) else {}
        written = runs(log)
        return {
            each.name: outcome_of(app, each, written, left[each.queue], dead.get(each.dead_letters, 0)) for each in everything
        }
    finally:
        for worker in workers:
            worker.kill()
        close(app)


def close(app) -> None:
    """Close every connection of an app in this process."""
    app.pool.force_close_all()
    backend = app.backend
    if hasattr(backend, "result_consumer"):
        backend.result_consumer.stop()
        # A result that is freed later would connect again, to unsubscribe.
        backend.result_consumer.subscribed_to.clear()
        backend.client.connection_pool.disconnect()
    app.close()
    pools.reset()


def _not_yet(app, log, broker, scenarios: list[Scenario]) -> list[Scenario]:
    """Return those scenarios of which not everything has happened that is expected."""
    written = Counter(run["scenario"] for run in runs(log))
    return [each for each in scenarios if not _done(app, written[each.name], each, each.expected(broker, really=True))]


def _done(app, ran: int, scenario: Scenario, expected: Outcome) -> bool:
    return ran >= len(expected.runs) and all(
        app.AsyncResult(scenario.id_of(label)).state == state for label, state in expected.states.items()
    )


def _wait_until(ready, workers: Sequence[RealWorker], patience: float) -> None:
    end = time.monotonic() + patience
    while not ready() and time.monotonic() < end:
        for worker in workers:
            worker.keep_alive()
        time.sleep(0.1)
