"""What scripts/benchmark_throughput.py measures: the own loop of each task over random slices, and what the bare one needs."""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hemoct.base.runs import Run
from hemoct.classification import networks as classifiers, train as classification
from hemoct.multilabel import networks as multilabel_networks, train as multilabel
from hemoct.multilabel.options import Augmentation as LabelAugmentation, Balance
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.segmentation import networks as segmenters, train as segmentation, windows
from hemoct.segmentation.options import STRENGTHS as SEGMENTER_STRENGTHS
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import device, fit, inference
from hemoct.training.batches import Stacks, Store
from hemoct.training.options import STRENGTHS, Training

SOURCE, WINDOW = 512, 128  # px: task 3 cuts windows of this side out of squares of that
TYPES = ["any", "EDH", "IPH", "IVH", "SAH", "SDH"]
Batches = list[tuple[torch.Tensor, torch.Tensor]]


class Case:
    """A task's own loop over random slices, and what the bare loop needs to do the same arithmetic."""

    model: nn.Module
    criterion: fit.Criterion
    one_epoch: Callable[[], Any]
    validate: Callable[[], dict[str, float]]
    """on the first third of the slices"""
    predict: Callable[[], Any]
    batches: Callable[[int], Batches]
    """inputs as the network gets them, and targets, `size` a batch"""
    forward: Callable[[torch.Tensor], Any]
    """what prediction does with a batch"""

    def __init__(self, args: argparse.Namespace, backbone: str, where: torch.device, folder: Path) -> None:
        self.args, self.where, self.random = args, where, np.random.default_rng(args.seed)
        self.training = Training(epochs=1000, lr=1e-5, batch_size=args.batch_size, precision=args.precision, seed=args.seed)
        self.run, self.steps = Run("scripts/benchmark_throughput.py", args, folder, []), -(-args.shown // args.batch_size)
        self.rows = self.random.permutation(args.slices)[: args.shown]

    def start(self, spec: Any, model: nn.Module) -> fit.Fit:
        """The model on the device, in training."""
        self.spec, self.model = spec, device.place(model, self.where, spec.image_size)
        fitting = fit.Fit(self.model, self.run, self.training, self.steps)
        next(fitting.epochs())
        self.autocast, self.fitting, self.validated = fitting.autocast, fitting, self.rows[: max(1, len(self.rows) // 3)]
        return fitting

    def noise(self, side: int) -> np.ndarray:
        return self.random.integers(0, 256, (self.args.slices, side, side), dtype=np.uint8)

    def common(self, size: int) -> dict[str, Any]:
        """Fields of model.json."""
        return {"image_size": size, "mean": 0.5, "std": 0.3, "protocol": "patient", "split": "folds", "fold": 0,
                "splits_sha256": ""}  # fmt: skip

    def labelled(self, fitting: fit.Fit, labelled: fit.Labelled) -> None:
        """Tasks 1 and 4: whole slices with targets."""
        self.criterion = labelled.criterion
        order = torch.as_tensor(self.rows)
        self.one_epoch = lambda: fit.one_epoch(fitting, labelled, order)
        self.validate = lambda: classification.validate(fitting, labelled, self.validated)
        self.predict = lambda: inference.logits(self.model, self.spec, labelled.source, self.rows, 4 * self.args.batch_size)
        self.forward = lambda batch: self.model(batch).float()
        self.batches = lambda size: [((batch - self.spec.mean) / self.spec.std, labelled.targets[order[position].to(self.where)])
                                     for position, batch in labelled.source.batches(order, size)]  # fmt: skip


class Task1(Case):
    """Whole slices, one label."""

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size = self.args.image_size
        spec = classifiers.ClassifierSpec(**self.common(size), backbone=of_case[1], classes=["noise"], exclusive=False)
        fitting = self.start(spec, classifiers.build(spec))
        targets = torch.as_tensor(self.random.integers(0, 2, (self.args.slices, 1)), dtype=torch.float32, device=self.where)
        loss = classification.criterion(targets, False, False)
        augment = fit.augmentation(STRENGTHS[self.args.augment], "horizontal", fitting.device_generator)
        self.labelled(fitting, fit.Labelled(spec, Store(self.noise(size), self.where), targets, loss, augment))


class Task4(Case):
    """Three neighbouring slices, several labels, a head of its own for any of them."""

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size, n = self.args.image_size, self.args.slices
        spec = MultiLabelSpec(**self.common(size), backbone=of_case[1], classes=TYPES, heads=["any", "types"], context=1)
        fitting = self.start(spec, multilabel_networks.build(spec))
        of_all = self.random.integers(0, 2, (n, len(TYPES))).astype(np.float32)
        targets = torch.as_tensor(of_all, device=self.where)
        loss = multilabel.criterion(Balance(), spec.heads, targets)
        chosen = LabelAugmentation(augment=self.args.augment)
        augment = multilabel.augmentation(chosen, "horizontal", of_all, TYPES, fitting.device_generator)
        planes = torch.as_tensor((np.arange(n)[:, None] + [-1, 0, 1]).clip(0, n - 1))
        source = Stacks(Store(self.noise(size), self.where), planes)
        self.labelled(fitting, fit.Labelled(spec, source, targets, loss, augment))


class Task3(Case):
    """Whole slices and their masks."""

    boxes = False

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size, side = (WINDOW, SOURCE) if self.boxes else (self.args.image_size, self.args.image_size)
        spec = SegmenterSpec(**self.common(size), model="unet", encoder=f"tu-{of_case[1]}", context=0, source_size=side,
                             region="slice", mirror="horizontal")  # fmt: skip
        fitting = self.start(spec, segmenters.build(spec))
        slices = segmentation.Squares(self.noise(side), np.arange(self.args.slices)[:, None], spec, self.where)
        slices.mask = Store(self.noise(side), self.where)
        self.criterion = segmenters.criterion("bce-dice")
        masked = segmentation.Masked(slices, self.criterion, SEGMENTER_STRENGTHS[self.args.augment], "horizontal")
        looked_at = windows.whole_slices(self.rows, side)
        if self.boxes:
            corners = self.random.integers(0, SOURCE - WINDOW, (len(self.rows), 2))
            places = np.column_stack([corners, np.full(len(corners), float(WINDOW))])
            looked_at = windows.Windows(self.rows, places, np.ones(len(self.rows)))
        self.one_epoch = lambda: segmentation.one_epoch(fitting, masked, looked_at)
        validation = segmentation.Validation.of(slices, self.validated, self.validated // 20)
        self.validate = lambda: segmentation.validate(fitting, masked, validation, looked_at.of(self.validated))
        self.predict = lambda: list(segmentation.patches(self.model, slices, looked_at, 4 * self.args.batch_size))
        self.forward = functools.partial(mirrored_mean, self.model)
        self.batches = lambda size: [
            (segmenters.normalised(batch, spec), mask) for batch, mask in slices.batches(looked_at, size)
        ]


class Task3Boxes(Task3):
    """Windows cut out of larger squares, as around boxes."""

    boxes = True


def mirrored_mean(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Probabilities of a segmenter as it predicts: of the image and its mirror image."""
    return (model(batch).sigmoid() + model(batch.flip(3)).sigmoid().flip(3)) / 2


CASES = {"1": Task1, "3": Task3, "3-boxes": Task3Boxes, "4": Task4}
