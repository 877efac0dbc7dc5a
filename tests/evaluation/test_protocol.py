"""What belongs to every number: the folds and patients that it comes from, as fields; metrics.json of older versions too."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import evaluated, toy
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.evaluation import external, protocol

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


EXPERIMENTS = sorted(path for path in REFERENCE.rglob("metrics.json") if "label_curve" not in path.parts)  # a curve is none


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: str(path.relative_to(REFERENCE)))
def test_published_results_of_every_version_are_read(path: Path) -> None:
    content = protocol.read(path)
    assert content["complete"] == (len(content["folds"]) == content["folds_expected"])
    assert content["upper_bound"] == (path.parent.name == "truth-boxes")
    assert protocol.headline(content)


@pytest.mark.parametrize(
    ("kind", "unknown", "named", "words"),
    [
        ("patient", ["toy"], "image", "one person may be on both sides"),
        ("given", ["toy"], "given", "no patient of toy is known: one person may be on both sides"),
        ("external", ["other"], "external", "no patient of other is known: one person may be on both sides"),
        ("external", ["toy", "other"], "external", "no patient of toy and other is known"),
        ("slice", ["toy"], "slice", "flatters"),
        ("external", [], "external", "thresholds frozen"),
    ],
)
def test_without_patient_identifiers_nothing_is_called_patient(work: Workspace, kind, unknown, named, words) -> None:
    other = replace(work, dataset="other")
    for data in (work, other):
        toy.make(data)
        dataset = tables.read_dataset(data)
        source = tables.NO_PATIENTS if data.dataset in unknown else "column patient"
        tables.write_dataset(data, replace(dataset, patient_source=source))
    about = protocol.describe(work, 1, "e", other if kind == "external" else work, kind, [fold(work, 1, "e", 0)])
    assert about["protocol"] == named and words in about["protocol_text"]
    assert about["patients_known"] == (not unknown)
    metrics = {key: {"value": 0.5, "ci95": None, "reason": None} for key in ("f1", "dice_patient")}
    measured = {"metrics": metrics, "n": 40, "patients": 10, "patient_level": {"a": 1}}
    content = protocol.as_known(evaluated.metrics_json(work, "e", {}) | about | measured)
    assert (content["patients"], content["patient_level"]) == ((None, None) if unknown else (10, {"a": 1}))
    assert content["metrics"]["f1"]["value"] == 0.5
    assert content["metrics"]["dice_patient"]["value"] == (None if unknown else 0.5)
    assert ("40 images, no patient identifiers" if unknown else "40 images of 10 patients") in protocol.headline(content)[0]
    assert ("patient protocol" in " ".join(protocol.headline(content))) == (named == "patient")


@pytest.mark.parametrize(
    ("sources", "unknown", "shared", "reason"),
    [
        (("rsna-2019", "bhsd"), False, True, "10 of its patients are among those of toy (first: 0001)"),
        (("cq500", "seg-cq500"), True, False, "nothing tells which"),
        (("rsna-2019", "bhsd"), False, False, None),
        (("rsna-2019", "ct-ich"), False, True, None),
        (("", ""), True, True, None),
    ],
)
def test_data_of_the_same_people_are_no_external_test(work: Workspace, capsys, sources, unknown, shared, reason) -> None:
    other = replace(work, dataset="other")
    for data, source in zip((work, other), sources, strict=True):
        labels = toy.make(data, seed=len(data.dataset))
        dataset = replace(tables.read_dataset(data), source=source, patient_source=tables.NO_PATIENTS if unknown else "column")
        tables.write_dataset(data, dataset)
        if data == other and not shared:
            tables.write_labels(data, labels.assign(patient="x" + labels["patient"]), dataset)
    if reason:
        with pytest.raises(UserError, match=re.escape(reason)):
            external.other(work, "other")
    else:
        assert external.other(work, "other") == other
        assert ("no patient has the same name in both" in capsys.readouterr().out) == (sources[1] == "bhsd")
