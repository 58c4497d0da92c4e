"""The tasks of the scenarios, the same for the real worker and for ours; what each run does is told by its message."""

import json
import os
import signal
import time
from pathlib import Path

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.signals import before_task_publish
from kombu import Queue

SOFT, HARD = 0.2, 0.5  # seconds
HEARD = 0.2  # seconds after which the parent knows that the task began
LATE = {"acks_late": True}
TASKS = {
    "early": {},
    "late": LATE,
    "late_no_ack_on_failure": {**LATE, "acks_on_failure_or_timeout": False},
    "late_reject_failure": {**LATE, "acks_on_failure": False},
    "late_reject_timeout": {**LATE, "acks_on_timeout": False},
    "late_requeue_lost": {**LATE, "reject_on_worker_lost": True},
    "early_requeue_lost": {"reject_on_worker_lost": True},
    "early_retry_lost": {"retry_on_worker_lost": True, "default_retry_delay": 1, "max_retries": 2},
    "late_retry_lost": {**LATE, "retry_on_worker_lost": True, "default_retry_delay": 1, "max_retries": 2},
    "auto": {"autoretry_for": (ValueError,), "retry_backoff": True, "retry_jitter": False, "max_retries": 2},
    "auto_late": {**LATE, "autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": 1, "countdown": 2}},
    "auto_soft": {"autoretry_for": (Exception,), "retry_kwargs": {"max_retries": 1, "countdown": 1}, "soft_time_limit": SOFT},
    "short_patience": {"max_retries": 1, "default_retry_delay": 1},
    "ignores_result": {"ignore_result": True},
    "tracked": {"track_started": True},
    "soft": {"soft_time_limit": SOFT},
    "hard": {"time_limit": HARD},
    "hard_late": {**LATE, "time_limit": HARD},
    "hard_late_reject_timeout": {**LATE, "time_limit": HARD, "acks_on_timeout": False},
    "hard_late_no_ack": {**LATE, "time_limit": HARD, "acks_on_failure_or_timeout": False},
    "soft_hard": {"soft_time_limit": SOFT, "time_limit": HARD},
}


class Scripted(Task):
    """A task whose `on_success` can act too: steps after `then`."""

    abstract = True

    def on_success(self, retval, task_id, args, kwargs):
        _, _, after = _steps(self.app, kwargs, number_of_runs(self.app, kwargs) - 1).partition(" then ")
        for step in after.split():
            do(self, step)


def make_app(broker, backend, conf, log):
    """Make the app; `log` is the file in which every run writes down that it happened."""
    conf = {"worker_hijack_root_logger": False, "task_default_queue": "differential", **conf}
    if conf.pop("counted", False):
        backend = f"differential_counted:CountedBackend+{backend}"
    app = Celery("differential", broker=broker, backend=backend, set_as_current=False)
    arguments = conf.pop("queue_arguments", {})
    app.conf.update(conf)
    if arguments:
        named = [Queue(name, queue_arguments=each) for name, each in arguments.items()]
        app.conf.task_queues = [Queue("differential"), *named]
    app.differential_log = log
    for name, options in TASKS.items():
        app.task(act, name=f"differential.{name}", bind=True, base=Scripted, shared=False, **options)
    return app


def act(self, *values, scenario, label, script):
    """Write down this run, then do what the script says for it."""
    number = number_of_runs(self.app, {"scenario": scenario, "label": label})
    request = self.request
    line = {
        "scenario": scenario,
        "label": label,
        "retries": request.retries,
        "redelivered": bool((request.delivery_info or {}).get("redelivered")),
        "at": time.time(),
        "sent": request.get("differential_sent"),
        "eta": request.eta,
        "values": list(values),
    }
    with open(self.app.differential_log, "a") as log:
        log.write(json.dumps(line, default=str) + "\n")
    for step in _steps(self.app, {"scenario": scenario, "script": script}, number).partition(" then ")[0].split():
        value = do(self, step)
        if value is not None:
            return value
    return f"{label}{number}"


@before_task_publish.connect
def _note_when(sender, headers, **_):
    """Write into every message when it was sent, so that a delay is what it was told to wait, however late its sender was."""
    if sender.startswith("differential."):
        headers["differential_sent"] = time.time()


def _steps(app, kwargs, number):
    script = kwargs["script"]
    return script[min(number, len(script) - 1)]


def number_of_runs(app, kwargs):
    return sum(
        (run["scenario"], run["label"]) == (kwargs["scenario"], kwargs["label"]) for run in runs(app.differential_log)
    )


def runs(log):
    """Return every run that was written down."""
    return [json.loads(line) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


def kill_child():
    """Kill the process that runs the task; its parent lives on."""
    assert "DIFFERENTIAL_SETTINGS" in os.environ, "only a real worker's process kills itself"
    time.sleep(HEARD)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_worker():
    """Kill the worker, parent and child."""
    assert "DIFFERENTIAL_SETTINGS" in os.environ, "only a real worker's process kills itself"
    time.sleep(HEARD)
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def do(task, step):
    """Do one step of a run; what it returns, when anything, is the task's result."""
    name, _, given = step.partition(":")
    if name == "ok":
        return None
    if name == "return":
        return given
    if name == "sleep":
        time.sleep(float(given))
    elif name == "sleep-guarded":
        try:
            time.sleep(float(given))
        except SoftTimeLimitExceeded:
            return "caught"
    elif name == "sleep-caught":
        try:
            time.sleep(float(given))
        except SoftTimeLimitExceeded:
            return None
    elif name == "fail":
        raise ValueError(given or "no")
    elif name == "type-error":
        raise TypeError("no")
    elif name == "exit":
        raise SystemExit(int(given or 0))
    elif name == "reject":
        raise Reject("no", requeue=False)
    elif name == "requeue":
        raise Reject("later", requeue=True)
    elif name == "ignore":
        raise Ignore
    elif name == "retry":
        raise task.retry(countdown=float(given or 0))
    elif name == "retry-default":
        raise task.retry()
    elif name == "retry-exc":
        raise task.retry(exc=ValueError("cause"), countdown=float(given or 0))
    elif name == "retry-swallowed":
        try:
            raise task.retry(countdown=float(given or 0))
        except Exception:  # noqa: BLE001 - users write this
            return "swallowed"
    elif name == "retry-quiet":
        task.retry(countdown=float(given or 0), throw=False)
    elif name == "retry-kill-worker":
        try:
            raise task.retry(countdown=float(given or 0))
        except Retry:
            kill_worker()
    elif name == "unserialisable":
        return object()
    elif name == "state":
        task.update_state(state=given)
    elif name == "kill-child":
        kill_child()
    elif name == "kill-worker":
        kill_worker()
    else:
        raise AssertionError(step)
    return None
