"""The slices that an encoder is pre-trained on."""

import numpy as np

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, slices
from hemoct.data.slices import SliceData
from hemoct.pretrain.options import SUPERVISED, Options


def load(work: Workspace, options: Options) -> SliceData:
    """All slices of a data set; `targets` (n, 0) unless the method reads labels, then of the slices whose label is known."""
    method, selection = options.method, options.selection
    if method.method == SUPERVISED:
        return slices.load(work, method.image_size, method.label, selection.limit_patients, prepare=selection.prepare)
    labels = tables.read_labels(work, tables.read_dataset(work))
    chosen, _ = slices.choose(work, labels, np.full(len(labels), True), selection.limit_patients)
    preparation = prepared.for_training(work, selection.prepare)
    pixels = images.cached(work, chosen.table, method.image_size, preparation=preparation)
    return SliceData(**vars(chosen), classes=[], exclusive=False, targets=np.zeros((len(pixels), 0), np.float32), pixels=pixels)
