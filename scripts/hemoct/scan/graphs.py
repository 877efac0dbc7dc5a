"""Trained networks as ONNX graphs, for a bundle. What stands before and after a network is inside, in the lines of its task.

A graph takes grey values as they are cached, uint8, and gives what hemoct.scan.runners promises; ONNX Runtime and PyTorch are
compared before it is kept. Detectors of Ultralytics give candidates: letterbox and suppression stand in onnx_runners.
"""

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import timm.layers.padding
import torch
from torch import nn

from hemoct.base.errors import UserError, one_line
from hemoct.scan import onnx_runners
from hemoct.scan.torch_runners import ROOMS, TorchClassifier
from hemoct.training import inference
from hemoct.training.specs import Spec

OPSET = 20  # the first with affine grids, the last that the tracing exporter knows
CLOSE = 1e-3  # of probabilities, which lie in 0..1
LEVELS = 2  # of 255; a rounding may fall to the other side
PIXELS = 0.1
CPU = torch.device("cpu")
Example = dict[str, torch.Tensor]
"""inputs by their names; the first axis of each is free"""


class Classify(nn.Module):
    """uint8 (b, planes, side, side) to probabilities, float64 (b, classes), and where there is a `gradient` maps (b, k, k).

    `gradient` (1, channels, k, k): that of the first class's logit at the layer `name`, the same for all images; see `_gradient`.
    """

    outputs = ("probabilities",)

    def __init__(self, model: nn.Module, spec: Spec, at: tuple[str, torch.Tensor] | None) -> None:
        super().__init__()
        self.model, self.spec, self.kept = model, spec, None
        if at is not None:
            self.outputs = ("probabilities", "maps")
            self.register_buffer("gradient", at[1])
            model.get_submodule(at[0]).register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: tuple, output: torch.Tensor) -> None:
        self.kept = output.clone()  # what follows may change it in place

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.model((pixels.float() / 255 - self.spec.mean) / self.spec.std).float()
        probabilities = inference.activated(logits.double(), getattr(self.spec, "exclusive", False))
        if len(self.outputs) == 1:
            return (probabilities,)
        return probabilities, (self.gradient * self.kept).sum(dim=1).relu()


class Candidates(nn.Module):
    """Of Ultralytics: uint8 (b, 1, height, width), letterboxed, to float32 (b, 4 + classes, n): centre, size, confidences."""

    outputs = ("candidates",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if (stride := int(model.stride.max())) != onnx_runners.STRIDE:
            raise UserError(f"its network has a stride of {stride} px, only those of {onnx_runners.STRIDE} px are exported")
        head = model.model[-1]
        if getattr(head, "one2one_cv2", None) is not None:
            head.end2end = False  # as its predictor does where nothing else is said
        head.dynamic, head.export, head.format = True, True, "onnx"  # sizes are free; no list of feature maps beside
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.model((pixels.float() / 255).expand(-1, 3, -1, -1)),)


class Boxes(nn.Module):
    """Of torchvision: one slice in its square, uint8 (1, 1, side, side), to float64 (k, 6) in pixels of the square."""

    outputs = ("boxes",)

    def __init__(self, model: nn.Module, spec: Spec) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.room = importlib.import_module("hemoct.detection.torchvision_models")

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.room.in_columns(self.model(self.room.as_input(pixels.float() / 255, self.spec))[0], self.spec),)


class Patches(nn.Module):
    """squares, rows, places of runners.Segmenter (places float32) to patches, uint8 (k, side, side)."""

    outputs = ("patches",)

    def __init__(self, model: nn.Module, spec: Spec) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.networks = importlib.import_module("hemoct.segmentation.networks")
        self.windows = importlib.import_module("hemoct.segmentation.windows")

    def forward(self, squares: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor]:
        placed = self.windows.placement(places, self.spec.source_size)
        cut = self.windows.cut(squares[rows].float() / 255, placed, self.spec.image_size)
        return (self.networks.levels(self.model, self.spec, cut),)


def write(task: int, folder: Path, path: Path) -> str:
    """Write the network of a fold's folder as a graph; returns its kind (onnx_runners.KINDS). UserError where it cannot be."""
    networks = importlib.import_module(f"hemoct.{ROOMS[task]}.networks")
    model, spec = networks.load(folder, CPU)
    try:
        model = model.requires_grad_(False).to(memory_format=torch.contiguous_format)  # a graph knows no other
        kind, graph, example = _graph(task, model, spec, folder)
        _export(graph, example, path)
        _stop_if_other(kind, graph, example, path)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except Exception as error:  # an operation that ONNX lacks makes torch raise anything
        name = getattr(spec, "backbone", None) or getattr(spec, "model", "")
        raise UserError(f"{folder}: its network ({name}) cannot be exported to ONNX ({one_line(error)}); take another") from None
    return kind


