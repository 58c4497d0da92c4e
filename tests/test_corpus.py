"""The real bugs of ../shared/corpus: every buggy case is found, every repaired twin passes."""

import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
READY = ("01", "05", "07", "08", "09", "10", "13", "16", "17", "19", "20")

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"there is no {CORPUS}: the corpus lives beside the checkout")


@pytest.mark.parametrize("case", READY)
def test_case(case):
    """The buggy variant fails as `case.toml` expects, the fixed one passes."""
    run = [sys.executable, str(CORPUS / "run.py"), "--only", case, "--parallel", "1", "-v"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.splitlines()[-1:] == ["found 1/1, false alarms 0/1, errors 0"], done.stdout + done.stderr
