"""The demonstration, run as a user runs it."""

import ast
import os
import subprocess
import sys
from importlib.resources import files

import pytest

from pytest_jobs import demo

FOUND = """\
E   AssertionError: charge is not idempotent at twice: payments 1 -> 2 rows (+2 more)
E
E                      once      now
E    payments          1 row     2 rows
E      #ch_2           –         order_id=1                              <- added
E    redis:receipts    1 item    3 items
E      [1]             –         'order 1: 19.99 EUR, thank you'         <- added
E      [2]             –         'order 1: 19.99 EUR, thank you'         <- added
E    charges           1 item    2 items
E      item            –         {'id': 'ch_2', 'card': 'tok_visa', …    <- added
E
E    00:00:00  delivery 1  charge(1)  succeeded, acked
E    00:00:00  delivery 2  charge(1)  redelivered, succeeded, acked
""".splitlines()
CORE = {"celery", "redis", "fakeredis", "pytest", "pytest_jobs"}


def run(*words, cwd, **environment):
    """Run `python …` there and return what it did, without the blanks at the ends of its lines."""
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    return done.returncode, [line.rstrip() for line in done.stdout.splitlines()], done.stderr


def test_it_shows_the_double_charge_and_its_repair(tmp_path):
    """The whole failure, then the repaired twin passing, whatever the caller's pytest is set to; nothing is left behind."""
    code, out, err = run("-m", "pytest_jobs", "demo", cwd=tmp_path, PYTEST_ADDOPTS="--collect-only", TMPDIR=str(tmp_path))
    assert (code, err) == (0, "")
    start = out.index(FOUND[0])
    assert out[start : start + len(FOUND)] == FOUND
    assert out.index("   $ pytest test_billing.py") < start < out.index("   $ pytest test_billing_repaired.py")
    assert [line.partition(" in ")[0] for line in out if line.startswith("1 ")] == ["1 failed", "1 passed"]
    assert list(tmp_path.iterdir()) == []


def test_it_shows_the_lines_of_the_repair(tmp_path):
    """What changed between the two versions stands between their runs."""
    _, out, _ = run("-m", "pytest_jobs", "demo", cwd=tmp_path)
    assert [line.strip() for line in out if line.startswith("   +    ")] == [
        '+    paid = shop.gateway.charge(card, cents, idempotency_key=f"order-{order_id}")',
        '+        db.execute("INSERT OR IGNORE INTO payments VALUES (?, ?)", (paid, order_id))',
        '+    shop.redis.hset("receipts", order_id, text)',
    ]


def test_a_kept_shop_can_be_played_with(tmp_path):
    """The folder that was asked for holds the shop, and plain pytest finds there what the demo found."""
    kept = tmp_path / "shop"
    code, _, _ = run("-m", "pytest_jobs", "demo", "--keep", str(kept), cwd=tmp_path)
    assert code == 0
    code, out, _ = run("-m", "pytest", "-q", "-p", "no:randomly", cwd=kept)
    assert code == 1
    assert out[-1].partition(" in ")[0] == "1 failed, 1 passed"
    assert any(line.startswith("FAILED test_billing.py::test_charge") for line in out)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "a command is missing"),
        (["show"], "there is no command 'show'"),
        (["demo", "--loud"], "unrecognized arguments: --loud"),
        (["demo", "--keep", "."], "--keep was given '.', which has something in it already"),
    ],
)
def test_misuse(tmp_path, words, sentence):
    """One sentence on what was given and what is allowed, and nothing written."""
    (tmp_path / "mine.txt").write_text("mine")
    code, out, err = run("-m", "pytest_jobs", *words, cwd=tmp_path)
    allowed = "allowed is: python -m pytest_jobs demo [--keep DIR]"
    assert (code, out, err) == (2, [], f"python -m pytest_jobs: {sentence}; {allowed}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("endings", "why"),
    [
        ({"test_billing.py": "passed ", "test_billing_repaired.py": "passed "}, "the double charge was not found"),
        ({"test_billing.py": "failed ImportError", "test_billing_repaired.py": "passed "}, "the double charge was not found"),
        ({"test_billing.py": f"failed {demo.VERDICT}", "test_billing_repaired.py": ""}, "the repaired tasks did not pass"),
    ],
)
def test_a_demo_that_shows_something_else_fails(monkeypatch, capsys, endings, why):
    """It exits 1 and says what it did not show."""
    monkeypatch.setattr(demo, "_pytest", endings.__getitem__)
    assert demo.demo() == 1
    assert f"The demo did not show what it promises: {why}." in capsys.readouterr().out


def test_the_shop_needs_only_what_the_plugin_brings():
    """Every module that the shop imports is Python's own, the shop's own, or a core dependency."""
    shop = [file for file in files("pytest_jobs").joinpath("demo_shop").iterdir() if file.name.endswith(".py.txt")]
    own = {file.name.removesuffix(".py.txt") for file in shop}
    imported = set()
    for file in shop:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    assert imported - own - CORE - sys.stdlib_module_names == set()
    assert "shop" in own
