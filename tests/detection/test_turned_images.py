"""Boxes that are found on turned images, in pixels of the files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.simulated_networks import find_disk
from hemoct.data.prepared import Shown
from hemoct.detection import networks, predict
from hemoct.prepare.preparation import Preparation


@pytest.mark.parametrize("present", ["up", "left", "down", "right", "unknown"])
@pytest.mark.parametrize("names", [(), ("text",)])
def test_boxes_come_back(tmp_path, monkeypatch, present, names):
    grey = np.zeros((40, 60), np.uint8)
    grey[5:12, 20:36] = 250
    Image.fromarray(grey).save(tmp_path / "a.png")
    seen = []
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.7)

    def runner(*given):
        run = find_disk(*given)
        return lambda batch: seen.extend(batch) or run(batch)

    monkeypatch.setattr(networks, "load", lambda *_: (model, SimpleNamespace(model="stub")))
    monkeypatch.setattr(networks, "family", lambda _: SimpleNamespace(runner=runner))
    shown = Shown(Preparation(names), "left", present)
    found = predict.detect([tmp_path / "a.png"], [Path("fold0")], 4, torch.device("cpu"), shown.image)
    np.testing.assert_allclose(found[0][0], [[20, 5, 36, 12, 0.7, 0]], atol=1e-6)
    turned = {"up": 1, "left": 0, "down": 3, "right": 2, "unknown": 0}[present]
    assert (seen[0] == np.rot90(grey, turned)).all()
