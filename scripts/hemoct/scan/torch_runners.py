"""Networks of fold folders, run by PyTorch: see hemoct.scan.runners. What they say is what the predicting steps say."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.explain import layers
from hemoct.explain.options import AUTO, METHODS
from hemoct.scan.runners import Classifier, Detector, Segmenter
from hemoct.training import device as devices, inference
from hemoct.training.specs import Spec

BATCH = 16  # slices or windows of tasks 2 and 3
ROOMS = {1: "classification", 2: "detection", 3: "segmentation", 4: "multilabel"}


def load(number: int, folders: list[Path], device: str, threads: int | None) -> list[Classifier | Detector | Segmenter]:
    """The networks of a task. The room of the task is imported here: a scan without task 2 needs no detector's library."""
    networks = importlib.import_module(f"hemoct.{ROOMS[number]}.networks")
    where = devices.pick(device, threads)
    kinds = {2: TorchDetector, 3: TorchSegmenter}
    return [kinds.get(number, TorchClassifier)(*networks.load(folder, where), where, folder) for folder in folders]


@dataclass
class _OnDevice:
    """A network in evaluation mode."""

    model: nn.Module
    spec: Spec
    device: torch.device
    folder: Path


class TorchClassifier(_OnDevice):
    """Of task 1 or 4."""

    @torch.inference_mode()
    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """See runners.Classifier."""
        return inference.probabilities(self.model(self._fed(pixels)).float(), getattr(self.spec, "exclusive", False))

    def maps(self, pixels: np.ndarray) -> np.ndarray | None:
        """HiResCAM (Draelos and Carin 2020) of the first class, as explain.maps, by the gradient at the layer alone."""
        if self.layer is None:
            return None
        activation, gradient = self.at_layer(pixels)
        return (gradient * activation).sum(dim=1).relu().cpu().numpy()

    def at_layer(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The activation of the layer of maps, and the gradient of the first class's logit there: (b, channels, k, k) each."""
        kept: list[torch.Tensor] = []

        def cut(_: nn.Module, __: tuple, output: torch.Tensor) -> torch.Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[-1].clone()  # what follows may change it in place

        handle = self.model.get_submodule(self.layer).register_forward_hook(cut)
        try:
            logit = self.model(self._fed(pixels))[:, 0].sum()
        finally:
            handle.remove()
        (gradient,) = torch.autograd.grad(logit, kept)
        return kept[0].detach(), gradient

    def _fed(self, pixels: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(np.array(pixels)).to(self.device).float().div_(255)
        return (images - self.spec.mean) / self.spec.std

    @cached_property
    def layer(self) -> str | None:
        """The layer that an explanation of the experiment chose for this fold, else the last with maps; None without any."""
        self.model.requires_grad_(False)
        planes = getattr(self.spec, "planes", 1)
        try:
            return layers.chosen(self.model, self.spec, planes, [self._explained() or AUTO])[-1]
        except UserError:
            return None

    def _explained(self) -> str | None:
        for method in METHODS[1::-1]:  # HiResCAM before Grad-CAM
            path = self.folder.parent / "explain" / method / "metrics.json"
            folds = files.read_json(path).get("folds", []) if path.is_file() else []
            for fold in folds:
                if fold["fold"] == experiments.fold_of(self.folder):
                    return fold["layer"]
        return None


class TorchDetector(_OnDevice):
    """Of task 2."""

    def boxes(self, grey: list[np.ndarray]) -> list[np.ndarray]:
        """See runners.Detector."""
        from hemoct.detection import networks

        return networks.detect(self.model, self.spec, grey, BATCH)


class TorchSegmenter(_OnDevice):
    """Of task 3."""

    def patches(self, squares: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See runners.Segmenter."""
        from hemoct.segmentation import train
        from hemoct.segmentation.windows import Windows

        many, planes = squares.shape[:2]
        around = np.arange(many * planes).reshape(many, planes)
        slices = train.Squares(squares.reshape(-1, *squares.shape[2:]), around, self.spec, self.device)
        made = list(train.patches(self.model, slices, Windows(rows, places, np.ones(len(rows))), BATCH))
        return np.stack(made) if made else np.zeros((0, self.spec.image_size, self.spec.image_size), np.uint8)
