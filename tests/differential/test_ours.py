"""Every scenario on our worker."""

import pytest
from differential_groups import GROUPS
from differential_nodes import CELERY
from differential_ours import run_ours

URLS = {
    "redis": {"broker": "redis://127.0.0.1:6379/15", "backend": "redis://127.0.0.1:6379/15"},
    "rabbitmq": {"broker": "amqp://guest:guest@127.0.0.1:5672/shop", "backend": "file:///nowhere"},
}
SCENARIOS = [
    pytest.param(broker, scenario, conf, id=f"{broker}-{scenario.name}")
    for conf, _, batches in GROUPS.values()
    for batch in batches
    for scenario in batch
    for broker in URLS
    if broker in scenario.on and scenario.from_version <= CELERY
]


@pytest.mark.parametrize(("broker", "scenario", "conf"), SCENARIOS)
def test_a_scenario(broker, scenario, conf, tmp_path):
    """Deliveries, final states, retries, delays and what is left are as expected."""
    outcome = run_ours(scenario, URLS[broker], conf, tmp_path / "runs.log")
    expected = scenario.expected(broker)
    assert outcome.runs == expected.runs
    assert {label: outcome.states[label] for label in expected.states} == expected.states
    assert (outcome.delays, outcome.left, outcome.dead) == (expected.delays, expected.left, expected.dead)
    assert expected.values in ({}, outcome.values)


def test_there_are_enough_scenarios():
    """At least sixty scenarios are written once and run on both sides."""
    assert len({param.values[1].name for param in SCENARIOS}) >= 100
