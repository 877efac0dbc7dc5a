"""What pre-training is for: with few labelled phantoms, a network that has restored many does better than one that has not."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield
from hemoct.data import splits
from hemoct.sources import phantom

SIDE, SLICES, PATIENTS = 64, 8, 60
COMMON = ("--backbone", "test_vit", "--image-size", SIDE, "--fold", 0, "--device", "cpu", "--lr")


def draw(work: Workspace) -> None:
    """Phantoms, about half of whose slices show the hematoma that each has; 36 are for training, of whom 5 % are two."""
    work.raw.mkdir(parents=True)
    rows = []
    for number in range(PATIENTS):
        volume = phantom.draw_volume(phantom.make_head((5, number + 1), 12), np.linspace(0.2, 0.9, SLICES), SIDE)
        for place, (grey, bleeding) in enumerate(zip(hounsfield.window(volume.hu, phantom.BRAIN), volume.bleeding, strict=True)):
            name = f"{number:04d}_{place:02d}"
            Image.fromarray(grey).save(work.raw / f"{name}.png")
            rows.append({"image_id": name, "patient": f"{number:04d}", "slice": place, "image": f"{name}.png", "mask": "",
                         "annotation": "", "hemorrhage": int(bleeding.any())})  # fmt: skip
    frame, dataset = pd.DataFrame(rows), tables.Dataset(work.dataset, "csv", ["hemorrhage"], orientation="left")
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_boxes(work, pd.DataFrame([], columns=tables.BOX_COLUMNS))
    tables.write_splits(work, splits.make(frame, ["hemorrhage"], seed=42))


@pytest.mark.slow
def test_an_autoencoder_helps_a_transformer_at_5_percent_of_the_labels(work, run_step):
    """It has to learn what a convolution is born with, that neighbours belong together: two patients do not show that."""
    draw(work)
    place = ("--root", work.root, "--dataset", "toy", *COMMON)
    result = run_step("scripts/07_pretrain.py", *place, "2e-3", "--epochs", 150, "--batch-size", 32, "--masked", 0.5,
                      "--experiment", "ae")  # fmt: skip
    assert result.code == 0, result.err

    def auroc(start: str, seed: int) -> float:
        name = f"{start}-{seed}"
        words = ("--weights", start, "--labelled", 0.05, "--seed", seed, "--experiment", name, "--epochs", 8, "--least-steps", 15,
                 "--batch-size", 16, "--augment", "affine")  # fmt: skip
        trained = run_step("task1_classification/01_train.py", *place, "1e-3", *words)
        assert trained.code == 0 and "the labels of 2 of 36 training patients" in trained.out, trained.err
        predicted = pd.read_csv(work.task(1) / name / "fold0" / "predictions.csv")
        return roc_auc_score(predicted["y_hemorrhage"], predicted["p_hemorrhage"])  # validation and test: 24 patients

    gains = [auroc("ae", seed) - auroc("none", seed) for seed in (1, 2, 3, 4)]
    assert np.mean(gains) > 0.02 and sum(gain > 0 for gain in gains) >= 3, gains
