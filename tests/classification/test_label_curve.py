"""The label curve: means over seeds and their intervals, paired differences, what cannot stand on one curve."""

import json
import shutil

import numpy as np
import pytest

from helpers import quick, simulated
from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.classification import label_curve
from hemoct.evaluation import bootstrap, metrics

STEP = "task1_classification/09_label_curve.py"


def put(work, frame, name: str, start: str, share: float, seed: int, skill: float) -> None:
    """An experiment of simulated predictions that says how it was trained."""
    simulated.predict(work, frame, experiment=name, folds=(0,), skill=skill, seed=seed)
    folder = work.task(1) / name / "fold0"
    arguments = {"weights": start, "labelled": share, "seed": seed, "epochs": 5, "fold": "0"}
    files.write_json(folder / "01_train.run.json", {"status": "ok", "arguments": arguments, "inputs": {}, "outputs": []})
    told = json.loads((folder / "model.json").read_text())
    labelled = {"share": share, "seed": seed, "patients": round(share * 12), "of": 12} if share < 1 else None
    origin = {"method": "autoencoder", "experiment": start} if start not in ("none", "imagenet") else None
    files.write_json(folder / "model.json", told | {"labelled": labelled, "initial_weights": origin})


@pytest.fixture
def experiments(work, run_step, monkeypatch) -> list[str]:
    """From scratch and from a pre-training `ae`, two seeds at 25 %, one at 100 %."""
    quick.evaluations(monkeypatch)
    frame = simulated.make(work, draw=True)
    for start, better in (("none", 0.0), ("ae", 1.5)):
        for share, seeds in ((0.25, (1, 2)), (1.0, (1,))):
            for seed in seeds:
                put(work, frame, f"{start}-{share}-{seed}", start, share, seed, 0.5 + share + better)
    result = run_step("task1_classification/02_evaluate.py", "--root", work.root, "--dataset", "toy")
    assert result.code == 0, result.err
    return sorted(path.name for path in work.task(1).glob("[!.]*-*-*"))


def test_values_are_means_over_seeds_and_intervals_those_of_the_same_patients(work, experiments):
    found = label_curve.read(work, experiments)
    made = label_curve.content(work, found, seed=3)
    assert [(cell["share"], cell["start"]) for cell in made["cells"]] == [
        (0.25, "none"),
        (0.25, "ae"),
        (1.0, "none"),
        (1.0, "ae"),
    ]
    cell = made["cells"][1]
    assert (cell["patients"], cell["of"], cell["seeds"], cell["paired_seeds"]) == (3, 12, [1, 2], [1, 2])
    table = found[0].evaluated.table.sort_values("image_id")
    drawn = bootstrap.weights(table["patient"].to_numpy(), table["fold"].to_numpy(), 100, 3)
    of = {one.evaluated.name: one.evaluated.at(table["image_id"].to_numpy()) for one in found}

    def auroc(name, weights):
        return metrics.auroc(of[name].evaluation.test.y, of[name].evaluation.test.p, weights)

    def difference(weights):
        return np.mean([auroc(f"ae-0.25-{seed}", weights) - auroc(f"none-0.25-{seed}", weights) for seed in (1, 2)], axis=0)

    entry = cell["difference"]["auroc"]
    assert entry["value"] == pytest.approx(difference(metrics.ones(len(table)))[0])
    assert entry["ci95"] == pytest.approx(bootstrap.interval(difference(drawn))[:2])
    assert cell["metrics"]["auroc"]["value"] == pytest.approx(np.mean(cell["metrics"]["auroc"]["by_seed"]))
    assert not made["cells"][0]["difference"] and made["notes"] == []


def test_the_step_writes_what_it_says_and_is_up_to_date_afterwards(work, experiments, run_step):
    words = (STEP, "--root", work.root, "--dataset", "toy", *experiments, "--name", "c", "--skip-if-done")
    result = run_step(*words)
    assert result.code == 0, result.err
    folder = work.task(1) / "label_curve" / "c"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "label_curve.csv", "label_curve.md", "label_curve.png", "09_label_curve.run.json"}  # fmt: skip
    page = (folder / "label_curve.md").read_text()
    assert "| labelled | from scratch | ae (autoencoder) |" in page and "0.25 (3 of 12 patients)" in page and "+" in page
    assert "up to date" in run_step(*words).out
    assert "evaluated" not in run_step("task1_classification/03_compare.py", "--root", work.root, "--dataset", "toy").err


def test_what_cannot_stand_on_one_curve_stops(work, experiments):
    shutil.copytree(work.task(1) / "none-0.25-1", work.task(1) / "again")
    with pytest.raises(UserError, match="same share of labels, start and seed"):
        label_curve.read(work, [*experiments, "again"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name experiments, or let them be trained with --run"),
        (("e", "--run"), "name experiments, or let them be trained with --run"),
        (("nothing",), "metrics.json is missing"),
        (("--run", "--shares", "0,1"), "--shares"),
        (("--run", "--starts", "none,nothing"), "no such pre-training"),
        (("e", "--name", "a/b"), "no path"),
    ],
)
def test_wrong_flags_stop_with_one_line(work, run_step, words, said):
    simulated.make(work, draw=True)
    result = run_step(STEP, "--root", work.root, "--dataset", "toy", *words)
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1, result.err
