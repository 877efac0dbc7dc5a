"""On the real slices, where they are there: no lesion is changed by --prepare text, none is cut by --prepare head."""

import numpy as np
import pytest

from hemoct.base import tables
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.data import images
from hemoct.prepare import head as heads, methods
from hemoct.prepare.preparation import Preparation

WORK = Workspace(REPOSITORY, "phe-sich")
pytestmark = pytest.mark.skipif(not (WORK.raw.exists() and (WORK.work / "boxes.csv").exists()), reason="no real data here")


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_no_box_is_changed_or_cut(every):
    files = tables.read_labels(WORK, tables.read_dataset(WORK)).set_index("image_id")["image"]
    text, changed, cut, lost = Preparation(("text",)), [], [], []
    for box in tables.read_boxes(WORK).iloc[::every].itertuples():
        grey = images.read_grey(WORK.raw / files[box.image_id])
        inside = np.s_[int(box.ymin) : int(box.ymax), int(box.xmin) : int(box.xmax)]
        changed += [box.image_id] * bool((text.grey(grey)[inside] != grey[inside]).any())
        head = heads.find(grey)
        xmin, ymin, xmax, ymax = methods.head_part(head, grey.shape)
        cut += [box.image_id] * (not (xmin <= box.xmin and ymin <= box.ymin and xmax >= box.xmax and ymax >= box.ymax))
        brain = methods.brain(grey, head)
        lost.append(0.0 if brain is None else float((~brain[inside] & (grey[inside] < methods.BONE)).mean()))
    assert changed == [] and cut == [] and max(lost) < 0.05 and np.mean(lost) < 0.002