def _graph(task: int, model: nn.Module, spec: Spec, folder: Path) -> tuple[str, nn.Module, Example]:
    """The kind of a network, what becomes its graph, and an example of two inputs."""
    random = torch.Generator().manual_seed(0)

    def grey(*shape: int) -> torch.Tensor:
        return torch.randint(256, shape, dtype=torch.uint8, generator=random)

    side = spec.image_size
    if task == 2:
        if importlib.import_module("hemoct.detection.networks").family(spec.model).__name__.endswith("yolo"):
            return "candidates", Candidates(model).eval(), {"pixels": grey(2, 1, side, side)}
        return "boxes", Boxes(model, spec).eval(), {"pixels": grey(1, 1, side, side)}
    if task == 3:
        planes, size = 2 * spec.context + 1, spec.source_size
        places = torch.tensor([[0, 0, size], [size // 8, -size // 8, size // 2], [3, size // 2, size]], dtype=torch.float32)
        rows = torch.tensor([0, 1, 1])
        return "patches", Patches(model, spec).eval(), {"squares": grey(2, planes, size, size), "rows": rows, "places": places}
    pixels = grey(2, getattr(spec, "planes", 1), side, side)
    at = _gradient(TorchClassifier(model, spec, CPU, folder), pixels)
    return "classifier", Classify(model, spec, at).eval(), {"pixels": pixels}


def _gradient(network: TorchClassifier, pixels: torch.Tensor) -> tuple[str, torch.Tensor] | None:
    """The layer of a classifier's maps and the gradient there, where it does not depend on the image; None where it does.

    It does not where pooling and a linear layer follow, as in most networks: then a graph without gradients gives the same maps.
    """
    if network.layer is None:
        return None
    gradient = network.at_layer(pixels.numpy())[1].detach()
    return (network.layer, gradient[:1]) if torch.allclose(gradient[:1], gradient, rtol=1e-4, atol=1e-9) else None


@contextlib.contextmanager
def _static_padding() -> Iterator[None]:
    """Sizes of maps are numbers: else timm's padding to the same size becomes a part of the graph that is worked out anew."""
    usual = timm.layers.padding.get_same_padding
    with mock.patch.object(timm.layers.padding, "get_same_padding", lambda size, *rest: usual(int(size), *rest)):
        yield


def _export(graph: nn.Module, example: Example, path: Path) -> None:
    free = {name: {0: f"{name}_0"} for name in (*example, *graph.outputs)}
    if isinstance(graph, Candidates):
        free = {"pixels": {0: "slices", 2: "height", 3: "width"}, "candidates": {0: "slices", 2: "n"}}
    elif isinstance(graph, Boxes):
        free = {"boxes": {0: "n"}}
    fixed = isinstance(graph, Candidates | Boxes)
    with warnings.catch_warnings(), torch.inference_mode(), contextlib.nullcontext() if fixed else _static_padding():
        warnings.simplefilter("ignore")  # that it is the older exporter, and that sizes became numbers
        torch.onnx.export(
            graph, tuple(example.values()), str(path), input_names=list(example), output_names=list(graph.outputs),
            dynamic_axes=free, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    onnx.checker.check_model(str(path), full_check=False)


@torch.inference_mode()
def _stop_if_other(kind: str, graph: nn.Module, example: Example, path: Path) -> None:
    """Stop where ONNX Runtime says something else than PyTorch; also of one input instead of two."""
    session = onnx_runners.session(path, 1)
    inputs = [example]
    if kind != "boxes":
        inputs.append({name: value if name == "squares" else value[:1] for name, value in example.items()})
    for given in inputs:
        expected = [value.numpy() for value in graph(*given.values())]
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for name, ours, theirs in zip(graph.outputs, found, expected, strict=True):
            if ours.shape != theirs.shape or not _is_close(name, ours.astype(float), theirs.astype(float)):
                raise UserError(f"ONNX Runtime and PyTorch differ in {name} of this network; it cannot be exported")


def _is_close(name: str, ours: np.ndarray, theirs: np.ndarray) -> bool:
    if name == "candidates":
        return _is_close("places", ours[:, :4], theirs[:, :4]) and _is_close("", ours[:, 4:], theirs[:, 4:])
    if name == "boxes":
        return _is_close("places", ours[:, :4], theirs[:, :4]) and _is_close("", ours[:, 4:], theirs[:, 4:])
    scale = {"places": PIXELS, "patches": LEVELS, "maps": CLOSE * max(1.0, float(theirs.max(initial=0)))}.get(name, CLOSE)
    return bool(np.abs(ours - theirs).max(initial=0) <= scale)
