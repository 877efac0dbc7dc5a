"""Fold folders with networks that were never trained, but whose weights and running statistics are not the initial ones."""

from pathlib import Path

import torch
from torch import nn

from hemoct.classification import networks as classification_networks
from hemoct.classification.predictions import ClassifierSpec
from hemoct.detection import networks as detection_networks, options as detection_options, yolo as detection_yolo
from hemoct.detection.predictions import DetectorSpec
from hemoct.multilabel import networks as multilabel_networks
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.segmentation import networks as segmentation_networks
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import checkpoints
from hemoct.training.specs import Spec

KNOWN = {"protocol": "patient", "split": "folds", "fold": 0, "splits_sha256": "x", "mean": 0.2, "std": 0.3}


def classifier(**more) -> ClassifierSpec:
    usual = {"image_size": 32, "backbone": "resnet10t", "classes": ["hemorrhage"], "exclusive": False}
    return ClassifierSpec(**KNOWN | usual | more)


def types(**more) -> MultiLabelSpec:
    usual = {"image_size": 32, "backbone": "simplecnn", "classes": ["IPH", "SAH"], "heads": ["IPH", "SAH"]}
    return MultiLabelSpec(**KNOWN | usual | more)


def put(folder: Path, spec: Spec) -> Path:
    """Write model.json and best.pt of a network of any task."""
    torch.manual_seed(0)
    planes = 3
    if isinstance(spec, DetectorSpec):
        model = detection_networks.family(spec.model).build(spec)
    elif isinstance(spec, SegmenterSpec):
        model, planes = segmentation_networks.build(spec), 2 * spec.context + 1
    elif isinstance(spec, MultiLabelSpec):
        model, planes = multilabel_networks.build(spec), spec.planes
    else:
        model, planes = classification_networks.build(spec), 1
    if not isinstance(spec, DetectorSpec) or not spec.model.startswith(detection_options.FAMILIES):
        with torch.no_grad():  # statistics of noise
            model.train()(torch.rand(8, planes, spec.image_size, spec.image_size))
    if hasattr(model, "model") and type(model.model[-1]).__name__ in detection_yolo.HEADS:
        for last in (each[-1] for each in (*model.model[-1].cv2, *model.model[-1].cv3)):
            nn.init.normal_(last.weight, std=0.6)  # else boxes are all alike
        for last in (each[-1] for each in model.model[-1].cv3):
            nn.init.uniform_(last.bias, -4, -2)  # and nothing is certain enough to be one
    spec.save(folder)
    checkpoints.save(folder / "best.pt", model.state_dict())
    return folder
