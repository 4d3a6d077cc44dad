"""Here, timm and torchvision side by side, on the same work in one process: `python -m benchmarks`.

MMDetection cannot be installed without compiled extensions; its ResNet runs convolutions and norms one by one, as ours
does where they are not folded.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import deform_conv, inference, starting, training
from .report import markdown, plot
from .rounds import machine

PARTS: dict[str, Callable[[int, bool], Any]] = {
    "inference": inference.forms,
    "families": inference.families,
    "inference by size": inference.growth,
    "fine-tuning": lambda rounds, _: training.fine_tuning(rounds),
    "training": lambda rounds, _: training.whole(rounds),
    "fine-tuning by batch": lambda rounds, _: training.growth(rounds),
    "deformable": lambda rounds, _: [deform_conv.measure(deform_conv.Case(*s), rounds) for s in deform_conv.SIZES],
    "starting": lambda rounds, _: starting.starting(rounds),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"which of {', '.join(map(repr, PARTS))}; all, if none is named")
    parser.add_argument(
        "--write", type=Path, help="a folder for report.md, report.json and report.png; parts that are not named stay"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eager", action="store_true", help="leave out what needs a compiler")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(map(repr, PARTS))}")
    warnings.simplefilter("ignore")  # of libraries that are compiled
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    about = {"machine": machine(), "rounds": arguments.rounds}
    file = arguments.write / "report.json" if arguments.write else None
    report: dict[str, Any] = json.loads(file.read_text()) if arguments.parts and file and file.exists() else about
    report["rounds"] = min(report["rounds"], arguments.rounds)
    for part in arguments.parts or PARTS:
        print(f"# {part}", flush=True)
        report[part] = PARTS[part](arguments.rounds, not arguments.eager)
        torch.compiler.reset()
    page = markdown(report)
    print(page)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        (arguments.write / "report.md").write_text(page)
        plot(report, arguments.write / "report.png")


if __name__ == "__main__":
    main()
