"""The same scenarios on real Celery workers: prefork, Redis and RabbitMQ; what they do is what is expected of ours."""

import os

import pytest
from differential_canvas import CANVAS
from differential_deaths import (
    DEATHS,
    DEATHS_IN_CANVAS,
    DEDUPLICATED,
    ERASED,
    LONG_EARLY,
    LONG_LATE,
    VISIBILITY,
    VISIBLE,
)
from differential_nodes import CELERY
from differential_real import run_real
from differential_scenarios import ACKS, LIMITS, LOST_CHILDREN, RESULTS, RETRIES
from differential_servers import Unavailable, rabbitmq_urls, redis_urls

CHILDREN = {"worker_lost_wait": 0.3}
DEATH = {"broker_transport_options": VISIBILITY, "worker_prefetch_multiplier": 1}
GROUPS = {
    "jobs and canvas": ({}, 1, [[*ACKS, *RETRIES, *RESULTS, *CANVAS]]),
    "limits and lost children": (CHILDREN, 4, [[*LIMITS, *LOST_CHILDREN]]),
    "deaths": (DEATH, 1, [[each] for each in DEATHS]),
    "deaths in canvas": (DEATH, 1, [[each] for each in DEATHS_IN_CANVAS]),
    "deduplicated deaths": ({**DEATH, "worker_deduplicate_successful_tasks": True}, 1, [[each] for each in DEDUPLICATED]),
    "visibility timeout": ({"broker_transport_options": VISIBILITY}, 1, [VISIBLE, [LONG_LATE], [LONG_EARLY], [ERASED]]),
}


@pytest.fixture
def urls(request, tmp_path):
    """The addresses of a server's corner of our own; without a server the test is skipped, with the reason."""

    def of(broker):
        try:
            manager = redis_urls() if broker == "redis" else rabbitmq_urls(tmp_path)
            found = manager.__enter__()
        except Unavailable as error:
            if os.environ.get("PYTEST_JOBS_REQUIRE_SERVERS") == "1":
                pytest.fail(f"PYTEST_JOBS_REQUIRE_SERVERS is set, but {error}")
            pytest.skip(str(error))
        request.addfinalizer(lambda: manager.__exit__(None, None, None))
        return found

    return of


@pytest.mark.timeout(150)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_real_workers_do_what_is_expected(broker, group, urls, tmp_path):
    """Deliveries, final states, retries, delays and what is left."""
    conf, processes, batches = GROUPS[group]
    if broker == "rabbitmq":
        conf = {name: value for name, value in conf.items() if name != "broker_transport_options"}
    if (broker, group) == ("rabbitmq", "visibility timeout"):
        pytest.skip("RabbitMQ has no visibility timeout")
    batches = [[each for each in batch if broker in each.on and each.from_version <= CELERY] for batch in batches]
    outcomes = run_real(batches, broker, urls(broker), conf, processes, tmp_path)
    differences = []
    for scenario in (scenario for batch in batches for scenario in batch):
        outcome, expected = outcomes[scenario.name], scenario.expected(broker, really=True)
        states = {label: outcome.states[label] for label in expected.states}
        values = expected.values and outcome.values
        real = (outcome.runs, states, values, outcome.left)
        ours = (expected.runs, expected.states, expected.values, expected.left)
        if real != ours or not _about(outcome.delays, expected.delays):
            differences.append(f"{scenario.name}: really {outcome}, expected {expected}")
    assert differences == []


def _about(delays, expected):
    """Whether delays, which are measured from when the body began, are the expected ones, or up to a second more."""
    return delays.keys() == expected.keys() and all(
        len(delays[label]) == len(waits) and all(0 <= real - wait <= 1 for real, wait in zip(delays[label], waits, strict=True))
        for label, waits in expected.items()
    )
