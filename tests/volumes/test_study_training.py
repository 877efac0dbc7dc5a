"""Training on labels of studies, as steps: what is written, evaluated, resumed; flags and data that do not go together."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import bleeding_heads, interrupted, quick, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.report import results
from hemoct.training.options import Augmentation
from hemoct.volumes import study_train
from hemoct.volumes.study_options import Study

TRAIN, SCORE = "task1_classification/11_train_volume.py", "task1_classification/12_score_slices.py"
TINY = ("--device", "cpu", "--threads", 1, "--epochs", 2, "--image-size", 32, "--fold", 0, "--batch-size", 4, "--experiment", "e")
FROZEN = (*TINY, "--network", "attention", "--label", "hemorrhage-parts3")


@pytest.fixture
def step(run_step, work: Workspace):
    def run(name: str, *words: object):
        return run_step(name, "--root", work.root, "--dataset", "toy", *words)

    return run


@pytest.fixture
def heads(step, work: Workspace) -> Workspace:
    """Ten heads, with the side of each and whether a third of it bleeds."""
    bleeding_heads.make(work, patients=10, size=64)
    assert step("task1_classification/10_study_labels.py", "--one-sided", 0.5).code == 0
    assert step("task1_classification/10_study_labels.py", "--label", "hemorrhage", "--parts", 3).code == 0
    return work


def folder(work: Workspace, experiment: str = "e"):
    return work.task(1) / experiment / "fold0"


def test_a_volume_from_labels_to_metrics(step, heads, monkeypatch):
    quick.evaluations(monkeypatch)
    result = step(TRAIN, *TINY, "--network", "resnet10-3d", "--depth", 6, "--augment", "affine")
    assert result.code == 0, result.err
    assert {path.name for path in folder(heads).iterdir()} == {
        "best.pt", "last.pt", "model.json", "history.csv", "predictions.csv", "11_train_volume.run.json",
    }  # fmt: skip
    frame = tables.read_predictions(folder(heads))
    assert frame["image_id"].str.endswith("_03").all() and len(frame) == 4 and set(frame["part"]) == {"val", "test"}
    assert step("task1_classification/02_evaluate.py").code == 0
    content = files.read_json(folder(heads).parent / "metrics.json")
    assert content["labels"] == ["study_side_left"] and content["n"] == 2 and content["baselines"] == {}
    assert content["labels_mean"] is None, "what labels of slices mean says nothing of sides"
    (only,) = results.evaluated(heads.task(1))
    assert only.level == 3 and only.tested_on.startswith("2 studies of 2 patients"), "no rank among classifiers of slices"
    of_images, of_studies = (results.table([only], group) for group in results.GROUPS[1])
    assert of_images.rows == [] and of_studies.columns[:2] == ["experiment", "label"]
    assert of_studies.rows[0][:3] == ["e", "study_side_left", "toy, from scratch"]
    again = step(TRAIN, *TINY, "--network", "resnet10-3d", "--depth", 6, "--augment", "affine", "--skip-if-done")
    assert again.code == 0 and "up to date" in again.out


def test_the_same_command_gives_the_same_weights(step, heads):
    flags = ("--network", "resnet10-3d", "--depth", 4, "--augment", "affine")
    states = []
    for name in ("a", "b"):
        assert step(TRAIN, *TINY[:-1], name, *flags).code == 0
        states.append(torch.load(folder(heads, name) / "last.pt", weights_only=True)["model"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("flags", [
    ("--network", "resnet10-3d", "--depth", 4),
    ("--network", "gru", "--cells", 2, "--depth", 4, "--transfer", "finetune", "--backbone", "resnet18", "--weights", "none"),
])  # fmt: skip
def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(step, heads, flags):
    flags = (*flags, "--augment", "affine", "--ema", 0.9)
    assert step(TRAIN, *TINY[:-1], "whole", *flags).code == 0
    with interrupted.after_epoch(1):
        assert step(TRAIN, *TINY, *flags).code == 130
    resumed = step(TRAIN, *TINY, *flags, "--resume")
    assert resumed.code == 0 and "goes on after epoch 1" in resumed.out, resumed.err
    whole, again = (torch.load(folder(heads, name) / "last.pt", weights_only=True)["model"] for name in ("whole", "e"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert refused(step(TRAIN, *TINY, *flags, "--resume", "--overwrite", "--lr", 0.5), "was trained with", "--lr")


def test_what_studies_taught_is_scored_on_slices(step, heads, monkeypatch):
    quick.evaluations(monkeypatch)
    result = step(TRAIN, *FROZEN)
    assert result.code == 0, result.err
    scores = tables.read_csv(
        folder(heads) / "slice_scores.csv", ["image_id", "study", "attention", "p_study_hemorrhage"], numbers=False
    )
    assert len(scores) == 4 * 6 and scores["image_id"].is_unique and scores["attention"].between(0, 1).all()
    assert len(tables.read_predictions(folder(heads))) == 4 * 3
    result = step(SCORE, "--experiment", "e")
    assert result.code == 0 and "e-slice e-attention" in result.out, result.err
    assert step("task1_classification/02_evaluate.py", "--experiment", "e-slice", "e-attention").code == 0
    content = files.read_json(folder(heads, "e-slice").parent / "metrics.json")
    assert content["labels"] == ["hemorrhage"] and content["n"] == 12 and content["baselines"]
    labels = tables.read_labels(heads, tables.read_dataset(heads)).set_index("image_id")["hemorrhage"]
    frame = tables.read_predictions(folder(heads, "e-attention"))
    assert (frame["y_hemorrhage"].to_numpy() == labels[frame["image_id"]].to_numpy()).all()
    assert step(TRAIN, *FROZEN, "--overwrite", "--seed", 1).code == 0
    assert refused(step("task1_classification/02_evaluate.py", "--experiment", "e-slice"), "has changed since", SCORE)


@pytest.mark.parametrize("flags", [
    ("--network", "gru", "--cells", 2),
    ("--network", "mean", "--transfer", "finetune", "--backbone", "resnet18", "--weights", "none", "--depth", 4, "--augment",
     "light"),
    ("--network", "resnet10-3d", "--depth", 6, "--sampling", "crop", "--precision", "bf16"),
], ids=["features of cells", "end to end", "cropped"])  # fmt: skip
def test_other_networks(step, heads, flags):
    result = step(TRAIN, *TINY, *flags)
    assert result.code == 0, result.err
    assert (folder(heads) / "slice_scores.csv").exists() == ("resnet10-3d" not in flags)


def test_a_mirrored_head_bleeds_on_the_other_side(heads):
    data = slices.load(heads, 32, None)
    options = SimpleNamespace(study=Study(), augmentation=Augmentation(augment="light"))
    seen = torch.zeros(64, 3, 32, 32)
    seen[:, :, :16] = 0.5  # bright at the top: the patient's left
    for classes, swapped in ((["study_side_left"], True), (["study_hemorrhage"], False)):
        changed = study_train._augment(options, replace(data, classes=classes), torch.Generator().manual_seed(0))
        moved, targets = changed(seen, torch.ones(64, 1))
        at_top = moved[:, 0, :8].mean(dim=(1, 2)) > moved[:, 0, -8:].mean(dim=(1, 2))
        assert 10 < at_top.sum() < 54, "half are mirrored"
        assert torch.equal(targets[:, 0] == 1, at_top) if swapped else (targets == 1).all()
    three = study_train._augment(
        options, replace(data, classes=["study_side_left", "study_side_right", "study_side_x"]), torch.Generator()
    )
    moved, _ = three(seen, torch.zeros(64, 3))
    assert (moved[:, 0, :8].mean(dim=(1, 2)) > moved[:, 0, -8:].mean(dim=(1, 2))).all(), "none is mirrored"


@pytest.mark.parametrize(("flags", "words"), [
    (("--label", "nothing"), ("is missing; there are: hemorrhage-parts3, side", "10_study_labels.py")),
    (("--network", "attention", "--features", "x"), ("learns from labels of studies alone", "labels of slices")),
    (("--features", "x"), ("--features x goes with --network gru, attention, mean",)),
    (("--network", "gru", "--features", "x"), ("holds no trained experiment",)),
    (("--slice-mm", 5), ("--slice-mm goes with --sampling crop",)),
    (("--slice-mm", 5, "--sampling", "crop"), ("does not know the spacing (spacing_z) of patient 0001",)),
    (("--network", "densenet121-3d", "--depth", 8), ("densenet121-3d cannot take 8 x 32 x 32",)),
    (("--weights", "nowhere.pth"), ("nowhere.pth", "no such file")),
    (("--network", "gru", "--weights", "none"), ("--weights none: features of a network that was never trained",)),
    (("--protocol", "slice"), ("unrecognized arguments: --protocol",)),
])  # fmt: skip
def test_flags_that_do_not_go(step, heads, flags, words):
    assert refused(step(TRAIN, *TINY, *flags), *words)


def test_attention_does_not_start_from_what_learned_slices(step, heads):
    taught = folder(heads, "taught")
    taught.mkdir(parents=True)
    torch.save({}, taught / "best.pt")
    files.write_json(taught / "model.json", {"task": 1, "classes": ["hemorrhage"], "mean": 0.5, "std": 0.5})
    assert refused(step(TRAIN, *FROZEN, "--weights", taught / "best.pt"), "learned labels of slices")


def test_slices_that_are_gone_or_all_alike(step, heads):
    path = heads.work / "studies" / "side" / "study_labels.csv"
    table = tables.read_csv(path, ["study"], numbers=False)
    tables.write_csv(path, table.assign(study_side_left=1))
    assert refused(step(TRAIN, *TINY, "--depth", 4), "all images of the training have the same labels")
    tables.write_csv(path, table.assign(image_id=table["image_id"].replace("0001_03", "0002_02")))
    assert refused(step(TRAIN, *TINY), "0002_02 is no slice of study 0001 any more", "10_study_labels.py")
    tables.write_csv(path, table.assign(patient="9" + table["patient"]))
    assert refused(step(TRAIN, *TINY), "speaks of no patient that is used here")


def test_scores_need_a_network_that_sees_slices(step, heads):
    assert step(TRAIN, *TINY, "--depth", 4, "--network", "resnet10-3d", "--epochs", 1).code == 0
    assert refused(step(SCORE, "--experiment", "e"), "says nothing of slices", "gru, attention or mean")
    assert refused(step(SCORE, "--experiment", "other"), "holds no trained fold")


def test_a_study_is_not_known_by_the_labels_of_its_middle_slice(step, work, monkeypatch):
    """Every second slice of the toy is positive, so that a study is, and its middle one may not be."""
    quick.evaluations(monkeypatch)
    toy.make(work, patients=10, slices=5)
    frame = tables.read_labels(work, tables.read_dataset(work))
    frame.loc[frame["patient"].astype(int) % 2 == 0, "hemorrhage"] = 0
    tables.write_labels(work, frame, tables.read_dataset(work))
    assert step("task1_classification/10_study_labels.py", "--label", "hemorrhage").code == 0
    result = step(TRAIN, *TINY, "--network", "mean", "--label", "hemorrhage")
    assert result.code == 0, result.err
    assert step("task1_classification/02_evaluate.py").code == 0
    assert np.isin(tables.read_predictions(folder(work))["y_study_hemorrhage"], [0, 1]).all()


@pytest.mark.slow
def test_a_3d_network_finds_the_side(step, work):
    """About three minutes of one core."""
    truth = bleeding_heads.make(work, patients=240, slices=8, plain=True).set_index("patient")["left"]
    assert step("task1_classification/10_study_labels.py", "--one-sided", 0.7).code == 0
    words = ("--network", "resnet10-3d", "--depth", 8, "--image-size", 32, "--augment", "light", "--epochs", 16, "--patience", 16)
    assert step(TRAIN, *words, "--fold", 0, "--device", "cpu", "--experiment", "e").code == 0
    frame = tables.read_predictions(folder(work))
    frame = frame[frame["part"] == "test"]
    right = (frame["p_study_side_left"] > 0.5).to_numpy() == truth[frame["patient"]].to_numpy()
    assert len(right) > 40 and right.mean() > 0.95
