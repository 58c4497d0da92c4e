"""Looking at what every thread runs."""

import gc
import sys
from threading import get_ident

import pytest

from pytest_jobs.dying import running_frames


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_meanwhile(monkeypatch, enabled):
    """Garbage that frees a thread's local state inside would lock an older interpreter for ever; the switch is put back."""
    seen = []
    look = sys._current_frames

    def looking():
        seen.append(gc.isenabled())
        return look()

    monkeypatch.setattr(sys, "_current_frames", looking)
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert get_ident() in running_frames()
        assert (seen, gc.isenabled()) == ([False], enabled)
    finally:
        (gc.enable if before else gc.disable)()
