"""The same scenarios on real Celery workers: prefork, Redis and RabbitMQ; what they do is what is expected of ours."""

import os

import kombu
import pytest
from differential_deaths import TIMEOUT
from differential_groups import GROUPS
from differential_nodes import CELERY
from differential_real import run_real
from differential_rounds import lasting_differences
from differential_servers import Unavailable, rabbitmq_node, rabbitmq_urls, redis_urls


def _corner(broker, group, directory):
    """A corner of a server for ourselves."""
    if group == "consumer timeout":
        return rabbitmq_node(directory, TIMEOUT)
    return redis_urls() if broker == "redis" else rabbitmq_urls(directory)


def _batches(group, broker, names=None):
    if broker == "redis" and kombu.VERSION < (5, 7) and "broker_transport_options" in GROUPS[group][0]:
        return []  # An older kombu cannot be told to look for what lay too long more often than every 100 s.
    batches = [
        [each for each in batch if broker in each.on and each.from_version <= CELERY and (names is None or each.name in names)]
        for batch in GROUPS[group][2]
    ]
    return [batch for batch in batches if batch]


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("default:Run again")
@pytest.mark.parametrize(("broker", "group"), [(b, g) for b in ("redis", "rabbitmq") for g in GROUPS if _batches(g, b)])
def test_real_workers_do_what_is_expected(broker, group, tmp_path):
    """Deliveries, final states, retries, delays and what is left; what differs is run again, and counts when it differs each time.

    Without a server the test is skipped, with the reason.
    """

    def differences_of(names, number):
        directory = tmp_path / f"round-{number}"
        directory.mkdir()
        with _corner(broker, group, directory) as urls:
            return _differences(broker, group, _batches(group, broker, names), urls, directory, number)

    names = [scenario.name for batch in _batches(group, broker) for scenario in batch]
    try:
        differences = lasting_differences(names, differences_of)
    except Unavailable as error:
        if os.environ.get("PYTEST_JOBS_REQUIRE_SERVERS") == "1":
            pytest.fail(f"PYTEST_JOBS_REQUIRE_SERVERS is set, but {error}")
        pytest.skip(str(error))
    if differences:
        pytest.fail("\n\n".join(differences), pytrace=False)


def _differences(broker, group, batches, urls, directory, number):
    """Run batches of a group's scenarios; return what differs by the scenario's name."""
    conf, processes, _ = GROUPS[group]
    if broker == "rabbitmq":
        conf = {name: value for name, value in conf.items() if name != "broker_transport_options"}
    outcomes = run_real(batches, broker, urls, conf, processes, directory, number)
    differences = {}
    for scenario in (scenario for batch in batches for scenario in batch):
        outcome, expected = outcomes[scenario.name], scenario.expected(broker, really=True)
        states = {label: outcome.states[label] for label in expected.states}
        values = expected.values and outcome.values
        real = (outcome.runs, states, outcome.delays, values, outcome.left, outcome.dead)
        ours = (expected.runs, expected.states, expected.delays, expected.values, expected.left, expected.dead)
        if real != ours:
            differences[scenario.name] = f"really {outcome}, expected {expected}"
    return differences

