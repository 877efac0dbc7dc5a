"""Several processes that train one network together (torchrun): which part of each batch is whose, and what they put together.

Every process holds the whole network and draws the same batches; of each batch it computes a part. The loss is that of the whole
batch, and batch normalisation averages over all its slices, so that the number of processes has no say in what is learned.
"""

import contextlib
import datetime
import os
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.training import device as devices

PATIENCE = datetime.timedelta(hours=12)  # with which one process waits for another, that decodes a large data set for one
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
"""how torch words that another process is gone"""


def count() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """That of this process; the first, 0, writes the files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


# ---- beginning and end


@contextlib.contextmanager
def joined(name: str, threads: int | None) -> Iterator[torch.device]:
    """Join the processes that torchrun started; yields the device of this one. `name`: --device.

    When one of them stops, all do: the first to stop says why, in one line.
    """
    if torch.cuda.is_available() and name in ("auto", "cuda"):
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(f"torchrun started more processes than there are GPUs ({torch.cuda.device_count()}); give "
                            f"--nproc-per-node {torch.cuda.device_count()}")  # fmt: skip
        torch.cuda.set_device(local)
    where = devices.pick(name, threads)
    if where.type == "mps":
        raise UserError("several processes train on CUDA or on the CPU; add --device cpu, or start one process, with python")
    store, rank, world = next(rendezvous("env://"))
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    files.keeps = rank == 0
    print(f"{world} processes, each with its part of every batch")
    try:
        yield where
    except Exception as error:
        if store.add("stopped", 1) > 1:  # another one said why
            raise SystemExit(2) from None
        if isinstance(error, UserError):
            cli.stop(str(error))
        if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST):
            cli.stop("another process of this training was killed; run the same command again with --resume")
        raise
    dist.barrier()
    dist.destroy_process_group()
    files.keeps = True


def from_first(value: Any) -> Any:
    """What the first process holds, in all of them."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def first_alone(what: Callable[[], Any]) -> Any:
    """What a function returns that the first process calls before all others: what it writes on disk is there for them."""
    if number() > 0:
        wait()
    value = what()
    if number() == 0:
        wait()
    return value


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        dist.barrier()


# ---- which slices are whose


@dataclass(frozen=True)
class Part:
    """A part of a batch that the processes compute at the same time, each some of its slices."""

    sizes: tuple[int, ...]
    """slices of each process"""
    weight: float = 1.0
    """slices of the part over those of its batch"""
    first: bool = True
    last: bool = True
    """of its batch"""

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    def weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """What is minimised of the loss of this part: its share in that of the batch; gradients are averaged over processes."""
        factor = self.weight * len(self.sizes)
        return loss if factor == 1 else loss * factor

    def whole(self, own: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, in the order of the batch, from those of this one; gradients go to its own."""
        return own if len(self.sizes) == 1 else _Gather.apply(own, self.sizes)


@dataclass(frozen=True)
class Shared:
    """How rows are parted among processes."""

    rows: int
    """how many of them are used, the first ones"""
    own: torch.Tensor
    """positions of those of this process, int64"""
    sizes: list[int]
    """how many of them belong together, one after the other"""
    parts: list[Part]
    """of each batch so many as are computed one after the other; as long as `sizes`"""


def share(rows: int, size: int, accumulate: int = 1) -> Shared:
    """Part rows, `size` a batch, among the processes, and each batch into `accumulate` parts that follow each other.

    The slices of a part follow each other in the order of the processes. A process without a slice in a part computes the one
    before again, which `whole` leaves out.
    """
    processes, me = count(), number()
    own, parts = [torch.zeros(0, dtype=torch.int64)], []
    for start in range(0, rows, size):
        of_batch = min(size, rows - start)
        following = max(1, min(accumulate, of_batch // least()))  # the last batch may be a small one
        edges = [start + of_batch * place // (processes * following) for place in range(processes * following + 1)]
        for place in range(following):
            here = edges[place * processes : (place + 1) * processes + 1]
            sizes = tuple(after - before for before, after in pairwise(here))
            first = here[me] if sizes[me] else max(here[me] - 1, start)
            own.append(torch.arange(first, first + max(1, sizes[me])))
            parts.append(Part(sizes, sum(sizes) / of_batch, place == 0, place == following - 1))
    return Shared(rows, torch.cat(own), [len(positions) for positions in own[1:]], parts)


def usable(rows: int, size: int) -> int:
    """`rows` less the last ones where they are too few for a batch."""
    rest = rows % size
    return rows - rest if rest < least() else rows


def least() -> int:
    """Slices of the smallest part: one for each process, and never a single one, which batch normalisation cannot use."""
    return max(2, count())


def stop_if_too_small(size: int, accumulate: int) -> None:
    """Stop where a batch has too few slices for its parts."""
    if (accumulate > 1 or count() > 1) and size < least() * accumulate:
        raise UserError(f"--batch-size {size} is too small for {count()} process(es) and --accumulate {accumulate}; "
                        f"take {least() * accumulate} or more")  # fmt: skip


class _Gather(torch.autograd.Function):
    """The rows of all processes. Each computes the loss of all of them, and so keeps the gradient of its own rows alone."""

    @staticmethod
    def forward(context: Any, own: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        context.before, context.size = sum(sizes[: number()]), sizes[number()]
        context.computed = len(own)
        longest = max(sizes)
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: context.size] = own[: context.size]
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        mine = gradient.new_zeros((context.computed, *gradient.shape[1:]))
        mine[: context.size] = gradient[context.before : context.before + context.size]
        return mine, None


# ---- one network


def wrapped(model: nn.Module) -> nn.Module:
    """What is called in training: gradients are averaged over the processes, batch normalisation averages over all slices.

    `model` itself is changed: on CUDA its layers of batch normalisation become torch's synchronised ones.
    """
    if count() == 1:
        return model
    if next(model.parameters()).device.type == "cuda":
        convert_sync_batchnorm(model)
    else:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.forward = types.MethodType(_over_all, module)
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def _over_all(layer: _BatchNorm, images: torch.Tensor) -> torch.Tensor:
    """Batch normalisation by the mean and variance over the slices of all processes; torch's own needs a GPU."""
    if not layer.training:
        return type(layer).forward(layer, images)
    axes, shape = [0, *range(2, images.dim())], [1, -1, *[1] * (images.dim() - 2)]
    values = images if images.dtype is torch.float64 else images.float()
    n = torch.tensor(values.numel() / values.shape[1], dtype=values.dtype)
    dist.all_reduce(n)
    mean = _Sum.apply(values.sum(axes)) / n
    centred = values - mean.view(shape)
    variance = _Sum.apply((centred**2).sum(axes)) / n
    with torch.no_grad():
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * n / (n - 1), layer.momentum)
    normal = centred * (variance + layer.eps).rsqrt().view(shape)
    out = (normal * layer.weight.view(shape) + layer.bias.view(shape)).to(images.dtype)
    for after in ("drop", "act"):  # timm joins them to the layer
        out = getattr(layer, after, nn.Identity())(out)
    return out


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, for each of them goes on with it."""

    @staticmethod
    def forward(_: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
