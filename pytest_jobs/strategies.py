"""Hypothesis strategies: schedules of faults, failing calls, and the arguments of a task."""

import inspect
from collections.abc import Sequence
from decimal import InvalidOperation
from typing import Any, get_type_hints

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from pytest_jobs.errors import UsageError
from pytest_jobs.kinds import KINDS
from pytest_jobs.kinds import kinds as checked
from pytest_jobs.schedules import AT_CALLS, AT_POINTS, Schedule, chained, error_named

__all__ = ["args_for", "failures", "kwargs_for", "schedules"]

# Most runs are short, so small numbers are drawn more often; what lies beyond the end of a run strikes nothing.
POINTS = (8, 24)
CALLS = (4, 8)
DELIVERIES = (2, 4)
OFTEN, SELDOM = 24, 16

Fault = tuple[str, int | None, str]


def schedules(kinds: Sequence[str] = KINDS, max_faults: int = 2) -> SearchStrategy[Schedule]:
    """Generate schedules: what goes wrong, one fault after the other.

    They shrink towards `once`, which is no fault, and print as their id, which can be given to `jobs.deliver` and to
    `--jobs-schedule`. A fault whose number lies beyond the end of the run strikes nothing.

    Args:
        kinds: The kinds of faults, `all` for every kind.
        max_faults: The most faults in one schedule.

    Raises:
        UsageError: On an unknown kind or a number below one.

    Example:
        >>> @given(schedules(["twice", "crash"]))
        ... def test_charge(schedule):
        ...     with in_process_worker() as jobs:
        ...         jobs.deliver(charge, 7, schedule=schedule)
    """
    wanted = checked((kinds,) if isinstance(kinds, str) else kinds, "strategies.schedules")
    if not wanted:
        raise UsageError(f"strategies.schedules was given no kinds; allowed are {', '.join(KINDS)} and all")
    _check_faults(max_faults, "strategies.schedules")
    return _chains([(kind, number, "") for kind in wanted for number in _numbers(kind)], max_faults)


def failures(*exceptions: type[BaseException], max_faults: int = 2) -> SearchStrategy[Schedule]:
    """Generate schedules in which outgoing calls raise one of these exceptions.

    They shrink towards `once` and print as their id: `fail@2:requests.exceptions.ReadTimeout` is the second outgoing
    call of the run, and what it raises.

    Args:
        exceptions: Exception classes that can be imported and made without arguments; without any, each library's own
            transient error is raised.
        max_faults: The most calls that fail.

    Raises:
        UsageError: When one is no such class, or the number is below one.

    Example:
        >>> @given(failures(TimeoutError, ConnectionResetError))
        ... def test_charge(schedule):
        ...     with in_process_worker() as jobs:
        ...         assert jobs.deliver(charge, 7, schedule=schedule).succeeded
    """
    names = [_error_name(error) for error in exceptions] or [""]
    _check_faults(max_faults, "strategies.failures")
    return _chains([("fail", number, name) for number in _numbers("fail") for name in names], max_faults)


def args_for(task: Any, /, **given: SearchStrategy[Any]) -> SearchStrategy[tuple[Any, ...]]:
    """Generate the positional arguments of a task from its annotations.

    A pydantic model is generated field by field and given as the plain data that goes into the message.

    Args:
        task: A task.
        given: The strategies of single parameters, instead of what their annotations say.

    Raises:
        UsageError: When a parameter is neither annotated nor given, or can only be given by keyword.

    Example:
        >>> @given(args_for(charge, order=integers(1, 5)))
        ... def test_charge(args):
        ...     with in_process_worker() as jobs:
        ...         assert jobs.run(charge, *args).succeeded
    """
    found = _parameters(task, given, "strategies.args_for")
    named = [name for name, (parameter, _) in found.items() if parameter.kind is parameter.KEYWORD_ONLY]
    needed = [name for name in named if name in given or found[name][0].default is inspect.Parameter.empty]
    if needed:
        raise UsageError(
            f"strategies.args_for was given {task.name}, whose parameter {needed[0]} can only be given by keyword; "
            "use strategies.kwargs_for"
        )
    return st.tuples(*(strategy for name, (_, strategy) in found.items() if name not in named))


