"""One application a stack: each broken task is found by its own tests, each repaired twin is clean."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent
FOUND = {
    "flask_shop": {
        "rows": "book is not idempotent at twice: payments 1 -> 2 rows",
        "counter": "credit is not idempotent at twice: credits.cents 500 -> 1000",
        "request": "charge is not idempotent at reply-lost@1: POST …/charges 1 -> 2 requests",
        "resource": "reserve is not idempotent at twice: http:PUT …/2 0 entries -> 1 entry",
        "child": "book is not idempotent at twice: payments 1 -> 3 rows",
        "archive": "archive is not idempotent at crash@13: archive 1 -> 2 rows",
    },
    "django_shop": {
        "rows": "book is not idempotent at twice: shop_payment 1 -> 2 rows",
        "counter": "charge_fee is not idempotent at twice: shop_order.cents 600 -> 700",
        "mail": "thank is not idempotent at crash@6: mail to ann@x.example 1 -> 2 mails",
        "cache": "count is not idempotent at twice: cache:booked 1 -> 2",
        "early": "ship is published before shop_order is committed",
        "child": "book is not idempotent at twice: shop_payment 1 -> 3 rows",
        "view": "ship is published before shop_order is committed",
    },
    "httpx_shop": {
        "request": "charge is not idempotent at reply-lost@1: POST …/charges 1 -> 2 requests",
        "lock": "dispatch is not idempotent at crash@5: redis:lock:7: lock left behind (+1 more)",
        "race": "claim is not idempotent at overlap@3: redis:claims '1' -> '2'",
        "resource": "book is not idempotent at twice: http:PUT …/2 0 entries -> 1 entry",
        "message": "tell is not idempotent at twice: POST https://…/messages 1 -> 2 requests",
        "list": "line_up is not idempotent at twice: redis:line 1 -> 2 items",
    },
    "s3_shop": {
        "object": "export is not idempotent at twice: s3:repor…y/2.csv absent -> 'monday;500'",
        "append": r"note is not idempotent at twice: s3:repor…log.txt 'begun\nended\n' -> 'begun\nended\nended\n'",
        "move": "archive is not idempotent at crash@7: archive succeeded -> failed",
        "message": "announce is not idempotent at twice: aws:sqs.SendMessage 1 -> 2 writes",
        "item": "count is not idempotent at twice: aws:dynamodb.UpdateItem 1 -> 2 writes",
        "file": "upload is not idempotent at twice: s3:reports/files/1 absent -> '500'",
    },
}
# An application's tests run once, in one of xdist's workers.
CASES = [
    pytest.param(app, case, id=f"{app}-{case}", marks=pytest.mark.xdist_group(app)) for app, cases in FOUND.items() for case in cases
]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """Run an application's tests once, in a process of its own; return the failures of each, by its name."""
    known = {}

    def run(app):
        if app not in known:
            place = tmp_path_factory.mktemp(app) / "project"
            shutil.copytree(HERE / app, place)
            report = place.parent / "report.xml"
            environment = {name: value for name, value in os.environ.items() if name not in {"PYTEST_ADDOPTS", "PYTHONSAFEPATH"}}
            options = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:asyncio", "--timeout", "60", f"--junitxml={report}"]
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options], cwd=place, env=environment, capture_output=True, check=False,
                text=True, timeout=280,
            )  # fmt: skip
            found = {}
            for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
                bad = [each.get("message") or "" for each in case if each.tag in {"failure", "error"}]
                found.setdefault(case.get("name").partition("[")[0], []).extend(bad or [""])
            known[app] = found, done.stdout + done.stderr
        return known[app]

    return run


@pytest.mark.parametrize(("app", "case"), CASES)
def test_a_broken_task_is_found(outcomes, app, case):
    """The failure's first line names the task, the schedule and what differs."""
    found, text = outcomes(app)
    lines = {message.partition("\n")[0] for message in found.get(f"test_broken_{case}", ())}
    assert lines == {f"AssertionError: {FOUND[app][case]}"}, text


@pytest.mark.parametrize(("app", "case"), CASES)
def test_its_repaired_twin_is_clean(outcomes, app, case):
    """The same test of the repaired task passes, with nothing listed by its author."""
    found, text = outcomes(app)
    assert set(found.get(f"test_repaired_{case}", ())) == {""}, text


@pytest.mark.parametrize("app", [pytest.param(app, marks=pytest.mark.xdist_group(app)) for app in FOUND])
def test_each_test_of_an_application_is_named_here(outcomes, app):
    """No case of an application is forgotten, and nothing went unseen."""
    found, text = outcomes(app)
    assert set(found) == {f"test_{kind}_{case}" for case in FOUND[app] for kind in ("broken", "repaired")}
    assert "was not compared" not in text
