"""Batches of studies, of the slices of volumes or of their features, read on demand."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hemoct.base.cache import Cached
from hemoct.training.batches import Stacks, Store

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""of studies: which they are (b,), what is seen of them (b, depth, ...), and which places hold a slice (b, depth), bool"""


@dataclass(frozen=True)
class Volumes:
    """Studies as volumes of grey values, gathered from the memory map, or from the device where it fits."""

    stacks: Stacks
    inside: torch.Tensor
    """bool (studies, depth)"""

    @classmethod
    def of(cls, pixels: Cached, rows: np.ndarray, device: torch.device) -> "Volumes":
        """`pixels` uint8 (n, size, size); `rows` (studies, depth): see scans.placed."""
        return cls(Stacks(Store(pixels, device), torch.as_tensor(rows).clamp(min=0)), torch.as_tensor(rows >= 0, device=device))

    @property
    def device(self) -> torch.device:
        return self.stacks.device

    def batches(self, which: torch.Tensor, size: int) -> Iterator[Batch]:
        """Grey values in 0..1, float (b, depth, side, side), black where there is no slice."""
        for position, batch in self.stacks.batches(which, size):
            inside = self.inside[which[position].to(self.device)]
            yield which[position], batch * inside[:, :, None, None], inside


@dataclass(frozen=True)
class Sequences:
    """Studies as sequences of the kept features of their slices."""

    features: np.ndarray
    """float32 (n, width), a memory map"""
    rows: torch.Tensor
    """int64 (studies, longest), -1 where there is none"""
    device: torch.device

    def batches(self, which: torch.Tensor, size: int) -> Iterator[Batch]:
        """Features, float (b, longest of them, width); of places without a slice those of another, which nothing looks at."""
        for chunk in which.split(size):
            rows = self.rows[chunk]
            rows = rows[:, : (rows >= 0).sum(dim=1).max()]
            features = torch.from_numpy(self.features[rows.clamp(min=0).numpy()]).to(self.device)
            yield chunk, features, (rows >= 0).to(self.device)
