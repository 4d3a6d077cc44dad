"""docs/layers.md has every registered layer, as it is now."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_up_to_date() -> None:
    now = runpy.run_path(str(ROOT / "tools" / "update_layers.py"))["page"]()
    missing = set(now.splitlines()) ^ set((ROOT / "docs" / "layers.md").read_text().splitlines())
    assert not missing, "run: python tools/update_layers.py"
    assert (ROOT / "docs" / "layers.md").read_text() == now
