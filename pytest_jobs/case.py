"""One test as pytest runs it: what is asked of it, its world, what was found."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_jobs.examples import Examples
    from pytest_jobs.jobs import Jobs
    from pytest_jobs.marked import Marked, Order
    from pytest_jobs.rerun import OutOfTime
    from pytest_jobs.runs import Exploration, Run

__all__ = ["Case", "first_line", "private"]


@dataclass(slots=True, eq=False, repr=False)
class Case:
    """What is known of one test, or of one clone of it, while pytest runs it.

    Attributes:
        read: Whether its markers were read.
        marked: What they ask for; None when there are none.
        order: How it is to be run; None for undisturbed, from the configured start.
        jobs: What its fixture `jobs` holds, once that is set up.
        run: How it went, once it was brought to rest.
        found: What exploring it brought.
        late: That its time limit struck while it was explored, None when it did not.
        examples: What exploring its examples brought, when Hypothesis generates them.
        told: Whether our own verdict failed it, with a timeline in its text.
        clone: Whether this is a run under a schedule, of which nothing is logged.
        calling: Whether its body runs.
        subtests: Why its failed subtests failed.
    """

    read: bool = False
    marked: "Marked | None" = None
    order: "Order | None" = None
    jobs: "Jobs | None" = None
    run: "Run | None" = None
    found: "Exploration | None" = None
    late: "OutOfTime | None" = None
    examples: "Examples | None" = None
    told: bool = False
    clone: bool = False
    calling: bool = False
    subtests: list[str] = field(default_factory=list)


def private(item: Any) -> dict[str, Any]:
    """Return what a clone of an item must share. The only place that touches pytest's private attributes."""
    names = (("callspec", "callspec"), ("fixtureinfo", "_fixtureinfo"), ("originalname", "originalname"))
    return {name: getattr(item, attribute) for name, attribute in names if hasattr(item, attribute)}


def first_line(when: str, error: BaseException) -> str:
    """Tell in one line why a phase of a test failed."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{'' if when == 'call' else when + ' fails: '}{kind}{text}"
