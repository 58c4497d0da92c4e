"""What differs is run again: only what differs in every round counts, the rest is told. No server is needed."""

import warnings

import pytest
from differential_rounds import lasting_differences


class Rounds:
    """What differs in each round, and which scenarios were run in it."""

    def __init__(self, *found):
        self.found = found
        self.ran = []

    def __call__(self, names, number):
        self.ran.append(list(names))
        return {name: text for name, text in self.found[number - 1].items() if name in names}


def test_what_is_as_expected_runs_once():
    """Without a difference there is one round, and nothing to tell."""
    rounds = Rounds({})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lasting_differences(["early", "late"], rounds) == []
    assert rounds.ran == [["early", "late"]]


def test_what_differs_in_every_round_counts():
    """A wrong expectation is wrong each time; the text has every round's difference, and only that scenario runs again."""
    rounds = Rounds({"late": "really a0"}, {"late": "really a0"}, {"late": "really a1"})
    assert lasting_differences(["early", "late"], rounds) == [
        "late\nround 1: really a0\nround 2: really a0\nround 3: really a1"
    ]
    assert rounds.ran == [["early", "late"], ["late"], ["late"]]


def test_what_differs_once_is_told():
    """A worker that was late once passes, with a warning that names the difference."""
    rounds = Rounds({"late": "really a0"}, {})
    with pytest.warns(UserWarning) as told:
        assert lasting_differences(["early", "late"], rounds) == []
    assert [str(each.message) for each in told] == ["Run again, and then as expected: late\nround 1: really a0"]
    assert rounds.ran == [["early", "late"], ["late"]]


def test_what_vanishes_in_the_last_round_is_told_beside_what_stays():
    """Two differences part in the third round: one counts, the other is told with both its rounds."""
    rounds = Rounds({"early": "really b0", "late": "really a0"}, {"early": "really b1", "late": "really a0"}, {"early": "really b0"})
    with pytest.warns(UserWarning) as told:
        assert lasting_differences(["early", "late"], rounds) == [
            "early\nround 1: really b0\nround 2: really b1\nround 3: really b0"
        ]
    assert [str(each.message) for each in told] == [
        "Run again, and then as expected: late\nround 1: really a0\nround 2: really a0"
    ]
    assert rounds.ran == [["early", "late"], ["early", "late"], ["early", "late"]]


def test_what_first_ran_as_expected_is_not_looked_at_again():
    """A scenario that agreed in the first round cannot be accused in a later one."""
    rounds = Rounds({"late": "really a0"}, {"early": "really b0"})
    with pytest.warns(UserWarning, match="Run again, and then as expected: late"):
        assert lasting_differences(["early", "late"], rounds) == []
