"""The real bugs of ../shared/corpus: every buggy case is found, every repaired twin passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("PYTEST_JOBS_CORPUS") or Path(__file__).resolve().parents[2] / "shared" / "corpus")
CASES = sorted(path.parent.name[:2] for path in CORPUS.glob("[0-9][0-9]-*/case.toml"))
# Other plugins of this environment would only cost time.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_jobs.plugin"}

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"there is no {CORPUS}: the corpus lives beside the checkout")


@pytest.mark.parametrize("case", CASES or ["no case"])
def test_case(case):
    """The buggy variant fails as `case.toml` expects, the fixed one passes."""
    run = [sys.executable, str(CORPUS / "run.py"), "--only", case, "--parallel", "1", "-v"]
    done = subprocess.run(run, env=os.environ | ALONE, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.splitlines()[-1:] == ["found 1/1, false alarms 0/1, errors 0"], done.stdout + done.stderr
