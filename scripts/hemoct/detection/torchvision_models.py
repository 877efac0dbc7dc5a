"""torchvision's detectors (Faster R-CNN, RetinaNet, FCOS): built for few lesions, trained with the loop of all tasks.

Their input is the grey cache, repeated to three channels; boxes are moved to the cache's square and back (hemoct.data.boxes).
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import detection, get_model, get_model_weights, list_models
from torchvision.models.detection.anchor_utils import AnchorGenerator

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes, images, prepared
from hemoct.data.fusion import LEAST_CONFIDENCE, MOST_BOXES
from hemoct.detection import metrics
from hemoct.detection.data import image_sizes
from hemoct.detection.networks import CT, DetectorSpec, FoldTraining, not_fetched, unknown
from hemoct.detection.options import Options
from hemoct.detection.predictions import Scene
from hemoct.training import augment, checkpoints, device as devices, pyramid, weights
from hemoct.training.batches import Store
from hemoct.training.fit import Fit
from hemoct.training.options import SCRATCH, Initial, Strength

LR = 3e-4  # of AdamW, for the default batch
LEAST_SIZE = 64
GROUPS = 8  # of channels, normalised together; divides the channels of every layer of these models
AUGMENTATIONS = {"none": None, "ct": CT}
# torchvision's defaults are for photographs with dozens of objects: 2,000 proposals and 512 sampled boxes an image. A slice has
# one to three lesions. fasterrcnn_mobilenet_v3_large_fpn, 256 px, one thread, slices a second in training and prediction:
# 0.85 and 1.9 by default, 3.2 and 22 with these proposals, 4.0 with 64 sampled boxes as well.
PROPOSALS = {
    "rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 100, "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_test": 50, "rpn_score_thresh": 0.0, "box_batch_size_per_image": 64, "box_score_thresh": LEAST_CONFIDENCE,
    "box_detections_per_img": MOST_BOXES,
}  # fmt: skip
CANDIDATES = {"topk_candidates": 200, "score_thresh": LEAST_CONFIDENCE, "detections_per_img": MOST_BOXES}
OPTIONS = {"fasterrcnn_": PROPOSALS, "retinanet_": CANDIDATES, "fcos_": CANDIDATES}
FIRST_CLASS = {"fasterrcnn_": 1, "retinanet_": 0, "fcos_": 0}  # number of the first class; 0 is Faster R-CNN's background
ANCHOR_SIDE = 1024  # px: of an image whose largest anchor, 512 px, is half of it, as the largest lesions are


def names() -> list[str]:
    """The detectors of torchvision that fit here."""
    return [name for name in list_models(module=detection) if name.startswith(tuple(OPTIONS))]


def stop_if_unfit(options: Options) -> None:
    """Stop at a name or a flag that these detectors cannot serve."""
    model, image_size, augmentation = options.network.model, options.network.image_size, options.augmentation.augment
    if model not in names():
        raise unknown(model, f"none of torchvision's detectors ({', '.join(names())})", names())
    if augmentation not in AUGMENTATIONS:
        raise UserError(f"--augment {augmentation} exists for Ultralytics' models only; {model} takes none or ct")
    if image_size < LEAST_SIZE:
        raise UserError(f"--image-size {image_size} is too small for {model}; {LEAST_SIZE} px is the least")
    if options.network.backbone:
        pyramid.Pyramid(options.network.backbone, get_model(model, weights=None, weights_backbone=None).backbone.fpn)


def build(spec: DetectorSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A detector for the classes of `spec`. Weights: `none`, `coco` (downloaded from PyTorch's server), a state_dict's file, or
    with a backbone `imagenet`, which are the backbone's.

    Normalisation layers stay frozen where the weights were trained with frozen ones, as torchvision's were.
    """
    size, family = spec.image_size, _family(spec)
    classes = len(spec.classes) + FIRST_CLASS[family]
    model = get_model(
        spec.model, weights=None, weights_backbone=None, num_classes=classes, min_size=size, max_size=size,
        image_mean=[0.0] * 3, image_std=[1.0] * 3, **OPTIONS[family],
    )  # fmt: skip
    if family != "fcos_":  # its anchors are the strides of its levels
        holder = model.rpn if family == "fasterrcnn_" else model
        usual = holder.anchor_generator
        scaled = tuple(tuple(side * size / ANCHOR_SIDE for side in level) for level in usual.sizes)
        holder.anchor_generator = AnchorGenerator(scaled, usual.aspect_ratios)
    if family == "fasterrcnn_":
        # With this and rpn_score_thresh 0 every slice has proposals: without any, the mean loss of a batch would be no number.
        model.rpn.min_size = 0.0
    if spec.backbone:
        model.backbone = pyramid.Pyramid(spec.backbone, model.backbone.fpn, initial)
    if spec.group_norm:
        _normalise_by_groups(model)
    if initial.weights not in ("none", "imagenet"):
        state = _fetched(spec.model) if initial.weights == "coco" else checkpoints.read_state(Path(initial.weights))
        checkpoints.load_fitting(model, state, initial.weights)
        if not any(name.endswith("num_batches_tracked") for name in state):
            for layer in _normalisations(model):
                layer.requires_grad_(False)
    return model


