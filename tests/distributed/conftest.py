"""Processes that are there for all tests of this folder, on loopback, without a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.fsdp

WORLD = 2
collect_ignore_glob = [] if hasattr(torch.distributed.fsdp, "fully_shard") else ["test_*.py"]  # before torch 2.6

Run = Callable[..., list[Any]]


def _join(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)


@pytest.fixture(scope="session", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`run(function, *args)`: what the function returns on each of the processes."""
    store = str(tmp_path_factory.mktemp("processes") / "store")
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed.fsdp", "torch.distributed.checkpoint"])
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, context, _join, (rank, store))) for rank in range(WORLD)]

        def run(function: Callable[..., Any], *args: Any) -> list[Any]:
            return [future.result(300) for future in [pool.submit(function, *args) for pool in pools]]

        yield run
