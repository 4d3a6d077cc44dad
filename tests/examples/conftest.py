"""The examples are scripts: what lies beside them is imported as it is when they run."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
