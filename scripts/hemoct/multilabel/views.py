"""One encoder for several views, and a head for each: which head speaks for which image, and which labels it has learned.

A view is a group of labels.csv, such as the projections of one circulation in angiography. The network gives the logits of all
heads side by side; the head of another view is neither trained nor listened to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from hemoct.base.errors import UserError
from hemoct.multilabel import networks, predictions
from hemoct.multilabel.data import LabelledSlices
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.training import inference
from hemoct.training.batches import Source
from hemoct.training.fit import Criterion

UNLEARNED = -torch.inf
"""the logit of a label that no training image of the view shows: probability 0"""


@dataclass(frozen=True)
class Heads:
    """The heads of a network, for the images of a data set in their order."""

    member: torch.Tensor
    """the number of the head that speaks for each image, int64 (n,)"""
    learned: torch.Tensor
    """bool (heads, labels)"""
    names: tuple[str, ...] = ()
    """of the views; empty where there is one head for all images"""

    @classmethod
    def one(cls, images: int, labels: int) -> Self:
        """One head for all images and labels."""
        return cls(torch.zeros(images, dtype=torch.long), torch.ones(1, labels, dtype=torch.bool))

    @classmethod
    def shared(cls, data: LabelledSlices, rows: np.ndarray, where: str) -> Self:
        """A head for each group of the data; it learns the labels that a training image of its view (of `rows`) shows.

        Stops where the images have no group, or all the same, and at a view that shows no label in training. `where`: a fold.
        """
        groups = predictions.groups_of(data.table, "--share-encoder")
        names = tuple(sorted(set(groups)))
        if len(names) < 2:
            raise UserError(f"--share-encoder: all images have the group {names[0]}, there is nothing to share; leave it out")
        member = np.searchsorted(names, groups)
        learned = np.array([(data.targets[rows][member[rows] == view] == 1).any(axis=0) for view in range(len(names))])
        for name, of_view in zip(names, learned, strict=True):
            if not of_view.any():
                raise UserError(
                    f"--share-encoder: {where} has no training image of the view {name} that shows a label; use more patients, "
                    "or train the other views by themselves (--group)"
                )
        return cls(torch.as_tensor(member), torch.as_tensor(learned), names)

    @classmethod
    def of(cls, spec: MultiLabelSpec, groups: np.ndarray) -> Self:
        """Those of a trained network, for images of these groups, str (n,)."""
        names = tuple(spec.views)
        unknown = sorted(set(groups) - set(names))
        if unknown:
            raise UserError(f"the models know the views {', '.join(names)}, and none called {unknown[0]}; leave such images out")
        learned = [[name in labels for name in spec.classes] for labels in spec.views.values()]
        return cls(torch.as_tensor([names.index(group) for group in groups]), torch.tensor(learned), names)

    def described(self, classes: list[str]) -> dict[str, list[str]]:
        """The labels that each view has learned, for model.json; empty where there is one head for all images."""
        return {
            name: [label for label, known in zip(classes, self.learned[view].tolist(), strict=True) if known]
            for view, name in enumerate(self.names)
        }

    def targets(self, truth: torch.Tensor) -> torch.Tensor:
        """Truth (n, labels) as that of all heads, (n, heads * labels): NaN for others, and for labels that are not learned."""
        if not self.names:
            return truth
        everything = torch.full((len(truth), *self.learned.shape), torch.nan)
        own = torch.where(self.learned[self.member], truth.cpu(), torch.nan)
        everything[torch.arange(len(truth)), self.member] = own
        return everything.flatten(1).to(truth)

    def own(self, logits: torch.Tensor, rows: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Of the logits of all heads (k, heads * labels) those of each image's own, (k, labels). `rows`: of these images."""
        if not self.names:
            return logits
        member = self.member[torch.as_tensor(rows)].to(logits.device)
        own = logits.view(len(logits), *self.learned.shape)[torch.arange(len(logits), device=logits.device), member]
        return own.masked_fill(~self.learned.to(logits.device)[member], UNLEARNED)

    def criterion(self, of_one: Criterion) -> Criterion:
        """The loss of all heads together: that of one, over all cells that are known."""
        labels = self.learned.shape[1]
        if not self.names:
            return of_one
        return lambda logits, targets: of_one(logits.reshape(-1, labels), targets.reshape(-1, labels))


def mean_of_models(folders: list[Path], source: Source, groups: np.ndarray, batch_size: int) -> np.ndarray:
    """Mean probabilities of models with a head for each view: float64 (n, labels). `groups`: of the source's images (n,)."""
    total, rows = 0.0, np.arange(len(groups))
    for folder in folders:
        model, spec = networks.load(folder, source.device, of_views=True)
        logits = inference.logits(model, spec, source, rows, batch_size)
        total = total + inference.probabilities(Heads.of(spec, groups).own(logits, rows), spec.exclusive)
    return total / len(folders)
