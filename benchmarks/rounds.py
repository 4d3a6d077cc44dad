"""Measuring things side by side: interleaved rounds, medians, what is allocated, and on what machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Rows = dict[str, dict[str, float]]


def seconds(runs: Mapping[str, Callable[[], Any]], rounds: int) -> Rows:
    """Medians of each run: wall clock, processor time, and that over the first one's in the same round.

    Processor time hardly changes with what else runs; with one thread, it is the wall clock of an idle machine.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name in runs if index % 2 else reversed(list(runs)):
            wall, processor = time.perf_counter(), time.process_time()
            runs[name]()
            if index:  # the first round warms up
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    first = next(iter(taken.values()))
    return {
        name: {
            "seconds": statistics.median(wall for wall, _ in times),
            "processor": statistics.median(processor for _, processor in times),
            "times the first": statistics.median(mine / other for (_, mine), (_, other) in zip(times, first)),
        }
        for name, times in taken.items()
    }


def peak_mib(run: Callable[[], Any]) -> float:
    """The most that is allocated at one time in a run, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


def machine() -> dict[str, Any]:
    """Where it runs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        **{name: version(name) for name in ("torch", "torchvision", "timm")},
    }


def described(about: Mapping[str, Any]) -> str:
    """A machine as half a sentence."""
    libraries = ", ".join(f"{name} {about[name]}" for name in ("torch", "torchvision", "timm"))
    return (
        f"{about['processor']} ({about['instructions']}), threads: {about['threads']}, load when it began: "
        f"{about['load']}; {libraries}"
    )
