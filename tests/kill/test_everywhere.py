"""Hostile tasks, killed at each of their points: nothing of them runs on."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

HOSTILE = Path(__file__).resolve().parent / "hostile"


@cache
def load(name):
    """Load a module of hostile tasks."""
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", HOSTILE / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TASKS = [task for name in ("plain", "loops", "threaded") for task in load(name).TASKS]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.__module__.removeprefix('hostile_')}-{task.__name__}")
def test_no_cleanup_runs(cemetery, task):
    """Whatever would catch the kill, or clean up after it, never runs."""
    assert cemetery.kill_everywhere(task) >= 3
