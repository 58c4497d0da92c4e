"""Five hundred tests leave the process as they found it, whatever their order and outcome."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))
from leaks_suite import make  # noqa: E402

URLS = {
    "redis": ("redis://localhost:6399/0", "redis://localhost:6399/0"),
    "memory": ("memory://localhost/", "cache+memory://"),
}


def run(pytester, count, broker, *args):
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest -p no:django -p no:randomly\nfilterwarnings = ignore")
    pytester.makeconftest((HERE / "leaks_fingerprint.py").read_text())
    pytester.makepyfile(**make(count, f"{broker}{args}", *URLS[broker]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKS_TO", str(pytester.mkdir("leaks")))
        result = pytester.runpytest_subprocess("-q", "--tb=no", "-rN", "-p", "no:cacheprovider", *args, timeout=390)
    counts, leaks = 0, []
    for path in (pytester.path / "leaks").iterdir():
        ran, *lines = path.read_text().splitlines()
        counts += int(ran)
        leaks += lines
    return result, counts, leaks


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("broker", "count", "args"), [("redis", 180, ()), ("memory", 180, ()), ("redis", 140, ("-n", "2"))])
def test_nothing_leaks(pytester, broker, count, args):
    """Threads, descriptors, environment, handlers, hooks, configuration and patches are the same after each test."""
    result, ran, leaks = run(pytester, count, broker, *args)
    assert (ran, leaks) == (count, [])
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > count / 2
    assert outcomes["failed"] > count / 10
