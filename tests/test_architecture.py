"""Who may import what, and what no module may hold."""

import ast
import importlib
import subprocess
import sys
from collections import deque
from functools import cache
from pathlib import Path
from types import FunctionType, MappingProxyType
from weakref import WeakKeyDictionary, WeakSet

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pytest_jobs"
MODULES = {
    ".".join(["pytest_jobs", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = ("celery", "kombu", "billiard", "freezegun", "fakeredis", "hypothesis", "django", "sqlalchemy", "redis", "sqlite3")
HOMES = {
    "celery": ("pytest_jobs.queues.celery", "pytest_jobs.audit", "pytest_jobs.external"),
    "kombu": ("pytest_jobs.queues.celery", "pytest_jobs.probes.publishing", "pytest_jobs.audit", "pytest_jobs.external"),
    "billiard": ("pytest_jobs.queues.celery", "pytest_jobs.external"),
    "freezegun": ("pytest_jobs.clock",),
    "pytest": ("pytest_jobs.plugin", "pytest_jobs.options", "pytest_jobs.demo"),
    "_pytest": (),
    "hypothesis": ("pytest_jobs.strategies", "pytest_jobs.machine", "pytest_jobs.search", "pytest_jobs.shrinking", "pytest_jobs.unsaid"),
    "fakeredis": ("pytest_jobs.queues.celery", "pytest_jobs.probes.redis"),
}
PROBED = (
    "sqlalchemy", "django", "redis", "requests", "httpx", "aiohttp", "urllib3", "boto3", "botocore", "psycopg", "pymysql",
    "aiosmtplib", "aiosqlite",
)  # fmt: skip
PURE = ("records", "verdict", "render", "world", "ignore", "difference", "outcomes", "effects", "tables", "texts", "delays", "expected")
# One lock for the process: worlds share its clock and its apps, so only the process can know that one is open.
ONE_A_PROCESS = {("pytest_jobs.session", "ONLY")}


@cache
def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports(name, *, lazy=True):
    """Return the dotted names a module imports, less those for type checkers only."""
    found = set()
    todo = list(tree(name).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        todo += ast.iter_child_nodes(node)
    return found


def own(name, *, lazy=True):
    """Return the modules of ours that a module imports."""
    return {found for found in imports(name, lazy=lazy) if found in MODULES and found != name}


def reached(name):
    """Return every module of ours that importing a module loads."""
    found, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += own(one, lazy=False)
    return found


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_is_imported_only_at_home(library):
    """Celery in its adapter, freezegun in the clock, pytest in the plugin."""
    guests = {
        name
        for name in MODULES
        if any(found.partition(".")[0] == library for found in imports(name)) and not name.startswith(HOMES[library])
    }
    assert guests == set()


@pytest.mark.parametrize("library", PROBED)
def test_a_probed_library_is_imported_only_by_probes(library):
    """What is looked at is no part of us; a queue's adapter may speak to its own server."""
    homes = ("pytest_jobs.probes.", "pytest_jobs.queues.celery", "pytest_jobs.audit", "pytest_jobs.external")
    guests = {
        name
        for name in MODULES
        if any(found.partition(".")[0] == library for found in imports(name)) and not name.startswith(homes)
    }
    assert guests == set()


def test_import_of_ours_goes_in_circles():
    """The arrows point one way."""
    colours: dict[str, str] = {}
    circles = []

    def visit(name, path):
        colours[name] = "open"
        for found in sorted(own(name, lazy=False)):
            if colours.get(found) == "open":
                circles.append(" -> ".join([*path[path.index(found) :], found]) if found in path else found)
            elif found not in colours:
                visit(found, [*path, found])
        colours[name] = "closed"

    for name in MODULES:
        if name not in colours:
            visit(name, [name])
    assert circles == []


@pytest.mark.parametrize("name", PURE)
def test_values_and_words_know_no_machinery(name):
    """What is judged and told is made of values."""
    machinery = {found for found in reached(f"pytest_jobs.{name}") if found.split(".")[1:2] in (["queues"], ["probes"], ["worker"])}
    outside = {found.partition(".")[0] for one in reached(f"pytest_jobs.{name}") for found in imports(one)}
    assert machinery == set()
    assert outside - set(sys.stdlib_module_names) == {"pytest_jobs"} & outside


def test_the_worker_knows_no_judge():
    """Worker and below make facts; explore, verdict and the plugin come after them."""
    below = {"worker", "execution", "route", "ledger", "points", "faults", "queues.base", "queues.celery", "clock", "records"}
    above = {"plugin", "options", "jobs", "session", "explore", "verdict", "marked", "checks"}
    broken = {
        (name, found) for name in below for found in own(f"pytest_jobs.{name}") if found.removeprefix("pytest_jobs.") in above
    }
    assert broken == set()


def test_the_plugin_is_cheap_to_import():
    """A suite without jobs pays next to nothing."""
    code = f"import sys, pytest, pytest_jobs.plugin; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_suite_without_jobs_loads_nothing_heavy(pytester):
    """Not even when its tests run."""
    pytester.makepyfile(f"import sys\ndef test(): assert [name for name in {HEAVY[:8]} if name in sys.modules] == []")
    args = [arg for name in ("django", "hypothesispytest", "randomly", "xdist", "anyio", "asyncio", "cov") for arg in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess(*args, "--strict-markers", "-W", "error")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_readable(name):
    """No file over about 300 lines."""
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 305


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted(name):
    """Every module says what it offers: constants, classes, functions."""
    body = tree(name).body
    named = [ast.literal_eval(node.value) for node in body if _targets(node) == ["__all__"] and node.value is not None]
    if MODULES[name].name == "__main__.py" or not body:
        return
    assert named, f"{name} has no __all__"
    assert named[0] == sorted(named[0], key=lambda each: (not each.isupper(), not each[:1].isupper(), each))


def _targets(node):
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


# Django's services need a configured project before they can be imported.
@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("__main__", "django_rows", "django_services"))])
def test_no_module_keeps_state(name):
    """Two worlds one after the other share nothing."""
    module = importlib.import_module(name)
    kept = {key for key, value in vars(module).items() if not key.startswith("__") and not _constant(value)}
    assert {key for key in kept if (name, key) not in ONE_A_PROCESS} == set()
    assert not [node for node in ast.walk(tree(name)) if isinstance(node, ast.Global)]


def _constant(value):
    """Whether nobody can change a value; what a library made is its own matter unless it is a plain container."""
    if isinstance(value, tuple | frozenset):
        return all(_constant(each) for each in value)
    if isinstance(value, MappingProxyType):
        return all(_constant(each) for each in value.values())
    kind = type(value)
    if isinstance(value, type | FunctionType) or not kind.__module__.startswith("pytest_jobs"):
        return not isinstance(value, list | dict | set | bytearray | deque | WeakSet | WeakKeyDictionary)
    frozen = getattr(kind, "__dataclass_params__", None)
    return not getattr(value, "__dict__", ()) and (frozen is None or frozen.frozen)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("pytest_jobs.probes.")])
def test_comments_are_few(name):
    """A comment says why, at most four in a hundred lines."""
    text = MODULES[name].read_text(encoding="utf-8").splitlines()
    assert sum(line.lstrip().startswith("# ") for line in text) <= max(len(text) * 4 / 100, 2)


def test_private_pytest_attributes_are_touched_in_one_function():
    """What pytest may rename stands in one place."""
    private = {"_fixtureinfo", "callspec", "_request", "_setupstate", "_excinfo", "_pyfuncitem", "_fixturemanager"}
    places = set()
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef) and "probes" not in name:
                words = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                words |= {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
                if words & private:
                    places.add((name, node.name))
    assert len(places) <= 1, places
