"""The words about what a job did, or did too early."""

from collections.abc import Sequence

from pytest_jobs.expected import Done, Pair, Wanted, amount, nearest, unlike
from pytest_jobs.records import Effect
from pytest_jobs.render import DOCS, INLINE_EVIDENCE, LINE, evidence_table, first_line
from pytest_jobs.tables import counted
from pytest_jobs.texts import short
from pytest_jobs.world import Early, Evidence

__all__ = ["early", "early_line", "effects"]

MISSED = 5


def early(found: Sequence[Early]) -> str:
    """Tell which jobs were published in a transaction that had not committed yet."""
    first, more = found[0], f" (+{len(found) - 1} more)" if len(found) > 1 else ""
    tables = first.tables[0] if len(first.tables) == 1 else counted(len(first.tables), "table")
    lines = [line for each in found for line in _early_lines(each)]
    return "\n".join(
        (
            first_line("", short(first.task), f" is published before {tables} {_is(first.tables)} committed{more}"),
            "",
            *lines,
            "",
            "A worker may take it before the commit and not find the rows; after a rollback it runs for nothing.",
            "",
            f"Fix:     transaction.on_commit(…), or {short(first.task)}.delay_on_commit(…)\n         {DOCS}#early",
        )
    )


def early_line(found: Early) -> str:
    """Say the same in one line, below a failure about something else."""
    tables = ", ".join(found.tables)
    return f"{_by(found)} publishes {found.task} before {tables} {_is(found.tables)} committed: {DOCS}#early"


def _early_lines(found: Early) -> tuple[str, ...]:
    where = f" at {found.where}" if found.where else ""
    return f" {found.task}", f"   published by    {_by(found)}{where}", f"   waits for       {', '.join(found.tables)}"


def _by(found: Early) -> str:
    return found.by or "the test"


def _is(tables: Sequence[str]) -> str:
    return "is" if len(tables) == 1 else "are"


def effects(task: str, pairs: Sequence[Pair], done: Sequence[Done], attempts: int) -> str:
    """Tell how what a job did differs from what was expected, and what comes nearest to what it did not do.

    Args:
        task: The task's registered name.
        pairs: Both lists side by side.
        done: All that the job did.
        attempts: In how many attempts.
    """
    wrong = [pair for pair in pairs if pair.wanted is None or pair.done is None]
    blocks = [_unexpected(f"{short(task)} does not do as expected: ", wrong[0], pairs)]
    lines = [Evidence(f"{number}.", _named(pair.wanted), _named(pair.done), _note(pair, pairs, attempts))
             for number, pair in enumerate(pairs, 1)]  # fmt: skip
    table = evidence_table(lines[:INLINE_EVIDENCE], ("expected", "done"))
    table += [f" … and {len(lines) - INLINE_EVIDENCE:,} more effects"] if len(lines) > INLINE_EVIDENCE else []
    made = f"{counted(len(done), 'effect')} in {counted(attempts, 'attempt')}" if done else "nothing that outlives a crash"
    blocks.append("\n".join([*table, f" in all: {made}"]))
    missed = dict.fromkeys(pair.wanted for pair in wrong if pair.wanted is not None and not amount(pair, pairs)[2])
    blocks += [_near(wanted, nearest(wanted, done)) for wanted in list(missed)[:MISSED] if done]
    blocks += [f" … and {len(missed) - MISSED} more were not done"] if len(missed) > MISSED and done else []
    return "\n\n".join([*blocks, f"Fix:     {DOCS}#effects"])


def _unexpected(head: str, pair: Pair, pairs: Sequence[Pair]) -> str:
    about, wanted, made = amount(pair, pairs)
    if about is None:
        return f"{head}nothing expected, {counted(made, 'effect')} done"
    if wanted != made:
        return first_line(head, _named(about), f": {wanted} expected, {made} done")
    if _sums(pairs)[0] != _sums(pairs)[1]:
        return f"{head}{counted(_sums(pairs)[0], 'effect')} expected, {_sums(pairs)[1]} done"
    return first_line(head, _named(about), ": out of order")


def _sums(pairs: Sequence[Pair]) -> tuple[int, int]:
    return sum(pair.wanted is not None for pair in pairs), sum(pair.done is not None for pair in pairs)


def _named(side: Wanted | Done | None) -> str:
    effect = side.effect if isinstance(side, Done) else side
    return _one_line(effect.label if isinstance(effect, Effect) else effect or "")


def _note(pair: Pair, pairs: Sequence[Pair], attempts: int) -> str:
    if pair.wanted is not None and pair.done is not None:
        return ""
    about, wanted, made = amount(pair, pairs)
    if about is not None and wanted == made and _sums(pairs)[0] == _sums(pairs)[1]:
        note = "out of order"
    else:
        note = "missing" if pair.done is None else "one too many"
    if pair.done is None:
        return note
    where = f" at {pair.done.effect.where}" if pair.done.effect.where else ""
    return f"{note}{where}{f', attempt {pair.done.attempt}' if attempts > 1 else ''}"


def _near(wanted: Wanted, found: Sequence[Done]) -> str:
    lines = [_fit(f" nearest to {_named(wanted)}:")]
    width = min(max(len(_named(each)) for each in found), LINE - 30)
    for each in found:
        lines.append(f"   {_fit(_named(each), width):{width}}    {each.effect.where}".rstrip())
        differing = unlike(wanted, each.effect)
        fields = ((name, getattr(each.effect, name), getattr(wanted, name)) for name in differing if "label" not in differing)
        lines += [_fit(f"     {name}: {_one_line(str(was or '–'))}, not {_one_line(str(want))}") for name, was, want in fields]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fit(text: str, width: int = LINE) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
