"""Batches of slices on the device, so that it never waits for files.

The cache (hemoct.data.images) is one uint8 array. When it fits it is copied to the device once and batches are gathered there;
otherwise worker processes gather them from the memory map ahead of time. On the CPU the page cache is the memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hemoct.base import cache
from hemoct.base.cache import Cached
from hemoct.training import device as training_device

SHARE_OF_MEMORY = 0.5  # of what is free on the device; the rest is for the model and its activations
WORKERS = 4
Size = int | list[int]
"""of all batches but the last, or of each of them"""


class Gather(Dataset):
    """Rows of a memory map, a whole batch a call. Where workers are spawned it is pickled: by its file name, not its content."""

    def __init__(self, pixels: Cached) -> None:
        self.pixels = pixels

    def __getstate__(self) -> dict[str, list[str]]:
        return {"files": cache.names(self.pixels)}

    def __setstate__(self, state: dict[str, list[str]]) -> None:
        self.pixels = cache.opened(state["files"])

    def __getitem__(self, rows: list[int]) -> torch.Tensor:
        return torch.from_numpy(self.pixels[np.asarray(rows)])


class Source(Protocol):
    """What yields (positions within `rows`, images in 0..1) for each batch of `size`: float (batch, channels, side, side).

    The images are the caller's own, who may change them in place.
    """

    device: torch.device

    def batches(self, rows: torch.Tensor, size: Size) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...


class Store:
    """All slices of a data set. `batches` yields float images in 0..1, shape (batch, 1, size, size), on the device."""

    def __init__(self, pixels: Cached, device: torch.device) -> None:
        self.device = device
        self.pixels = pixels
        fits = pixels.nbytes < SHARE_OF_MEMORY * training_device.free_memory(device)
        self.resident = torch.from_numpy(np.array(pixels)).to(device) if fits else None

    def batches(self, rows: torch.Tensor, size: Size) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (positions within `rows`, images) for each batch of `size`, in the order of `rows`."""
        positions = torch.arange(len(rows)).split(size)
        for position, pixels in zip(positions, self._gather(rows, size), strict=True):
            yield position, pixels.to(self.device, non_blocking=True).unsqueeze(1).float().div_(255)

    def _gather(self, rows: torch.Tensor, size: Size) -> Iterator[torch.Tensor]:
        chunks = rows.split(size)
        if self.resident is not None:
            on_device = rows.to(self.device).split(size)
            yield from (self.resident[chunk] for chunk in on_device)
        elif self.device.type == "cpu":
            yield from (torch.from_numpy(self.pixels[chunk.numpy()]) for chunk in chunks)
        else:
            yield from DataLoader(
                Gather(self.pixels),
                batch_size=None,  # the sampler gives the rows of a whole batch
                sampler=[chunk.tolist() for chunk in chunks],
                num_workers=WORKERS,
                pin_memory=self.device.type == "cuda",
                prefetch_factor=4,
            )


@dataclass(frozen=True)
class Stacks:
    """Slices of several planes each: neighbours, CT windows. `planes`: their rows in the store, int64 (slices, channels)."""

    store: Store
    planes: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.store.device

    def batches(self, rows: torch.Tensor, size: Size) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As Store.batches, with images (batch, channels, side, side)."""
        channels = self.planes.shape[1]
        positions = torch.arange(len(rows)).split(size)
        of_all = size * channels if isinstance(size, int) else [of_batch * channels for of_batch in size]
        of_planes = self.store.batches(self.planes[rows].reshape(-1), of_all)
        for position, (_, batch) in zip(positions, of_planes, strict=True):
            yield position, batch.reshape(len(position), channels, *batch.shape[2:])


def draw(truth: torch.Tensor, balance: str, generator: torch.Generator) -> torch.Tensor:
    """The order of an epoch: a permutation, or with `sampler` as many draws with replacement, each class equally likely."""
    if balance != "sampler":
        return torch.randperm(len(truth), generator=generator)
    group = truth.cpu().argmax(dim=1) if truth.shape[1] > 1 else truth.cpu()[:, 0].long()
    return torch.multinomial(1 / group.bincount()[group].double(), len(truth), replacement=True, generator=generator)
