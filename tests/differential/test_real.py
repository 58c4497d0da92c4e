"""The same scenarios on real Celery workers: prefork, Redis and RabbitMQ; what they do is what is expected of ours."""

import os

import pytest
from differential_deaths import TIMEOUT
from differential_groups import GROUPS
from differential_nodes import CELERY
from differential_real import run_real
from differential_servers import Unavailable, rabbitmq_node, rabbitmq_urls, redis_urls

LATE = 2.5  # seconds that a real worker may be late


@pytest.fixture
def urls(request, tmp_path):
    """The addresses of a server's corner of our own; without a server the test is skipped, with the reason."""

    def of(broker, group):
        try:
            if group == "consumer timeout":
                manager = rabbitmq_node(tmp_path, TIMEOUT)
            else:
                manager = redis_urls() if broker == "redis" else rabbitmq_urls(tmp_path)
            found = manager.__enter__()
        except Unavailable as error:
            if os.environ.get("PYTEST_JOBS_REQUIRE_SERVERS") == "1":
                pytest.fail(f"PYTEST_JOBS_REQUIRE_SERVERS is set, but {error}")
            pytest.skip(str(error))
        request.addfinalizer(lambda: manager.__exit__(None, None, None))
        return found

    return of


def _batches(group, broker):
    batches = [[each for each in batch if broker in each.on and each.from_version <= CELERY] for batch in GROUPS[group][2]]
    return [batch for batch in batches if batch]


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("broker", "group"), [(b, g) for b in ("redis", "rabbitmq") for g in GROUPS if _batches(g, b)])
def test_real_workers_do_what_is_expected(broker, group, urls, tmp_path):
    """Deliveries, final states, retries, delays and what is left."""
    conf, processes, _ = GROUPS[group]
    if broker == "rabbitmq":
        conf = {name: value for name, value in conf.items() if name != "broker_transport_options"}
    batches = _batches(group, broker)
    outcomes = run_real(batches, broker, urls(broker, group), conf, processes, tmp_path)
    differences = []
    for scenario in (scenario for batch in batches for scenario in batch):
        outcome, expected = outcomes[scenario.name], scenario.expected(broker, really=True)
        states = {label: outcome.states[label] for label in expected.states}
        values = expected.values and outcome.values
        real = (outcome.runs, states, values, outcome.left, outcome.dead)
        ours = (expected.runs, expected.states, expected.values, expected.left, expected.dead)
        if real != ours or not _about(outcome.delays, expected.delays):
            differences.append(f"{scenario.name}: really {outcome}, expected {expected}")
    assert differences == []


def _about(delays, expected):
    """Whether delays, which are measured from when the body began, are the expected ones, or a little more on a busy machine."""
    return delays.keys() == expected.keys() and all(
        len(delays[label]) == len(waits) and all(0 <= real - wait <= LATE for real, wait in zip(delays[label], waits, strict=True))
        for label, waits in expected.items()
    )
