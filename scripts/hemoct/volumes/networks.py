"""Heads that turn the features of slices into logits, and what rebuilds and feeds them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import rnn

from hemoct.training.specs import Spec


@dataclass(frozen=True, kw_only=True)
class HeadSpec(Spec):
    """model.json of a head: all that rebuilds it, and what its features come from. `image_size`, `mean`, `std`: of the images."""

    task: int
    """1 or 4"""
    classes: list[str]
    label: str | None
    exclusive: bool
    """softmax over the classes instead of a sigmoid for each"""
    head: str
    """one of options.HEADS"""
    hidden: int
    dropout: float
    width: int
    """number of features of a slice"""
    backbone: str
    """the network that makes them"""
    made_by: str
    """the step"""
    made_of: list[dict[str, Any]]
    """the experiment whose model of the same fold makes them: task, experiment, sha256 of its predictions.csv; empty where the
    backbone is as it came"""


class Linear(nn.Module):
    """Logits of each slice from its own features."""

    def __init__(self, hidden: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return self.out(hidden)


class Gru(nn.Module):
    """A gated recurrent unit over the slices of a scan, from both ends, beside what each slice says by itself."""

    def __init__(self, hidden: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(3 * hidden, classes))

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return self.out(self.states(hidden, inside))

    def states(self, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """What is said of each slice, and along the scan from both ends: (b, slices, 3 * hidden)."""
        packed = rnn.pack_padded_sequence(hidden, inside.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        along = rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=hidden.shape[1])[0]
        return torch.cat([hidden, along], dim=2)


class Transformer(nn.Module):
    """Two layers of self-attention over the slices of a scan, with the sinusoidal positions of Vaswani et al. 2017."""

    def __init__(self, hidden: int, dropout: float, classes: int, heads: int = 4) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, dropout, batch_first=True, norm_first=True)
        self.along = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(hidden, classes)

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        placed = hidden + positions(hidden.shape[1], hidden.shape[2]).to(hidden)
        return self.out(self.along(placed, src_key_padding_mask=~inside))


BODIES = {"linear": Linear, "gru": Gru, "transformer": Transformer}


class SeriesHead(nn.Module):
    """Features of scans (b, slices, width) to logits (b, slices, classes).

    `inside` (b, slices), bool: which places of the batch are slices, first in each row; the rest is padding. Features are brought
    to mean 0 and standard deviation 1 by those of the training slices, see `fit_scale`.
    """

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(spec.width))
        self.register_buffer("std", torch.ones(spec.width))
        self.enter = nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(spec.width, spec.hidden), nn.GELU())
        self.body = BODIES[spec.head](spec.hidden, spec.dropout, len(spec.classes))

    def fit_scale(self, features: torch.Tensor) -> None:
        """Take mean and standard deviation from the features of training slices, (n, width)."""
        self.mean.copy_(features.mean(dim=0))
        self.std.copy_(features.std(dim=0).clamp(min=1e-6))

    def forward(self, features: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return self.body(self.enter((features - self.mean) / self.std), inside)


def positions(slices: int, width: int) -> torch.Tensor:
    """Sinusoidal positions of slices, float32 (slices, width); width is even."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(slices)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
