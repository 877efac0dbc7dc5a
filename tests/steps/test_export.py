"""82_export.py: a bundle that predicts as its experiments do, and one line, nothing half-written, for what cannot be exported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import quick, trained
from helpers.refusals import refused
from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.scan import choose, export as bundle_export
from hemoct.scan.runners import Models

STEP, PREDICT = "scripts/82_export.py", "scripts/80_predict_scan.py"
EVALUATE = "task4_multilabel/03_evaluate.py"


@pytest.fixture
def export(work, run_step, monkeypatch):
    """The step on an experiment `e` of task 4 that is trained and evaluated."""
    trained.types(work)
    quick.evaluations(monkeypatch)
    where = ("--root", work.root, "--dataset", "toy")
    assert run_step(EVALUATE, *where, "--experiment", "e").code == 0
    return lambda *words: run_step(STEP, *words, *where)


def one_patient(work: Workspace, folder: Path) -> Path:
    folder.mkdir()
    for path in work.raw.glob("0001_0[0-9].png"):
        shutil.copy(path, folder)
    return folder


def test_a_bundle_predicts_what_its_experiment_predicts(work, run_step, export, tmp_path):
    result, out = export(), work.outputs / "bundle"
    assert result.code == 0 and "task 4 e (1)" in result.out and f"--models {out}" in result.out, result.err
    assert {path.name for path in out.iterdir()} == {
        "task4-fold0.onnx", "bundle.json", "MODEL_CARD.md", "SHA256SUMS", "82_export.run.json",
    }  # fmt: skip
    record = files.read_json(out / "82_export.run.json")
    assert record["status"] == "ok" and {Path(name).name for name in record["inputs"]} == {
        "best.pt",
        "model.json",
        "metrics.json",
    }
    assert str(work.root) not in (out / "bundle.json").read_text() + (out / "MODEL_CARD.md").read_text()
    images = one_patient(work, tmp_path / "one")
    for models, place in ((out, "ours"), (work.outputs, "theirs")):
        assert run_step(PREDICT, images, "--models", models, "--root", work.root, "--out", tmp_path / place).code == 0
    ours, theirs = (pd.read_csv(tmp_path / place / "slices.csv") for place in ("ours", "theirs"))
    names = [name for name in theirs if name.startswith("p_")]
    assert len(names) == 3 and np.abs(ours[names] - theirs[names]).max(axis=None) < 1e-5
    answers = [json.loads((tmp_path / place / "scan.json").read_text())["labels"] for place in ("ours", "theirs")]
    assert [one["threshold"] for one in answers[0]] == [one["threshold"] for one in answers[1]]

    assert "up to date" in export("--skip-if-done").out
    graph = (out / "task4-fold0.onnx").read_bytes()
    assert export("--fold", 0).code == 0 and (out / "task4-fold0.onnx").read_bytes() == graph


def test_the_card_says_what_the_evaluation_says(work, export):
    assert export().code == 0
    card = (work.outputs / "bundle" / "MODEL_CARD.md").read_text()
    metrics = files.read_json(work.task(4) / "e" / "metrics.json")["metrics"]
    for words in ("What it is not for", "No diagnosis", "AGPL-3.0-or-later", "## Limits", "patients", "splits.csv"):
        assert words in card
    low, high = metrics["f1_macro"]["ci95"]
    assert f"{metrics['f1_macro']['value']:.3f} ({low:.3f}-{high:.3f})" in card
    described = json.loads((work.outputs / "bundle" / "bundle.json").read_text())["tasks"][0]
    assert described["evaluation"]["metrics"] == metrics and described["evaluation"]["folds"][0]["temperatures"]
    assert described["training"][0]["mean"] > 0 and described["training"][0]["splits_sha256"]


def test_experiments_are_named_by_folder_or_by_task(work, export, tmp_path):
    place = work.task(4) / "e"
    assert export(place, "--out", tmp_path / "a").code == 0 and export("--experiment", "4=e", "--out", tmp_path / "b").code == 0
    names = ("task4-fold0.onnx", "bundle.json", "MODEL_CARD.md")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert refused(export(place, "--experiment", "4=other"), "two experiments of task 4")
    assert refused(export(work.outputs), "no experiment") and refused(export(work.task(4) / "none"), "not there")
    assert refused(export("--experiment", "4=none"), "none (task 4)") and export("--experiment", "9=e").code == 2
    assert refused(export("--fold", 3), "no model of fold 3")
    assert not (work.outputs / "bundle").exists()


def test_what_cannot_be_exported_stops_in_one_line_and_leaves_nothing(work, export, tmp_path, monkeypatch):
    fold = work.task(4) / "e" / "fold0"
    with monkeypatch.context() as broken:
        broken.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
        assert refused(export(), "simplecnn", "cannot be exported")
    weights = (fold / "best.pt").read_bytes()
    (fold / "best.pt").write_bytes(weights[:100])
    assert refused(export("--experiment", "4=e"), "trained again since the evaluation", EVALUATE)
    (fold / "best.pt").write_bytes(weights)
    (work.task(4) / "e" / "metrics.json").rename(tmp_path / "metrics.json")
    assert refused(export(), "not evaluated yet", EVALUATE)
    (tmp_path / "metrics.json").rename(work.task(4) / "e" / "metrics.json")
    (fold / "best.pt").unlink()
    assert refused(export("--experiment", "4=e"), "no network of its own") and refused(export(), "no task has a trained model")
    assert not (work.outputs / "bundle").exists() and not list(work.outputs.glob(".tmp-*"))


def test_nothing_but_an_older_bundle_is_replaced(work, export, tmp_path):
    assert refused(export("--out", work.raw), "is no bundle")
    (tmp_path / "mine").mkdir()
    for name in ("bundle.json", "notes.txt"):
        (tmp_path / "mine" / name).write_text("{}")
    assert refused(export("--out", tmp_path / "mine"), "also holds notes.txt") and (tmp_path / "mine" / "notes.txt").exists()
    (tmp_path / "file").write_text("")
    assert refused(export("--out", tmp_path / "file"), "is no bundle")
    out = tmp_path / "bundle"
    assert export("--out", out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".json"}
    (work.task(4) / "e" / "metrics.json").rename(tmp_path / "metrics.json")
    assert refused(export("--out", out), "not evaluated yet")
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".json"} == before
    assert refused(export("--models", out), "exported already")
    for path in out.iterdir():  # as a first call leaves it that is killed
        if path.name != "82_export.run.json":
            path.unlink()
    (tmp_path / "metrics.json").rename(work.task(4) / "e" / "metrics.json")
    assert export("--out", out).code == 0 and (out / "bundle.json").is_file()


def test_data_sets_of_one_name_do_not_go_into_one_bundle(work, export, tmp_path):
    shutil.copytree(work.task(4) / "e", tmp_path / "other" / "outputs" / "toy" / "task4" / "e")
    learned = choose.models([work.outputs], choose.Which(tasks=(4,)))
    other = choose.models([tmp_path / "other" / "outputs" / "toy"], choose.Which(tasks=(4,)))
    with pytest.raises(UserError, match="data sets of one name"):
        bundle_export.export(Models(learned.tasks, [], [*learned.learned, *other.learned], []), tmp_path / "out")
