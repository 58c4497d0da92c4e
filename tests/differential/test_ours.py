"""Every scenario on our worker."""

import pytest
from differential_canvas import CANVAS
from differential_nodes import CELERY
from differential_ours import run_ours
from differential_scenarios import ACKS, LIMITS, LOST_CHILDREN, RESULTS, RETRIES

URLS = {
    "redis": {"broker": "redis://127.0.0.1:6379/15", "backend": "redis://127.0.0.1:6379/15"},
    "rabbitmq": {"broker": "amqp://guest:guest@127.0.0.1:5672/shop", "backend": "file:///nowhere"},
}
SCENARIOS = [*ACKS, *RETRIES, *RESULTS, *LIMITS, *LOST_CHILDREN, *CANVAS]


@pytest.mark.parametrize("broker", URLS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario(scenario, broker, tmp_path):
    """Deliveries, final states, retries, delays and what is left are as expected."""
    if broker not in scenario.on or scenario.from_version > CELERY:
        pytest.skip("not about this broker or this Celery")
    outcome = run_ours(scenario, URLS[broker], {}, tmp_path / "runs.log")
    expected = scenario.expected(broker)
    assert outcome.runs == expected.runs
    assert {label: outcome.states[label] for label in expected.states} == expected.states
    assert (outcome.delays, outcome.left) == (expected.delays, expected.left)
    assert expected.values in ({}, outcome.values)
