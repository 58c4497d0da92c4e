"""Real workers on a busy machine may be late once; a wrong expectation is wrong each time: what differs is run again."""

import warnings
from collections.abc import Callable, Collection, Mapping

ROUNDS = 3


def lasting_differences(names: Collection[str], differences_of: Callable[[Collection[str], int], Mapping[str, str]]) -> list[str]:
    """Return what differed in every round, in the words of each; warn of what differed once and then no more.

    Args:
        names: The scenarios to run.
        differences_of: Runs the scenarios it is handed, in a corner of its own, and tells what differs by name; the second
            argument is the number of the round.
    """
    told: dict[str, list[str]] = {}
    suspects = names
    for number in range(1, ROUNDS + 1):
        found = differences_of(suspects, number)
        for name, text in found.items():
            told.setdefault(name, []).append(f"round {number}: {text}")
        suspects = [name for name in suspects if name in found]
        if not suspects:
            break
    for name, texts in told.items():
        if name not in suspects:
            warnings.warn(f"Run again, and then as expected: {name}\n" + "\n".join(texts), stacklevel=2)
    return [f"{name}\n" + "\n".join(told[name]) for name in suspects]
