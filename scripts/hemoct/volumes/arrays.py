"""Volumes made from slices: which slices of a study stand where, and batches of them, read on demand."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from hemoct.base.cache import Cached
from hemoct.base.errors import UserError
from hemoct.training.batches import Stacks, Store
from hemoct.volumes.study_options import Study

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""of studies: which they are (b,), what is seen of them (b, depth, ...), and which places hold a slice (b, depth), bool"""


def placed(rows: np.ndarray, table: pd.DataFrame, study: Study, shown: str = "labels.csv") -> np.ndarray:
    """The row of the slice at each place of a volume of `study.depth` slices, int64 (studies, depth); -1 where there is none.

    `rows`: of the slices of each study in their order, padded with -1; `table`: their `slice`, and perhaps `spacing_z`. Where
    slice numbers jump the nearest slice stands in, so that a gap keeps its height. Stretched volumes go from the first slice to
    the last; cropped ones hold the middle, a slice a place, or one every `study.slice_mm`.
    """
    number = table["slice"].to_numpy(dtype=float)
    made = np.full((len(rows), study.depth), -1)
    for volume, scan in zip(made, rows, strict=True):
        own = scan[scan >= 0]
        numbers = number[own]
        step = 1.0 if study.slice_mm is None else study.slice_mm / _spacing(table, own, shown)
        middle = (numbers[0] + numbers[-1]) / 2
        wanted = np.linspace(numbers[0], numbers[-1], study.depth) if study.depth > 1 else np.array([middle])
        if study.sampling == "crop":
            wanted = middle + (np.arange(study.depth) - (study.depth - 1) / 2) * step
            wanted = np.floor(wanted) if step == 1 else wanted  # the middle of an even number of slices lies between two
        inside = (wanted >= numbers[0] - step / 2) & (wanted <= numbers[-1] + step / 2)
        nearest = np.abs(numbers[None] - wanted[:, None]).argmin(axis=1)
        volume[inside] = own[nearest][inside]
    return made


def _spacing(table: pd.DataFrame, own: np.ndarray, shown: str) -> float:
    """The distance of the slices of a study, mm; stops where it is not known, or is not one."""
    values = table["spacing_z"].iloc[own].astype(float).to_numpy() if "spacing_z" in table else np.array([np.nan])
    if not (np.isfinite(values).all() and (values > 0).all()):
        patient = table["patient"].iloc[own[0]]
        raise UserError(f"--slice-mm: {shown} does not know the spacing (spacing_z) of patient {patient}; leave it out")
    return float(np.median(values))


@dataclass(frozen=True)
class Volumes:
    """Studies as volumes of grey values, gathered from the memory map, or from the device where it fits."""

    stacks: Stacks
    inside: torch.Tensor
    """bool (studies, depth)"""

    @classmethod
    def of(cls, pixels: Cached, rows: np.ndarray, device: torch.device) -> "Volumes":
        """`pixels` uint8 (n, size, size); `rows` (studies, depth): see `placed`."""
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
