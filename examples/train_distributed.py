"""Trains a backbone to tell drawn shapes apart, on as many processes as there are, and goes on where it was killed.

    torchrun --nproc-per-node 2 examples/train_distributed.py --cfg resnet18 --out runs/shapes
    torchrun --nproc-per-node 8 --max-restarts 3 examples/train_distributed.py --cfg resnet50 --fsdp --out runs/shapes

The second shares out parameters, gradients and the optimizer's state (FSDP2). What is random in a step comes from the
seed and the step's number, so that a checkpoint is weights, optimizer and a number; any number of processes reads it,
with or without `--fsdp`.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

from backbone_kit import build_backbone
from backbone_kit.distributed import average_statistics, shard, whole_parameters
from backbone_kit.finetune import convert_norms, freeze_unused, param_groups, what_trains
from backbone_kit.heads import ClassifierHead

SHAPES = ("square", "disk", "cross")
HELD_OUT = range(10**9, 10**9 + 96)  # pictures that no step sees


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cfg", default="resnet18", help="what build_backbone takes: a file or a name")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints, seen by all processes")
    parser.add_argument("--pretrained", help="weights of the backbone")
    parser.add_argument("--frozen-stages", type=int, default=-1)
    parser.add_argument("--fsdp", action="store_true", help="share out what each process has whole otherwise")
    parser.add_argument("--backend", choices=("nccl", "gloo"), help="default: nccl where there are GPUs")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32, help="pictures a step, of all processes together")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--layer-decay", type=float, default=1.0)
    parser.add_argument("--save-every", type=int, default=1, help="steps between checkpoints: what a killed run loses")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def join(backend: str | None) -> torch.device:
    """Becomes one of the processes that torchrun started, or the only one; returns its device."""
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        store, rank, world = dist.HashStore(), 0, 1
        if "RANK" in os.environ:
            store, rank, world = next(dist.rendezvous("env://"))
        # torchrun's store outlives a restart, and knows where the processes were that were killed.
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(backend, store=dist.PrefixStore(restarts, store), rank=rank, world_size=world)
    return device


def build(args: argparse.Namespace, device: torch.device) -> nn.Module:
    """A classifier with the parameters that belong on this process; its weights are those of a single process."""
    torch.manual_seed(args.seed)
    weights = args.pretrained and dict(type="Pretrained", checkpoint=args.pretrained)
    with torch.device("meta"):  # memory comes when it is known who holds what
        net = build_backbone(args.cfg, frozen_stages=args.frozen_stages, init_cfg=weights)
    model = ClassifierHead(net, len(SHAPES))
    freeze_unused(model)
    if device.type == "cuda":
        convert_norms(model, dict(type="SyncBN"))  # statistics over the pictures of all processes
    if args.fsdp:
        shard(model)
    model.to_empty(device=device)
    net.init_weights()
    with whole_parameters(model.fc):
        model.fc.reset_parameters()
    return model.train()


def drawn(index: int, size: int) -> Tensor:
    """One picture, by number: the same in every run and on every process. It shows `SHAPES[index % 3]`."""
    draw = torch.Generator().manual_seed(index)
    radius, *centre = (0.2 + 0.1 * torch.rand(1, generator=draw), *(0.35 + 0.3 * torch.rand(2, generator=draw)))
    y, x = ((torch.linspace(0, 1, size) - c).abs() / radius for c in centre)
    y, x = y[:, None].expand(size, size), x.expand(size, size)
    larger, smaller = torch.maximum(x, y), torch.minimum(x, y)
    inside = [larger < 0.9, x.square() + y.square() < 1, (larger < 1.1) & (smaller < 0.4)][index % len(SHAPES)]
    paper, ink = 0.4 * torch.rand(2, 3, 1, 1, generator=draw)
    return torch.where(inside, ink + 0.6, paper) + 0.05 * torch.randn(3, size, size, generator=draw)


def pictures(indices: Sequence[int], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of all these pictures, those that this process has to look at, and what they show."""
    own = indices[dist.get_rank() :: dist.get_world_size()]
    kinds = torch.tensor([index % len(SHAPES) for index in own])
    return torch.stack([drawn(index, size) for index in own]).to(device), kinds.to(device)


def save(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, out: Path) -> None:
    """Writes a folder, each process its share; then, in one act, says that it is the newest."""
    average_statistics(model)
    weights, states = get_state_dict(model, optimizer)
    dcp.save(dict(model=weights, optimizer=states), checkpoint_id=out / f"step{step}")
    if dist.get_rank() == 0:
        (out / "newest.tmp").write_text(str(step))
        os.replace(out / "newest.tmp", out / "newest")
        for folder in set(out.glob("step*")) - {out / f"step{step}"}:
            shutil.rmtree(folder)
    dist.barrier()


def resume(model: nn.Module, optimizer: torch.optim.Optimizer, out: Path) -> int:
    """Reads the newest checkpoint, if there is one; returns how many steps have been done."""
    if not (out / "newest").exists():
        return 0
    step = int((out / "newest").read_text())
    weights, states = get_state_dict(model, optimizer)
    dcp.load(dict(model=weights, optimizer=states), checkpoint_id=out / f"step{step}")
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=states)
    return step


def accuracy(model: nn.Module, size: int, device: torch.device) -> float:
    x, kinds = pictures(HELD_OUT, size, device)
    model.eval()
    with torch.no_grad():
        right = (model(x).argmax(1) == kinds).sum()
    dist.all_reduce(right)
    return right.item() / len(HELD_OUT)


def main(argv: Sequence[str] | None = None) -> nn.Module:
    args = arguments(argv)
    device = join(args.backend)
    rank, world = dist.get_rank(), dist.get_world_size()
    say = print if rank == 0 else lambda *_: None
    if args.batch % world:
        raise SystemExit(f"--batch must be a multiple of the {world} processes, got {args.batch}")
    args.out.mkdir(parents=True, exist_ok=True)

    model = build(args, device)
    say(what_trains(model))
    optimizer = torch.optim.AdamW(param_groups(model, args.lr, layer_decay=args.layer_decay))
    rates = [group["lr"] for group in optimizer.param_groups]
    done = resume(model, optimizer, args.out)
    say(f"{world} processes, from step {done}")
    runs = (
        model
        if args.fsdp
        else DistributedDataParallel(model, device_ids=[device] if device.index is not None else None)
    )

    for step in range(done, args.steps):
        torch.manual_seed((args.seed * args.steps + step) * world + rank)  # of what is random in the model
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * (1 + math.cos(math.pi * step / args.steps)) / 2
        first = (args.seed * args.steps + step) * args.batch
        x, kinds = pictures(range(first, first + args.batch), args.size, device)
        loss = F.cross_entropy(runs(x), kinds)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach() / world
        dist.all_reduce(mean)
        say(f"step {step}: loss {mean.item():.4f}")
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(model, optimizer, step + 1, args.out)
    say(f"accuracy on {len(HELD_OUT)} other pictures: {accuracy(model, args.size, device):.3f}")
    return model


if __name__ == "__main__":
    main()
    dist.destroy_process_group()
