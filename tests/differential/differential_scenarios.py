"""What happens to single jobs, and what must come of it."""

from differential_nodes import Job, Raw, Revoke, RevokeStamped, Scenario

OLD_REJECT = {(5, 7): {"states": {"a": "PENDING"}}}

ACKS = (
    Scenario("early ack, success", (Job("a"),), "a0", {"a": "SUCCESS"}),
    Scenario("late ack, success", (Job("a", task="late"),), "a0", {"a": "SUCCESS"}),
    Scenario("early ack, failure", (Job("a", ("fail",)),), "a0", {"a": "FAILURE"}),
    Scenario("late ack, failure", (Job("a", ("fail",), "late"),), "a0", {"a": "FAILURE"}),
    Scenario(
        "late ack, acks_on_failure_or_timeout off, failure",
        (Job("a", ("fail",), "late_no_ack_on_failure"),), "a0", {"a": "FAILURE"},
    ),
    Scenario(
        "late ack, acks_on_failure off, failure", (Job("a", ("fail",), "late_reject_failure"),), "a0", {"a": "FAILURE"},
    ),
    Scenario("early ack, Reject", (Job("a", ("reject",)),), "a0", {"a": "FAILURE"}, older=OLD_REJECT),
    Scenario("late ack, Reject", (Job("a", ("reject",), "late"),), "a0", {"a": "FAILURE"}, older=OLD_REJECT),
    Scenario("early ack, Reject with requeue loses the job", (Job("a", ("requeue",)),), "a0", {"a": "PENDING"}),
    Scenario(
        "late ack, Reject with requeue twice",
        (Job("a", ("requeue", "requeue", "ok"), "late"),), "a0 a0+ a0+", {"a": "SUCCESS"},
    ),
    Scenario("early ack, Ignore", (Job("a", ("ignore",)),), "a0", {"a": "PENDING"}),
    Scenario("late ack, Ignore", (Job("a", ("ignore",), "late"),), "a0", {"a": "PENDING"}),
    Scenario("unknown task", (Job("a", task="nowhere"),), "", {"a": "FAILURE"}),
    Scenario("undecodable body", (Raw("a", "{not json"),), "", {"a": "PENDING"}),
    Scenario("content type that is not accepted", (Raw("a", "x", "application/x-python-serialize"),), "", {"a": "PENDING"}),
    Scenario("message that names no task", (Raw("a", "{}", headers={"task": None}),), "", {"a": "PENDING"}),
    Scenario("message without headers", (Raw("a", '{"x": 1}', headers={"task": None, "id": None}),), "", {"a": "PENDING"}),
    Scenario(
        "message of protocol 1",
        (
            Raw(
                "a",
                '{"task": "differential.early", "id": "differential-message-of-protocol-1-a", "args": [], "kwargs": '
                '{"scenario": "message of protocol 1", "label": "a", "script": ["ok"]}}',
                headers={"task": None, "id": None},
            ),
        ),
        "a0", {"a": "SUCCESS"},
    ),
    # RabbitMQ may drop it before a worker sees it: its TTL is zero.
    Scenario("expired when it comes", (Job("a", options={"expired": 60}),), "", {"a": "REVOKED"}, amqp={"states": {}}),
    Scenario("expires while it waits", (Job("a", options={"countdown": 8, "expires": 6}),), "", {"a": "REVOKED"}),
    Scenario("revoked by id", (Job("a", options={"countdown": 2}), Revoke("a")), "", {"a": "REVOKED"}),
    Scenario(
        "revoked by id, acked late", (Job("a", task="late", options={"countdown": 2}), Revoke("a")), "", {"a": "REVOKED"},
    ),
    Scenario(
        "revoked by stamped header",
        (
            Job("a", options={"countdown": 2, "stamps": {"order": "17"}}),
            Job("b", options={"countdown": 2, "stamps": {"order": "18"}}),
            RevokeStamped({"order": ["17"]}),
        ),
        "b0", {"a": "REVOKED", "b": "SUCCESS"},
    ),
    Scenario("one id published twice", (Job("a"), Job("a")), "a0 a0", {"a": "SUCCESS"}),
)