def group_norm(initial: Initial) -> bool:
    """Whether a model from these weights has group normalisation (Wu and He 2018) instead of batch normalisation.

    Models from scratch have, as in He, Girshick and Dollar 2019: batches of a detector are small, and --negatives makes them
    unlike the slices to which the running statistics would be applied later.
    """
    if initial.weights in weights.WORDS:
        return initial.weights == "none"
    return not any(name.endswith("running_mean") for name in checkpoints.read_state(Path(initial.weights)))


def _normalise_by_groups(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                groups = nn.GroupNorm(math.gcd(GROUPS, layer.num_features), layer.num_features)
                setattr(parent, name, nn.Sequential(groups, layer.act) if hasattr(layer, "act") else groups)  # timm's has both


def _family(spec: DetectorSpec) -> str:
    return next(name for name in OPTIONS if spec.model.startswith(name))


def _fetched(model: str) -> dict[str, torch.Tensor]:
    """The COCO weights of a model, from torch's cache or the network."""
    try:
        with contextlib.redirect_stderr(None):  # the hub prints there what it downloads
            return get_model_weights(model).DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise not_fetched(model, error) from None


def runner(model: nn.Module, spec: DetectorSpec) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """A function from grey slices (uint8, any size) to boxes in their own pixels: (k, 6) each, see detection.networks.detect."""
    device = next(model.parameters()).device

    def run(batch: list[np.ndarray]) -> list[np.ndarray]:
        squares = np.stack([images.resize(grey, spec.image_size) for grey in batch])
        with torch.inference_mode():
            outputs = model(as_input(torch.from_numpy(squares).to(device).unsqueeze(1).float() / 255, spec))
        squared = [in_columns(output, spec).cpu().numpy() for output in outputs]
        return [boxes.in_pixels(each, grey.shape, spec.image_size) for each, grey in zip(squared, batch, strict=True)]

    return run


def train(fold: FoldTraining, work: Workspace, device: torch.device) -> None:
    """Train on the fold's slices; writes model.json, best.pt, last.pt and history.csv."""
    lesions, training, augmentation = Lesions(work, fold, device), fold.options.training, fold.options.augmentation
    torch.manual_seed(training.seed)
    model = devices.place(build(fold.spec, fold.options.initial), device, fold.spec.image_size)
    fitting = Fit(model, fold.run, training, -(-len(fold.rows["train"]) // training.batch_size), monitor="map50_95")
    fold.spec.save(fold.run.folder)
    strength, axis = AUGMENTATIONS[augmentation.augment], augmentation.axis(fold.data.orientation)
    for epoch in fitting.epochs():
        numbers = one_epoch(fitting, lesions, strength, axis)
        if all(map(math.isfinite, numbers.values())):  # else `log` stops; boxes that are not finite would crash first
            numbers |= validate(fitting, lesions)
        fitting.log(epoch, **numbers)


class Lesions:
    """Slices and their boxes in the square of the cache, in the form of torchvision."""

    def __init__(self, work: Workspace, fold: FoldTraining, device: torch.device) -> None:
        data, spec, val = fold.data, fold.spec, fold.rows["val"]
        preparation = prepared.for_training(work, spec.prepare)
        self.store = Store(images.cached(work, data.table, spec.image_size, preparation=preparation), device)
        self.spec, self.train, self.val = spec, fold.rows["train"], val
        squared = [
            boxes.to_letterbox(of_slice, *size, spec.image_size)
            for of_slice, size in zip(data.boxes, image_sizes(work, data), strict=True)
        ]
        self.boxes = [torch.as_tensor(of_slice, dtype=torch.float32, device=device) for of_slice in squared]
        first = FIRST_CLASS[_family(spec)]
        self.labels = [torch.as_tensor(of_slice + first, device=device) for of_slice in data.numbers]
        table = data.table.iloc[val][["image_id", "patient"]].reset_index(drop=True)
        self._truth = (table, data.classes, [squared[row] for row in val], [data.numbers[row] for row in val])

    def targets(self, rows: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [{"boxes": self.boxes[row], "labels": self.labels[row]} for row in rows.tolist()]

    def scene(self, predicted: list[np.ndarray]) -> Scene:
        """Boxes that are predicted in the validation slices beside the true ones."""
        return Scene(*self._truth, predicted)


def one_epoch(fit: Fit, lesions: Lesions, strength: Strength | None, axis: str) -> dict[str, float]:
    """One pass over the training slices; the mean losses. `axis`: along which the patient's left and right lie."""
    order = torch.as_tensor(lesions.train)[torch.randperm(len(lesions.train), generator=fit.generator)]
    spec, total = lesions.spec, Losses("train")
    for position, batch in lesions.store.batches(order, fit.options.batch_size):
        targets = lesions.targets(order[position])
        if strength is not None:
            batch, moves = augment.augment(batch, strength, axis, fit.device_generator)
            targets = [_moved(target, move, spec.image_size) for target, move in zip(targets, moves, strict=True)]
        with fit.autocast():
            losses = fit.model(as_input(batch, spec), targets)
        fit.step(total.add(losses, len(batch)))
    return total.means()


def validate(fit: Fit, lesions: Lesions) -> dict[str, float]:
    """Losses and mAP of the validation slices; the backbone, which is most of the work, runs once for both."""
    spec, rows, predicted, total = lesions.spec, torch.as_tensor(lesions.val), [], Losses("val")
    torch.manual_seed(fit.options.seed)  # the losses are of sampled boxes: the same draw each epoch
    with torch.inference_mode():
        for position, batch in lesions.store.batches(rows, fit.options.batch_size):
            inputs, targets = as_input(batch, spec), lesions.targets(rows[position])
            with fit.autocast(), _backbone_once(fit.model, inputs):
                predicted += [in_columns(output, spec).cpu().numpy() for output in fit.model(inputs)]
                fit.model.train()
                for layer in _normalisations(fit.model):
                    layer.eval()
                total.add(fit.model(inputs, targets), len(batch))
    matched = metrics.match(lesions.scene(predicted))
    precision = metrics.average_precision(matched, np.ones((1, len(predicted)), dtype=np.int16))
    return total.means() | {name: float(value[0]) for name, value in precision.items()}


class Losses:
    """The mean losses of a part's batches: those of the boxes and those of the classes, under the names of history.csv."""

    def __init__(self, part: str) -> None:
        self.names, self.slices, self.sums = (f"{part}_box_loss", f"{part}_cls_loss"), 0, 0.0

    def add(self, losses: dict[str, torch.Tensor], slices: int) -> torch.Tensor:
        """Add the mean losses of a batch; returns their sum, which training minimises."""
        pair = torch.stack([sum(value for name, value in losses.items() if ("box" in name) is box) for box in (True, False)])
        self.sums = self.sums + pair.detach() * slices  # on the device: reading each loss would make the GPU wait
        self.slices += slices
        return pair.sum()

    def means(self) -> dict[str, float]:
        return dict(zip(self.names, (self.sums / self.slices).tolist(), strict=True))


@contextlib.contextmanager
def _backbone_once(model: nn.Module, batch: list[torch.Tensor]) -> Iterator[None]:
    """Within the context the features of a batch are computed once, in evaluation mode, however often the model runs."""
    model.eval()
    features = model.backbone(model.transform(batch)[0].tensors)
    model.backbone.forward = lambda _: features
    try:
        yield
    finally:
        del model.backbone.forward


def _normalisations(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def as_input(batch: torch.Tensor, spec: DetectorSpec) -> list[torch.Tensor]:
    """Grey slices (n, 1, size, size) in 0..1 as a list of three-channel images, the input of the models."""
    return list(((batch - spec.mean) / spec.std).expand(-1, 3, -1, -1))


def _moved(target: dict[str, torch.Tensor], move: torch.Tensor, size: int) -> dict[str, torch.Tensor]:
    corners, kept = augment.move_boxes(target["boxes"], move, size)
    return {"boxes": corners[kept], "labels": target["labels"][kept]}


def in_columns(output: dict[str, torch.Tensor], spec: DetectorSpec) -> torch.Tensor:
    """A model's output for one image as float64 (k, 6): corners, confidence, class number."""
    columns = (output["boxes"], output["scores"][:, None], output["labels"][:, None] - FIRST_CLASS[_family(spec)])
    return torch.cat([column.double() for column in columns], dim=1)
