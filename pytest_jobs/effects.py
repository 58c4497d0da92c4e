"""How often every effect took place in two runs → what differs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator

from pytest_jobs.difference import Difference, capped
from pytest_jobs.records import Effect
from pytest_jobs.tables import counted
from pytest_jobs.texts import WIDEST
from pytest_jobs.world import Evidence, Finding, World

__all__ = ["compare_effects", "compare_unrun"]


def compare_effects(
    once: World, now: World, walk: Difference, pattern_of: Callable[[str], str | None], hide: Callable[[str], None]
) -> Iterator[tuple[str, Finding]]:
    """Count every effect that is not safe to repeat; yield its kind and what differs.

    Args:
        once: The undisturbed world.
        now: The other one.
        walk: Knows the canonical form of a target.
        pattern_of: Gives the pattern that ignores a target.
        hide: Told which pattern hid a difference.
    """
    groups: defaultdict[Hashable, tuple[list[Effect], list[Effect]]] = defaultdict(lambda: ([], []))
    for side, (world, tokens) in enumerate(((once, walk.once), (now, walk.now))):
        seen: set[Hashable] = set()
        for effect in world.effects:
            if effect.safe or effect.kind == "publish":
                continue
            place = (effect.kind, tokens.of(effect.target))
            if effect.key is None or (place, effect.key) not in seen:
                groups[place][side].append(effect)
                seen.add((place, effect.key))
    for old, new in groups.values():
        effect = (new or old)[0]
        pattern = pattern_of(effect.target)
        if len(old) == len(new):
            continue
        if pattern is not None:
            hide(pattern)
            continue
        yield effect.kind, _finding(effect, old, new)


def compare_unrun(
    once: World, now: World, pattern_of: Callable[[str], str | None], hide: Callable[[str], None]
) -> Iterator[Finding]:
    """Count the jobs of tasks that nobody here runs, another service's: no run of theirs shows what comes of them.

    Args:
        once: The undisturbed world.
        now: The other one.
        pattern_of: Gives the pattern that ignores a target.
        hide: Told which pattern hid a difference.
    """
    ran = {outcome.task for world in (once, now) for outcome in world.outcomes if outcome.attempts}
    old, new = (Counter(task for task in world.unrun if task not in ran) for world in (once, now))
    for task in old | new:
        pattern = pattern_of(f"publish:{task}")
        if old[task] == new[task]:
            continue
        if pattern is not None:
            hide(pattern)
            continue
        counts = counted(old[task], "job"), counted(new[task], "job")
        yield Finding("effect", task, *counts, (Evidence(task, *counts, "published, not run here"),))


def _finding(effect: Effect, old: list[Effect], new: list[Effect]) -> Finding:
    subject = effect.target.removeprefix(f"{effect.kind}:")
    if effect.kind == "mail":
        subject = f"mail to {subject}"
    once, now = (counted(len(each), _noun(effect.kind)) for each in (old, new))
    lines = [Evidence(subject, once, now)]
    for number in range(max(len(old), len(new))):
        mine, theirs = (each[number] if number < len(each) else None for each in (old, new))
        change = "added" if mine is None else "removed" if theirs is None else ""
        one = theirs or mine
        note = f"{change} at {one.where}" if change and one is not None and one.where else change
        lines.append(Evidence(f"{number + 1}.", _detail(mine), _detail(theirs), note, 1))
    return Finding("effect", subject, once, now, capped(lines))


def _noun(kind: str) -> str:
    match kind:
        case "http":
            return "request"
        case "object" | "file" | "sql":
            return "write"
        case "mock" | "call":
            return "call"
        case "redis":
            return "command"
        case "mail":
            return "mail"
        case _:
            return "effect"


def _detail(effect: Effect | None) -> str:
    text = " ".join((effect.detail or effect.label).split()) if effect is not None else ""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
