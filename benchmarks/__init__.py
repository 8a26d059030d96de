"""Measurements, one command each: ``python -m benchmarks.NAME``."""

import sys
from pathlib import Path

# Tests and benchmarks share tests/support. Last, so that nothing installed is hidden by it.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
