"""Which scenarios run together: under one configuration, on so many children, each batch on a worker of its own."""

from differential_canvas import CANVAS, COUNTED, COUNTED_ALONE, DOUBLED
from differential_deaths import (
    DEATHS,
    DEATHS_IN_CANVAS,
    DEDUPLICATED,
    ERASED,
    HELD,
    HELD_VISIBILITY,
    LONG_EARLY,
    LONG_LATE,
    TIMED_OUT,
    TIMEOUT,
    VISIBILITY,
    VISIBLE,
)  # fmt: skip
from differential_scenarios import ACKS, DEAD_LETTERS, LIMITED, LIMITS, LOST_CHILDREN, RESULTS, RETRIES


def _buried(scenario, **more):
    return {**more, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": scenario.dead_letters}


TIMED = {"x-consumer-timeout": TIMEOUT * 1000}
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2}
CHILDREN = {"worker_lost_wait": 0.3}
DEATH = {"broker_transport_options": VISIBILITY, "worker_prefetch_multiplier": 1}
GROUPS = {
    "jobs and canvas": ({}, 1, [[*ACKS, *RETRIES, *RESULTS, *CANVAS]]),
    "doubled canvas": ({}, 1, [DOUBLED]),
    "counted canvas": ({"counted": True}, 2, [COUNTED]),
    "counted canvas, one child": ({"counted": True}, 1, [COUNTED_ALONE]),
    "limits and lost children": (CHILDREN, 4, [[*LIMITS, *LOST_CHILDREN]]),
    "dead letters": ({"queue_arguments": {each.queue: _buried(each) for each in DEAD_LETTERS}}, 1, [DEAD_LETTERS]),
    "delivery limits": (
        {**CHILDREN, "queue_arguments": {each.queue: _buried(each, **QUORUM) for each in LIMITED}}, 1, [LIMITED],
    ),
    "deaths": (DEATH, 1, [[each] for each in DEATHS]),
    "deaths of workers that hold jobs": ({**DEATH, "broker_transport_options": HELD_VISIBILITY}, 1, [[each] for each in HELD]),
    "deaths in canvas": (DEATH, 1, [[each] for each in DEATHS_IN_CANVAS]),
    "deduplicated deaths": ({**DEATH, "worker_deduplicate_successful_tasks": True}, 1, [[each] for each in DEDUPLICATED]),
    "visibility timeout": ({"broker_transport_options": VISIBILITY}, 1, [VISIBLE, [LONG_LATE], [LONG_EARLY], [ERASED]]),
    "consumer timeout": ({"queue_arguments": {each.queue: TIMED for each in TIMED_OUT}}, 1, [[each] for each in TIMED_OUT]),
}