def kwargs_for(task: Any, /, **given: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """Generate the arguments of a task from its annotations, each by its name.

    Args:
        task: A task.
        given: The strategies of single parameters, instead of what their annotations say.

    Raises:
        UsageError: When a parameter is neither annotated nor given, or can only be given by its position.
    """
    found = _parameters(task, given, "strategies.kwargs_for")
    for name, (parameter, _) in found.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UsageError(
                f"strategies.kwargs_for was given {task.name}, whose parameter {name} can only be given by its position; "
                "use strategies.args_for"
            )
    return st.fixed_dictionaries({name: strategy for name, (_, strategy) in found.items()})


def _numbers(kind: str) -> list[int | None]:
    """Return the numbers of a kind, from the simplest, each as often as it is to be drawn."""
    if kind == "twice":
        return [None] * (OFTEN + SELDOM)
    few, many = POINTS if kind in AT_POINTS else CALLS if kind in AT_CALLS else DELIVERIES
    small = [number for number in range(1, few + 1) for _ in range(OFTEN // few)]
    return [*small, *(number for number in range(few + 1, many + 1) for _ in range(SELDOM // (many - few)))]


def _chains(faults: Sequence[Fault], most: int) -> SearchStrategy[Schedule]:
    """Choose by one number a fault: a strategy inside strategies would cost more than many a task does."""
    chosen = st.lists(st.integers(0, len(faults) - 1), max_size=most)
    return chosen.map(lambda indices: _in_order([faults[index] for index in indices]))


def _in_order(faults: list[Fault]) -> Schedule:
    """Number faults as a run can reach them, one after the other: points, calls and deliveries are counted upwards."""
    numbers: dict[str, list[int]] = {}
    for kind, at, _ in faults:
        if at is not None:
            numbers.setdefault(_counter(kind), []).append(at)
    for counted in numbers.values():
        counted.sort()
        for index in range(1, len(counted)):
            counted[index] = max(counted[index], counted[index - 1] + 1)
    return chained([
        Schedule(kind, None if at is None else numbers[_counter(kind)].pop(0), None, error) for kind, at, error in faults
    ])  # fmt: skip


def _counter(kind: str) -> str:
    return "point" if kind in AT_POINTS else "call" if kind in AT_CALLS else kind


def _check_faults(most: Any, where: str) -> None:
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise UsageError(f"{where} was given max_faults={most!r}; allowed is a whole number from 1")


def _error_name(error: Any) -> str:
    if not (isinstance(error, type) and issubclass(error, BaseException)):
        raise UsageError(f"strategies.failures was given {error!r}; allowed are exception classes")
    name = error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"
    try:
        found = error_named(name)
    except UsageError:
        found = None
    if found is not error:
        raise UsageError(
            f"strategies.failures was given {name}, which cannot be imported by that name; define it at the top of a module"
        )
    try:
        error()
    except TypeError as problem:
        raise UsageError(
            f"strategies.failures was given {name}, which cannot be made without arguments ({problem}); "
            "give a subclass that can"
        ) from None
    return name


def _parameters(
    task: Any, given: dict[str, SearchStrategy[Any]], where: str
) -> dict[str, tuple[inspect.Parameter, SearchStrategy[Any]]]:
    """Return the parameters of a task's body, each with what generates it."""
    body = getattr(task, "run", None)
    if body is None or not hasattr(task, "name"):
        raise UsageError(f"{where} was given {task!r}; allowed is a task")
    parameters = inspect.signature(body).parameters
    unknown = [name for name in given if name not in parameters]
    if unknown:
        raise UsageError(f"{where} was given {unknown[0]}=…, which is no parameter of {task.name}")
    hints = _hints(task, inspect.unwrap(body), where)
    plain = task.serializer != "pickle"
    found: dict[str, tuple[inspect.Parameter, SearchStrategy[Any]]] = {}
    for name, parameter in parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        strategy = given[name] if name in given else _from_hint(task, parameter, hints, where)
        found[name] = parameter, _as_sent(strategy) if plain else strategy
    return found


def _hints(task: Any, function: Any, where: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise UsageError(f"{where} was given {task.name}, whose annotations cannot be read: {error}") from error


def _from_hint(
    task: Any, parameter: inspect.Parameter, hints: dict[str, Any], where: str
) -> SearchStrategy[Any]:
    defaults = [] if parameter.default is parameter.empty else [st.just(parameter.default)]
    if parameter.name not in hints:
        if not defaults:
            raise UsageError(
                f"{where} was given {task.name}, whose parameter {parameter.name} has no annotation; "
                f"give its strategy, {parameter.name}=…"
            )
        return defaults[0]
    try:
        strategy = st.from_type(hints[parameter.name])
        strategy.validate()
    except (HypothesisException, TypeError) as error:
        raise UsageError(
            f"{where} was given {task.name}, for whose parameter {parameter.name} Hypothesis knows no strategy ({error}); "
            f"give one, {parameter.name}=…"
        ) from error
    return st.one_of(*defaults, _valid(strategy))


@st.composite
def _valid(draw: st.DrawFn, strategy: SearchStrategy[Any]) -> Any:
    """Draw again what a validator of a pydantic model refuses, or what its limits cannot be compared with (Decimal('sNaN'))."""
    try:
        return draw(strategy)
    except (ValueError, InvalidOperation) as error:
        if isinstance(error, ValueError) and not callable(getattr(error, "errors", None)):
            raise
        reject()


@st.composite
def _as_sent(draw: st.DrawFn, strategy: SearchStrategy[Any]) -> Any:
    # Of `strategy.map(_sent)` Hypothesis would print `_sent(…)`.
    return _sent(draw(strategy))


def _sent(value: Any) -> Any:
    """Return what a publisher puts into the message: a pydantic model as plain data, under the names it is read by."""
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {key: _sent(each) for key, each in value.items()}
    return type(value)(map(_sent, value)) if type(value) in {list, tuple, set, frozenset} else value
