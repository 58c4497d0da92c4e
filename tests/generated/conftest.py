"""Makes the modules beside it importable, for the tests here and for benchmarks/generated.py."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
