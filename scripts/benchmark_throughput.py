"""Measure whether training waits for data: the same epochs from the cache on disk and from a tensor already in memory.

Reads   nothing: noise of the right shape is written to a temporary cache
Writes  nothing; prints images a second for both, in alternation, and the ratio of the medians (1.0 = never waits)
Next    task1_classification/01_train.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import cli
from hemoct.classification import networks as classification_networks
from hemoct.training import augment, device
from hemoct.training import fit as training_fit
from hemoct.training.batches import Store


class InMemory(Store):
    """The reference: float images that lie on the device already; a batch is one gather."""

    def __init__(self, pixels: np.ndarray, where: torch.device) -> None:
        self.device = where
        self.images = torch.from_numpy(np.array(pixels)).to(where).unsqueeze(1).float().div_(255)

    def batches(self, rows: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for position in torch.arange(len(rows)).split(size):
            yield position, self.images[rows[position].to(self.device)]


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=cli.positive_int, default=128)
    parser.add_argument("--images", type=cli.positive_int, default=256, help="slices in an epoch")
    parser.add_argument("--repeats", type=cli.positive_int, default=5)
    parser.add_argument("--augment", default="none", choices=augment.STRENGTHS)
    training_fit.add_flags(parser, epochs=1000, batch_size=32, lr=1e-4)
    training_fit.add_device_flags(parser)
    args = cli.parse(parser, argv, __file__)
    args.mirror = "horizontal"

    where = device.pick(args.device)
    with tempfile.TemporaryDirectory() as folder:
        pixels = noise(Path(folder, "cache.npy"), args)
        speeds = compare({"cache": Store(pixels, where), "memory": InMemory(pixels, where)}, Path(folder), args, where)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:7s} {medians[name]:8.1f} images/s   ({', '.join(f'{value:.1f}' for value in values)})")
    print(f"ratio   {medians['cache'] / medians['memory']:8.3f}")


def noise(path: Path, args: argparse.Namespace) -> np.ndarray:
    shape = (args.images, args.image_size, args.image_size)
    np.save(path, np.random.default_rng(args.seed).integers(0, 256, shape, dtype=np.uint8))
    return np.load(path, mmap_mode="r")


def compare(stores: dict[str, Store], folder: Path, args: argparse.Namespace, where: torch.device) -> dict[str, list[float]]:
    """Images a second of one training epoch, each store in turn, `repeats` times after one that warms up."""
    spec = classification_networks.ClassifierSpec(
        image_size=args.image_size, mean=0.5, std=0.3, protocol="patient", split="folds", fold=0, splits_sha256="",
        backbone=args.backbone, classes=["noise"], exclusive=False,
    )  # fmt: skip
    fit = training_fit.Fit(classification_networks.build(spec), folder, args, {}, -(-args.images // args.batch_size), where)
    targets = (torch.arange(args.images, device=where) % 2).float()[:, None]
    order, change = torch.arange(args.images), training_fit.augmentation(fit, augment.STRENGTHS[args.augment])
    epochs = fit.epochs()
    next(epochs)
    speeds: dict[str, list[float]] = {name: [] for name in stores}
    for repeat in range(args.repeats + 1):
        for name, store in stores.items():
            start = time.perf_counter()
            # it reads the loss, and so waits for all
            training_fit.one_epoch(fit, spec, store, order, targets, F.binary_cross_entropy_with_logits, change)
            if repeat:
                speeds[name].append(args.images / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    cli.exit_cleanly(main)
