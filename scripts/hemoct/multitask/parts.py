"""What a trained network of several tasks leaves: a fold of task 1, a fold of task 3, and the sizes that it says."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hemoct.base import tables
from hemoct.classification import train as classification_train
from hemoct.data import images
from hemoct.data.slices import Fold
from hemoct.multitask import sizes
from hemoct.multitask.data import Data
from hemoct.multitask.networks import MultiTask, MultiTaskSpec
from hemoct.multitask.options import CLASSIFY, SCORES
from hemoct.segmentation import networks as segmentation_networks, train as segmentation_train
from hemoct.segmentation.train import Slices
from hemoct.segmentation.windows import whole_slices
from hemoct.training import checkpoints, device


@dataclass(frozen=True)
class Made:
    """A trained network, and the slices that it predicts."""

    model: MultiTask
    spec: MultiTaskSpec
    data: Data
    slices: Slices
    fold: Fold
    """with the folder of the network"""

    @property
    def rows(self) -> np.ndarray:
        """Validation and test slices."""
        return np.flatnonzero(self.fold.part != "train")

    def write(self, task: str, folder: Path, batch_size: int) -> list[Path]:
        """Write the ordinary network of a task as a fold of that task's room, with its predictions; returns the files."""
        spec, state = (
            (self.spec.classifier, self.model.body.state_dict())
            if task == CLASSIFY
            else (self.spec.segmenter, self.model.segmenter_state())
        )
        checkpoints.save(folder / "best.pt", checkpoints.portable(state))
        written = [folder / "best.pt", spec.save(folder), self._history(folder, task)]
        fold, where = replace(self.fold, folder=folder), self.slices.grey.device
        if task == CLASSIFY:
            return [*written, classification_train.predict(fold, self.data.labels, self.slices.grey.store, batch_size)]
        ordinary = device.place(segmentation_networks.load(folder, where)[0], where, spec.image_size)
        looked_at = whole_slices(self.rows, spec.image_size)
        drawn = segmentation_train.patches(ordinary, self.slices, looked_at, batch_size)
        return [*written, *segmentation_train.write_probabilities(fold, self.slices, looked_at, drawn)]

    def _history(self, folder: Path, task: str) -> Path:
        """history.csv as that of a network of this task alone."""
        losses = {f"train_{task}": "train_loss", f"val_{task}": "val_loss"}
        names = {"epoch": "epoch", "lr": "lr", **losses, SCORES[task]: SCORES[task], "seconds": "seconds"}
        history = tables.read_csv(self.fold.folder / "history.csv", names)
        return tables.write_csv(folder / "history.csv", history[list(names)].rename(columns=names))

    def write_sizes(self, said: np.ndarray) -> list[Path]:
        """Write sizes.csv and sizes.json, see sizes.write. `said`: by the head, of `rows`."""
        table, fractions = self.data.labels.table, self.data.fractions
        squares = images.sizes(self.slices.work, table).max(axis=1)[self.rows].astype(float) ** 2
        shares = {"true_px": fractions[self.rows], "predicted_px": (said.clip(0) * self.spec.size_scale) ** 2}
        frame = self.data.labels.about(self.fold, self.rows).reset_index(drop=True)
        frame = frame.assign(**{name: (share.astype(float) * squares).round(1) for name, share in shares.items()})
        usual = float(np.nanmean(fractions[self.fold.part == "train"])) * squares
        return sizes.write(self.fold.folder, frame, usual)
