"""Measure whether training waits for data: the same epochs from the cache on disk and from a tensor already in memory.

Reads   nothing: noise of the right shape is written to a temporary cache
Writes  nothing; prints images a second for both, in alternation, and the ratio of the medians (1.0 = never waits)
Next    task1_classification/01_train.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hemoct.base import cli, options
from hemoct.base.runs import Run
from hemoct.classification import networks
from hemoct.training import device, fit
from hemoct.training.batches import Store
from hemoct.training.options import STRENGTHS, Augmentation, Hardware, Training


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
    options.add(parser, Training, "training", epochs=1000, lr=1e-4)
    options.add(parser, Augmentation, "augmentation")
    options.add(parser, Hardware, "device")
    args = cli.parse(parser, argv, __file__)

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
    spec = networks.ClassifierSpec(
        image_size=args.image_size, mean=0.5, std=0.3, protocol="patient", split="folds", fold=0, splits_sha256="",
        backbone=args.backbone, classes=["noise"], exclusive=False,
    )  # fmt: skip
    model = device.place(networks.build(spec), where, args.image_size)
    fitting = fit.Fit(model, Run(__file__, args, folder, []), options.read(args, Training), -(-args.images // args.batch_size))
    targets, order = (torch.arange(args.images, device=where) % 2).float()[:, None], torch.arange(args.images)
    augment = fit.augmentation(STRENGTHS[args.augment], "horizontal", fitting.device_generator)
    epochs = fitting.epochs()
    next(epochs)
    speeds: dict[str, list[float]] = {name: [] for name in stores}
    for repeat in range(args.repeats + 1):
        for name, store in stores.items():
            start = time.perf_counter()
            labelled = fit.Labelled(spec, store, targets, F.binary_cross_entropy_with_logits, augment)
            fit.one_epoch(fitting, labelled, order)  # it reads the loss, and so waits for all
            if repeat:
                speeds[name].append(args.images / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    cli.exit_cleanly(main)
