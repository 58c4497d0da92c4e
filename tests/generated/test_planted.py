"""The planted bugs are found and shrunk to their stories; benchmarks/generated.py does the same with many seeds."""

import pytest
from planted_bugs import BUGS, OPTIONS, notify, shop
from planted_runs import hunt, repaired, tell

from pytest_jobs import in_process_worker

STORIES = [name for name, (test, _) in BUGS.items() if isinstance(test, type)]
SURE = ["two items where one is poison", "a retry that changes its own arguments"]


@pytest.mark.parametrize("name", SURE)
@pytest.mark.parametrize("number", range(3))
def test_a_bug_is_found_and_shrunk(name, number):
    """Within 200 examples, in each seed, to the story that stands beside it."""
    found = hunt(name, number, 200)
    assert found.story == BUGS[name][1]
    assert found.minimal


@pytest.mark.parametrize("name", STORIES)
def test_a_sequence_is_found_and_shrunk(name):
    """Within 200 examples, where chance is against it with another seed, to the story that stands beside it."""
    hunts = (hunt(name, number, 200) for number in range(3))
    found = next(one for one in hunts if one.text)
    assert found.story == BUGS[name][1]


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_minimal(name, monkeypatch):
    """It shows the bug; without any of its steps it does not, and the repaired twin survives it."""
    story = BUGS[name][1]
    monkeypatch.setattr(shop, "repaired", False)
    assert tell(name, story)
    for left_out in story:
        fewer = [step for step in story if step is not left_out]
        if left_out.partition(" = ")[0] not in " ".join(fewer):
            assert tell(name, fewer) == ""
    monkeypatch.setattr(shop, "repaired", True)
    assert tell(name, story) == ""


@pytest.mark.parametrize("name", BUGS)
def test_the_repaired_twin_is_clean(name):
    """No example blames it."""
    ran, trouble = repaired(name, 7, 10)
    assert trouble == ""
    assert ran >= 10


def test_a_printed_schedule_replays():
    """The id in a falsifying example is what `jobs.deliver` takes."""
    story = dict(line.split("=", 1) for line in hunt("a retry that changes its own arguments", 0, 200).story)
    with in_process_worker(**OPTIONS) as jobs:
        shop.open()
        jobs.outgoing("planted_bugs.shop.post")
        job = jobs.deliver(notify, [0], schedule=story["schedule"].strip("'"))
    assert job.name == notify.name
    assert len(job.attempts) == 2
    assert shop.posted == set()
