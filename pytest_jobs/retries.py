"""How the jobs of a run answered errors that a schedule raised → what is wrong with their retries."""

from collections.abc import Callable, Iterator

from pytest_jobs.texts import short
from pytest_jobs.world import Evidence, Finding, Outcome

__all__ = ["ENDLESS", "compare_retries", "is_hasty"]

ENDLESS = 100
# Fewer could be the chance of a random wait.
HASTY = 3


def is_hasty(outcome: Outcome) -> bool:
    """Tell whether a job answered one failure after the other with a retry at once."""
    return len(outcome.injected) > HASTY and len(outcome.delays) >= HASTY and not any(outcome.delays)


def compare_retries(
    once: tuple[Outcome, ...], now: tuple[Outcome, ...], hidden: Callable[..., bool]
) -> Iterator[Finding]:
    """Find jobs that retry for ever, without a wait, or die of something else than what went wrong.

    Args:
        once: How the jobs of the undisturbed run ended.
        now: How those of the other run ended.
        hidden: Tells whether a rule is ignored, and remembers that it hid something.
    """
    failed = {(outcome.task, outcome.job) for outcome in once if outcome.state == "failed"}
    for outcome in now:
        name = short(outcome.task)
        if outcome.died_of and (outcome.task, outcome.job) not in failed and not (hidden("other-error") or hidden("result", f"result of {name}")):
            evidence = (Evidence(name, "", "", "", 0), Evidence("error", outcome.injected[0], outcome.died_of, "", 1))
            yield Finding("other-error", "another error", "", outcome.died_of.partition("(")[0], evidence)
        if len(outcome.injected) >= ENDLESS and not hidden("endless"):
            shown = Evidence(name, "", f"{len(outcome.injected)} retries")
            yield Finding("endless", "endless", "", f"{len(outcome.injected)} retries, no cap", (shown,))
        if is_hasty(outcome) and not hidden("no-delay"):
            waits = ", ".join(f"{delay:g}" for delay in outcome.delays[:6])
            more = ", …" if len(outcome.delays) > 6 else ""
            shown = Evidence(name, "", f"waits {waits}{more} s")
            yield Finding("no-delay", "no delay", "", f"{len(outcome.delays)} retries without a wait", (shown,))
