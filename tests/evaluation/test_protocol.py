"""What belongs to every number: the folds and patients that it comes from, as fields; metrics.json of older versions too."""

from pathlib import Path

import pytest

from helpers import evaluated, toy
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.evaluation import protocol

REFERENCE = Path(__file__).resolve().parents[2] / "outputs" / "reference"
NEW = ("fold_numbers", "folds_expected", "complete", "limit_patients")


def fold(work: Workspace, task: int, name: str, number: int, limit: int | None = None, **spec) -> Path:
    folder = work.task(task) / name / f"fold{number}"
    files.write_json(folder / "model.json", spec)
    files.write_json(folder / "01_train.run.json", {"status": "ok", "arguments": {"limit_patients": limit}})
    return folder


@pytest.mark.parametrize(
    ("folds", "kind", "spec", "numbers", "complete", "text"),
    [
        (range(5), "patient", {}, [0, 1, 2, 3, 4], True, "all 5 folds"),
        ([0], "patient", {}, [0], False, "fold 0 of 5"),
        ([1, 3], "slice", {}, [1, 3], False, "folds 1, 3 of 5"),
        ([0], "given", {"split": "given"}, [0], True, "one model"),
        ([0], "external", {"split": "given"}, [0], True, "one model"),
        ([0, 1], "external", {"split": "folds"}, [0, 1], False, "folds 0, 1 of 5"),
    ],
)
def test_the_folds_are_fields(work: Workspace, folds, kind, spec, numbers, complete, text) -> None:
    toy.make(work)
    about = protocol.describe(work, 1, "e", work, kind, [fold(work, 1, "e", number, **spec) for number in folds])
    assert (about["fold_numbers"], about["complete"], about["folds_done"]) == (numbers, complete, text)
    assert about["limit_patients"] is None and set(protocol.ABOUT) == set(about)


def test_a_training_of_few_patients_is_a_field_and_in_every_headline(work: Workspace) -> None:
    toy.make(work)
    about = protocol.describe(work, 1, "e", work, "patient", [fold(work, 1, "e", number, limit=10) for number in range(5)])
    assert about["limit_patients"] == 10 and about["folds_done"] == "all 5 folds, trained with 10 patients alone"
    assert protocol.folds_text(about) == "all 5 folds"
    content = evaluated.metrics_json(work, "e", {}) | about
    assert "all 5 folds, trained with 10 patients alone" in protocol.headline(content)[0]


def test_an_ensemble_of_models_of_few_patients_says_so(work: Workspace) -> None:
    toy.make(work)
    for name, limit in (("a", None), ("b", 8)):
        fold(work, 3, name, 0, limit)
    folder = work.task(3) / "both" / "fold0"
    files.write_json(folder / "model.json", {"members": ["a", "b"]})
    assert protocol.describe(work, 3, "both", work, "patient", [folder])["limit_patients"] == 8


def test_an_older_file_gets_the_fields_from_its_folds_and_run_records(work: Workspace) -> None:
    content = evaluated.metrics_json(work, "e", {}, folds=(0,)) | {"folds_done": "folds 0 of 5"}
    path = files.write_json(work.task(1) / "e" / "metrics.json", {key: content[key] for key in content if key not in NEW})
    fold(work, 1, "e", 0, limit=10)
    read = protocol.read(path)
    assert [read[key] for key in NEW] == [[0], 5, False, 10] and protocol.folds_text(read) == "fold 0 of 5"


def test_an_older_file_of_other_data_keeps_its_words(work: Workspace) -> None:
    content = evaluated.metrics_json(work, "e", {}) | {"protocol": "external", "folds": [{"fold": "mean"}]}
    path = work.task(1) / "e" / "on-other" / "metrics.json"
    files.write_json(path, {key: content[key] for key in content if key not in NEW})
    read = protocol.read(path)
    assert read["complete"] is None and protocol.folds_text(read) == "folds 0, 1 of 5"


@pytest.mark.parametrize("path", sorted(REFERENCE.rglob("metrics.json")), ids=lambda path: str(path.relative_to(REFERENCE)))
def test_published_results_of_every_version_are_read(path: Path) -> None:
    content = protocol.read(path)
    assert content["complete"] == (len(content["folds"]) == content["folds_expected"])
    assert content["upper_bound"] == (path.parent.name == "truth-boxes")
    assert protocol.headline(content)
