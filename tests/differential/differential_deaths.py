"""What happens when the whole worker is killed, and when Redis hands out what lay unacknowledged too long."""

from differential_nodes import Chain, Chord, Job, Scenario

# Seconds: visibility timeout, and how often Redis is looked at.
VISIBILITY = {
    "visibility_timeout": 2,
    "unacked_restore_interval": 0.5,
    "unacked_restore_throttle": 1,
    # A worker that is killed while it looks keeps the others from looking for so long.
    "unacked_mutex_expire": 1,
}

DEATHS = (
    Scenario("killed in the body, early ack", (Job("a", ("kill-worker", "ok")),), "a0", {"a": "PENDING"}),
    Scenario("killed in the body, late ack", (Job("a", ("kill-worker", "ok"), "late"),), "a0 a0+", {"a": "SUCCESS"}),
    Scenario("killed twice, late ack", (Job("a", ("kill-worker", "kill-worker", "ok"), "late"),), "a0 a0+ a0+", {"a": "SUCCESS"}),
    Scenario("killed after the result was stored, early ack", (Job("a", ("ok then kill-worker",)),), "a0", {"a": "SUCCESS"}),
    Scenario("killed with a prefetched message", (Job("a", ("sleep:0.3 kill-worker",)), Job("b")), "a0 b0+",
             {"a": "PENDING", "b": "SUCCESS"}, ours={"runs": "a0 b0"}),
    Scenario("killed after the result was stored, late ack", (Job("a", ("ok then kill-worker", "ok"), "late", link=Job("b")),),
             "a0 b0 a0+ b0", {"a": "SUCCESS"}, any_order=True),
    Scenario("killed after the retry was published", (Job("a", ("retry-kill-worker:1", "ok"), "late"),), "a0 a0+ a1",
             {"a": "SUCCESS"}, {"a": (1,)}, any_order=True),
)

DEATHS_IN_CANVAS = (
    Scenario("killed in a chain", (Chain((Job("a"), Job("b", ("kill-worker", "ok"), "late"), Job("c"))),), "a0 b0 b0+ c0",
             {"c": "SUCCESS"}),
    Scenario("killed after a step of a chain was stored", (Chain((Job("a", ("ok then kill-worker", "ok"), "late"), Job("b"))),),
             "a0 b0 a0+ b0", {"b": "SUCCESS"}, any_order=True),
    Scenario("killed in the header of a chord",
             (Chord((Job("a"), Job("b", ("kill-worker", "ok"), "late")), Job("z", takes=True)),), "a0 b0 b0+ z0",
             {"z": "SUCCESS"}, values={"z": (["a0", "b1"],)}),
)

DEDUPLICATED = (
    Scenario("deduplicated, killed after the result was stored",
             (Job("a", ("ok then kill-worker", "ok"), "late", link=Job("b")),), "a0 b0", {"a": "SUCCESS"}),
    Scenario("deduplicated, killed in the body", (Job("a", ("kill-worker", "ok"), "late"),), "a0 a0+", {"a": "SUCCESS"}),
)

ON_REDIS = {"on": ("redis",)}

# Connections that go with what they held: RabbitMQ hands all of it out at once, Redis after the visibility timeout.
# What is held is due well after a slow machine's kill, and no sooner than it comes again.
HELD_VISIBILITY = {**VISIBILITY, "visibility_timeout": 5}
HELD = (
    Scenario("killed with jobs that wait for their time",
             (Job("a", options={"countdown": 6}), Job("b", options={"countdown": 6}), Job("c", ("sleep:0.5 kill-worker",))),
             "a0+ b0+ c0", {"a": "SUCCESS", "b": "SUCCESS", "c": "PENDING"}, any_order=True),
    Scenario("killed with late jobs that wait for their time",
             (Job("a", task="late", options={"countdown": 6}), Job("b", ("sleep:0.5 kill-worker", "ok"), "late")),
             "a0+ b0 b0+", {"a": "SUCCESS", "b": "SUCCESS"}, any_order=True),
    Scenario("killed with a retry that waits for its time",
             (Job("a", ("retry:6", "ok")), Job("b", ("kill-worker",), options={"countdown": 1})), "a0 a1+ b0",
             {"a": "SUCCESS", "b": "PENDING"}, {"a": (6,)}, any_order=True),
)

# RabbitMQ only: it closes the channel of a message that lies unacknowledged too long; with the channel go all its messages.
TIMEOUT = 4  # seconds
ON_RABBITMQ = {"on": ("rabbitmq",)}
TIMED_OUT = (
    Scenario("countdown over the consumer timeout", (Job("a", options={"countdown": 10}),), "a0+", {"a": "SUCCESS"}, **ON_RABBITMQ),
    Scenario("countdown over the consumer timeout, late ack", (Job("a", task="late", options={"countdown": 10}),), "a0+",
             {"a": "SUCCESS"}, **ON_RABBITMQ),
    Scenario("countdown below the consumer timeout", (Job("a", options={"countdown": 1}),), "a0", {"a": "SUCCESS"}, **ON_RABBITMQ),
    Scenario("body over the consumer timeout, late ack", (Job("a", ("sleep:6", "ok"), "late"),), "a0 a0+", {"a": "SUCCESS"},
             **ON_RABBITMQ),
    Scenario("body over the consumer timeout, early ack", (Job("a", ("sleep:6",)),), "a0", {"a": "SUCCESS"}, **ON_RABBITMQ),
    Scenario("all of a channel comes again when it is closed",
             (Job("a", ("sleep:6", "ok"), "late"), Job("b", options={"countdown": 8})), "a0 a0+ b0+",
             {"a": "SUCCESS", "b": "SUCCESS"}, ours={"runs": "a0 a0+ b0"}, any_order=True, **ON_RABBITMQ),
)

# Redis only: copies come while the first one is held or runs.
VISIBLE = (
    Scenario("countdown below the visibility timeout", (Job("a", options={"countdown": 1}),), "a0", {"a": "SUCCESS"}, **ON_REDIS),
    Scenario("countdown over the visibility timeout", (Job("a", options={"countdown": 5}),), "a0 a0+ a0+", {"a": "SUCCESS"},
             any_order=True, **ON_REDIS),
    Scenario("countdown over the visibility timeout, late ack", (Job("a", task="late", options={"countdown": 5}),), "a0 a0+ a0+",
             {"a": "SUCCESS"}, any_order=True, **ON_REDIS),
    Scenario("retry over the visibility timeout", (Job("a", ("retry:5", "ok")),), "a0 a1 a1+ a1+", {"a": "SUCCESS"}, {"a": (5,)},
             any_order=True, **ON_REDIS),
)
LONG_LATE = Scenario("body over the visibility timeout, late ack", (Job("a", ("sleep:5", "ok"), "late"),), "a0 a0+ a0+",
                     {"a": "SUCCESS"}, **ON_REDIS)
LONG_EARLY = Scenario("body over the visibility timeout, early ack", (Job("a", ("sleep:3",)),), "a0", {"a": "SUCCESS"}, **ON_REDIS)
ERASED = Scenario("late ack erases the copy that runs", (Job("a", ("sleep:3", "kill-worker", "ok"), "late"),), "a0 a0+",
                  {"a": "SUCCESS"}, **ON_REDIS)