RETRIES = (
    Scenario(
        "autoretry, then success", (Job("a", ("fail", "fail", "ok"), "auto"),), "a0 a1 a2", {"a": "SUCCESS"}, {"a": (1, 2)},
    ),
    Scenario("autoretry, exhausted", (Job("a", ("fail",), "auto"),), "a0 a1 a2", {"a": "FAILURE"}, {"a": (1, 2)}),
    Scenario("autoretry, another error", (Job("a", ("type-error",), "auto"),), "a0", {"a": "FAILURE"}),
    Scenario("autoretry, acked late", (Job("a", ("fail", "ok"), "auto_late"),), "a0 a1", {"a": "SUCCESS"}, {"a": (2,)}),
    Scenario("manual retry", (Job("a", ("retry:1", "ok")),), "a0 a1", {"a": "SUCCESS"}, {"a": (1,)}),
    Scenario("manual retry, at once", (Job("a", ("retry:0", "ok")),), "a0 a1", {"a": "SUCCESS"}, {"a": (0,)}),
    Scenario(
        "manual retry, exhausted", (Job("a", ("retry-default",), "short_patience"),), "a0 a1", {"a": "FAILURE"}, {"a": (1,)},
    ),
    Scenario(
        "manual retry with its cause, exhausted",
        (Job("a", ("retry-exc:1",), "short_patience"),), "a0 a1", {"a": "FAILURE"}, {"a": (1,)},
    ),
    Scenario("retry swallowed by except", (Job("a", ("retry-swallowed:1", "ok")),), "a0 a1", {"a": "SUCCESS"}, {"a": (1,)}),
    Scenario("retry that does not raise", (Job("a", ("retry-quiet:1", "ok")),), "a0 a1", {"a": "SUCCESS"}, {"a": (1,)}),
    Scenario("retry after the expiry", (Job("a", ("retry:8", "ok"), options={"expires": 6}),), "a0", {"a": "REVOKED"}),
    Scenario(
        "late ack, requeue, then retry",
        (Job("a", ("requeue", "retry:1", "ok"), "late"),), "a0 a0+ a1", {"a": "SUCCESS"}, {"a": (1,)},
    ),
    Scenario("countdown", (Job("a", options={"countdown": 1}),), "a0", {"a": "SUCCESS"}),
    Scenario(
        "countdowns out of order",
        (Job("a", options={"countdown": 3}), Job("b", options={"countdown": 1})), "b0 a0", {"a": "SUCCESS", "b": "SUCCESS"},
    ),
    Scenario("first in, first out", (Job("a"), Job("b"), Job("c")), "a0 b0 c0", {"a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}),
)

RESULTS = (
    Scenario("result ignored", (Job("a", task="ignores_result"),), "a0", {"a": "PENDING"}),
    Scenario("started is tracked", (Job("a", task="tracked"),), "a0", {"a": "SUCCESS"}),
    Scenario("started is tracked, Ignore", (Job("a", ("ignore",), "tracked"),), "a0", {"a": "STARTED"}),
    Scenario("result that no serializer takes", (Job("a", ("unserialisable",)),), "a0", {"a": "FAILURE"}),
    Scenario("state of its own, then success", (Job("a", ("state:PROGRESS",)),), "a0", {"a": "SUCCESS"}),
    Scenario("state of its own, then Ignore", (Job("a", ("state:PROGRESS ignore",)),), "a0", {"a": "PROGRESS"}),
    Scenario("link", (Job("a", link=Job("b", takes=True)),), "a0 b0", {"a": "SUCCESS", "b": "SUCCESS"}, values={"b": ("a0",)}),
    Scenario("link after a retry", (Job("a", ("retry:1", "ok"), link=Job("b")),), "a0 a1 b0", {"b": "SUCCESS"}, {"a": (1,)}),
    Scenario("link after a requeue", (Job("a", ("requeue", "ok"), "late", link=Job("b")),), "a0 a0+ b0", {"b": "SUCCESS"}),
    Scenario("link of a failure", (Job("a", ("fail",), link=Job("b")),), "a0", {"a": "FAILURE", "b": "PENDING"}),
    Scenario("link_error", (Job("a", ("fail",), link_error=Job("e")),), "a0 e0", {"a": "FAILURE", "e": "SUCCESS"}),
    Scenario("link_error of a success", (Job("a", link_error=Job("e")),), "a0", {"a": "SUCCESS", "e": "PENDING"}),
    Scenario(
        "link_error after exhausted retries",
        (Job("a", ("fail",), "auto", link_error=Job("e")),), "a0 a1 a2 e0", {"a": "FAILURE"}, {"a": (1, 2)},
    ),
    Scenario(
        "link_error of a Reject", (Job("a", ("reject",), link_error=Job("e")),), "a0 e0", {"a": "FAILURE"},
        older={(5, 7): {"runs": "a0", "states": {"a": "PENDING"}}},
    ),
    Scenario("link_error of an unknown task", (Job("a", task="nowhere", link_error=Job("e")),), "", {"a": "FAILURE"}),
)

LIMITS = (
    Scenario("soft limit", (Job("a", ("sleep:5",), "soft"),), "a0", {"a": "FAILURE"}),
    Scenario("soft limit, caught", (Job("a", ("sleep-guarded:5",), "soft"),), "a0", {"a": "SUCCESS"}),
    Scenario("soft limit, not reached", (Job("a", ("sleep:0.05",), "soft"),), "a0", {"a": "SUCCESS"}),
    Scenario("soft limit, autoretry", (Job("a", ("sleep:5", "ok"), "auto_soft"),), "a0 a1", {"a": "SUCCESS"}, {"a": (1,)}),
    Scenario("soft limit caught, then the hard one", (Job("a", ("sleep-caught:5 sleep:5",), "soft_hard"),), "a0", {"a": "FAILURE"}),
    Scenario("hard limit", (Job("a", ("sleep:5",), "hard"),), "a0", {"a": "FAILURE"}),
    Scenario("hard limit, acked late", (Job("a", ("sleep:5", "ok"), "hard_late"),), "a0", {"a": "FAILURE"}),
    Scenario(
        "hard limit, acks_on_timeout off",
        (Job("a", ("sleep:5", "ok"), "hard_late_reject_timeout"),), "a0 a0+", {"a": "SUCCESS"},
        older={(5, 7): {"runs": "a0", "states": {"a": "FAILURE"}}},
    ),
    Scenario(
        "hard limit, acks_on_failure_or_timeout off",
        (Job("a", ("sleep:5", "ok"), "hard_late_no_ack"),), "a0 a0+", {"a": "SUCCESS"},
        older={(5, 5): {"runs": "a0", "states": {"a": "FAILURE"}}},
    ),
    Scenario("hard limit calls link_error twice", (Job("a", ("sleep:5",), "hard", link_error=Job("e")),), "a0 e0 e0", {"a": "FAILURE"}),
    Scenario("hard limit of the message", (Job("a", ("sleep:5",), options={"time_limit": 0.5}),), "a0", {"a": "FAILURE"}),
    Scenario(
        "soft limit of the message before the task's",
        (Job("a", ("sleep:0.4",), "soft", options={"soft_time_limit": 3}),), "a0", {"a": "SUCCESS"},
    ),
)

LOST_CHILDREN = (
    Scenario("child lost, early ack", (Job("a", ("kill-child",)),), "a0", {"a": "FAILURE"}),
    Scenario("child lost, late ack", (Job("a", ("kill-child", "ok"), "late"),), "a0", {"a": "FAILURE"}),
    Scenario("child lost, requeue but early ack", (Job("a", ("kill-child", "ok"), "early_requeue_lost"),), "a0", {"a": "FAILURE"}),
    Scenario("child lost, requeue", (Job("a", ("kill-child", "ok"), "late_requeue_lost"),), "a0 a0+", {"a": "SUCCESS"}),
    Scenario(
        "child lost three times, requeue",
        (Job("a", ("kill-child", "kill-child", "kill-child", "ok"), "late_requeue_lost"),), "a0 a0+ a0+ a0+", {"a": "SUCCESS"},
    ),
    Scenario(
        "child lost after success, requeue", (Job("a", ("ok then kill-child", "ok"), "late_requeue_lost"),), "a0", {"a": "SUCCESS"},
        older={(5, 7): {"runs": "a0 a0+"}},
    ),
    Scenario(
        "child lost, retry_on_worker_lost",
        (Job("a", ("kill-child", "ok"), "early_retry_lost"),), "a0 a1", {"a": "SUCCESS"}, {"a": (1,)}, from_version=(5, 7),
    ),
    Scenario(
        "child lost each time, retry_on_worker_lost",
        (Job("a", ("kill-child",), "late_retry_lost"),), "a0 a1 a2", {"a": "FAILURE"}, {"a": (1, 1)}, from_version=(5, 7),
    ),
    # Up to 5.6 it is a failure whose result cannot be stored.
    Scenario("SystemExit", (Job("a", ("exit:0",)),), "a0", {"a": "FAILURE"}, older={(5, 7): {"states": {"a": "PENDING"}}}),
    Scenario("SystemExit, late ack", (Job("a", ("exit:1", "ok"), "late"),), "a0", {"a": "FAILURE"},
             older={(5, 7): {"states": {"a": "PENDING"}}}),
    Scenario("SystemExit, requeue", (Job("a", ("exit:1", "ok"), "late_requeue_lost"),), "a0 a0+", {"a": "SUCCESS"},
             older={(5, 7): {"runs": "a0", "states": {"a": "PENDING"}}}),
    Scenario("child lost, link_error", (Job("a", ("kill-child",), link_error=Job("e")),), "a0 e0", {"a": "FAILURE"}),
)

# RabbitMQ only: queues with a dead-letter exchange.
BURIED = {"on": ("rabbitmq",), "dead": 1}
NOT_BURIED = {"on": ("rabbitmq",)}
DEAD_LETTERS = (
    Scenario("dead letter of a Reject, late ack", (Job("a", ("reject",), "late"),), "a0", {"a": "FAILURE"}, older=OLD_REJECT, **BURIED),
    Scenario("dead letter of a Reject, early ack", (Job("a", ("reject",)),), "a0", {"a": "FAILURE"}, older=OLD_REJECT, **NOT_BURIED),
    Scenario("dead letter of a failure, acks_on_failure_or_timeout off", (Job("a", ("fail",), "late_no_ack_on_failure"),), "a0",
             {"a": "FAILURE"}, **BURIED),
    Scenario("dead letter of a failure, acks_on_failure off", (Job("a", ("fail",), "late_reject_failure"),), "a0", {"a": "FAILURE"},
             from_version=(5, 7), **BURIED),
    Scenario("no dead letter of a failure, late ack", (Job("a", ("fail",), "late"),), "a0", {"a": "FAILURE"}, **NOT_BURIED),
    Scenario("no dead letter of a requeue", (Job("a", ("requeue", "ok"), "late"),), "a0 a0+", {"a": "SUCCESS"}, **NOT_BURIED),
    Scenario("no dead letter of Ignore", (Job("a", ("ignore",), "late"),), "a0", {"a": "PENDING"}, **NOT_BURIED),
    Scenario("dead letter of an unknown task", (Job("a", task="nowhere"),), "", {"a": "FAILURE"}, **BURIED),
    Scenario("dead letter of a message that names no task", (Raw("a", "{}", headers={"task": None}),), "", {"a": "PENDING"}, **BURIED),
    Scenario("no dead letter of an undecodable body", (Raw("a", "{not json"),), "", {"a": "PENDING"}, **NOT_BURIED),
    Scenario("no dead letter of a revoked job", (Job("a", task="late", options={"countdown": 2}), Revoke("a")), "", {"a": "REVOKED"},
             **NOT_BURIED),
    Scenario("dead letter after retries", (Job("a", ("retry:1", "fail"), "late_no_ack_on_failure"),), "a0 a1", {"a": "FAILURE"},
             {"a": (1,)}, **BURIED),
)

# RabbitMQ only: quorum queues that let a message come again twice; before 5.5 Celery cannot consume them.
QUORUM = {"from_version": (5, 5)}
LIMITED = (
    Scenario("delivery limit, requeued each time", (Job("a", ("requeue",), "late"),), "a0 a0+ a0+", {"a": "PENDING"}, **BURIED, **QUORUM),
    Scenario("delivery limit, not reached", (Job("a", ("requeue", "requeue", "ok"), "late"),), "a0 a0+ a0+", {"a": "SUCCESS"},
             **NOT_BURIED, **QUORUM),
    Scenario("delivery limit, retries are new messages", (Job("a", ("retry:0", "requeue", "retry:0", "requeue", "ok"), "late"),),
             "a0 a1 a1+ a2 a2+", {"a": "SUCCESS"}, {"a": (0, 0)}, **NOT_BURIED, **QUORUM),
    Scenario("delivery limit, child lost each time", (Job("a", ("kill-child",), "late_requeue_lost"),), "a0 a0+ a0+",
             {"a": "PENDING"}, **BURIED, **QUORUM),
)
