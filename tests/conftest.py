"""Every test draws the same numbers in every run."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with many cases, all but the first and the last are slow: left out of `make test-fast`."""
    quick = defaultdict(list)
    for item in items:
        if item.get_closest_marker("slow") is None:
            quick[item.nodeid.partition("[")[0]].append(item)
    for cases in quick.values():
        for item in {*cases} - {cases[0], cases[-1]}:
            item.add_marker("slow")
