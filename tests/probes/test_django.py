import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(*arguments, path=HERE, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]), **environment}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=path, env=environment, capture_output=True, check=False, text=True, timeout=300,
    )  # fmt: skip


def test_a_django_project(tmp_path):
    """The probe does what `django_inside.py` and `django_commits_inside.py` say, in a process of its own: settings are for ever."""
    options = ["-p", "django_inside", "-p", "no:cacheprovider", "-p", "no:jobs", "-p", "no:randomly"]
    files = [str(HERE / name) for name in ("django_inside.py", "django_commits_inside.py")]
    inside = ["-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), *options, *files]
    done = run(*inside, path=tmp_path, CASE_DB=str(tmp_path / "ledger.sqlite3"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_project():
    """Where Django is not set up the probe does nothing, and imports nothing."""
    code = """
import sys
from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.django import DjangoProbe, available
probe = DjangoProbe()
probe.install(Recorder())
probe.refresh()
assert not available()
assert probe.read(frozenset({"payments"})) == ({}, ())
probe.forget()
probe.remove()
assert "django" not in sys.modules
import django.conf, django.apps
assert not available()
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("mailers", "backend"),
    [({}, "smtp"), ({"MAILERS": {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}}, "locmem")],
    ids=["default", "mailers"],
)
def test_mail_as_it_is_configured(mailers, backend):
    """Django 6.1 warns of the old setting, and refuses it where there are mailers."""
    code = f"""
import sys
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", **{mailers!r})
django.setup()
from pytest_jobs.probes.base import Recorder
from pytest_jobs.probes.django import DjangoProbe
probe = DjangoProbe()
probe.install(Recorder())
assert "django.core.mail.backends.{backend}" in sys.modules
probe.remove()
"""
    done = run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
