"""What is kept in git: small, whole, without weights, patients' images or a machine's paths; and the README's tables."""

from __future__ import annotations

import pytest

from helpers import evaluated
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.report import publish

STEP = "scripts/91_publish_results.py"
README = "# Title\n\n<!-- results: toy/task1 -->\n<!-- end results -->\n\nThe end\n"


@pytest.fixture
def call(work: Workspace, run_step):
    files.write_text(work.root / "README.md", README)
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def test_keeps_small_results_and_nothing_else(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18")
    evaluated.compare(work, "resnet18")
    files.write_text(work.task(1) / "resnet18" / "04_predict.run.json", "{}")
    assert call().code == 0
    kept = work.reference / "task1" / "resnet18"
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == {
        "metrics.json", "predictions.csv", "classification_report.txt", "operating_points.csv", "per_patient.csv",
        "confusion_matrix.png", "roc.png", "calibration.png", "loss_curves.png", "02_evaluate.run.json",
        "fold0/01_train.run.json", "fold0/history.csv", "fold1/01_train.run.json", "fold1/history.csv",
    }  # fmt: skip
    assert {path.name for path in kept.with_name("comparison").iterdir()} == {
        "comparison.csv", "comparison.md", "comparison.png", "03_compare.run.json"
    }  # fmt: skip


def test_detectors_are_kept_with_their_gate_and_without_pictures_of_patients(work: Workspace, call) -> None:
    folder = work.task(2) / "yolov8n"
    evaluated.make(work, "e").replace(work.task(2).parent / "made")
    (work.task(2)).mkdir()
    (work.task(2).parent / "made").replace(folder)
    wanted = {
        "fold0/train_predictions.csv",
        "fold0/predictions.csv",
        "gate/predictions.csv",
        "gate/gate_comparison.csv",
        "froc.png",
    }
    for name in (*wanted, "hard_cases.png", "gate/gate_regions.png", "gate/fold0/best.pt"):
        files.write_text(folder / name, "a\n")
    assert call("--task", 2).code == 0
    kept = {str(path.relative_to(work.reference / "task2" / "yolov8n")) for path in work.reference.rglob("*") if path.is_file()}
    assert wanted <= kept and not any("hard_cases" in name or "regions" in name or name.endswith(".pt") for name in kept)
    assert "up to date" in call("--task", 2, "--skip-if-done").out
    files.write_text(folder / "gate" / "gate_comparison.csv", "b\n")
    assert "up to date" not in call("--task", 2, "--skip-if-done").out
    assert (work.reference / "task2" / "yolov8n" / "gate" / "gate_comparison.csv").read_text() == "b\n"


def test_records_hold_no_path_of_a_machine(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18")
    call()
    texts = [path.read_text() for path in work.reference.rglob("*.json")]
    assert texts and not any(str(work.root) in text or "/home/" in text or "--root" in text for text in texts)
    record = files.read_json(work.reference / "task1" / "resnet18" / "fold0" / "01_train.run.json")
    assert record["command"] == "python task1_classification/01_train.py --dataset toy"
    assert record["arguments"]["weights"] == "data/weights.pt"
    assert set(record["inputs"]) == {"data/work/toy/splits.csv", "weights.pt"}


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python a.py --root /x/y --lr 1e-3", "python a.py --lr 1e-3"),
        ("python a.py --root=/x/y --weights=/x/y/w.pt", "python a.py --weights w.pt"),
        ("python a.py '/r/my slices/1.png'", "python a.py 'my slices/1.png'"),
        ("python a.py --patient-regex '^(a=b)/c'", "python a.py --patient-regex '^(a=b)/c'"),
    ],
)
def test_commands_lose_paths_only(tmp_path, command: str, kept: str) -> None:
    record = publish.portable({"command": command.replace("/r/", f"{tmp_path}/")}, tmp_path)
    assert record["command"] == kept


def test_readme_table_is_written_from_metrics(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18", accuracy=0.9)
    evaluated.make(work, "resnet18-slice", accuracy=0.95, protocol="slice")
    call()
    text = (work.root / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- results: toy/task1 -->\n| experiment | protocol | slices |")
    assert "| resnet18 | patient, folds 0, 1 of 5 | 40 | 10 | 0.900 (0.850-0.950) |" in text
    assert "| resnet18-slice | slice, folds 0, 1 of 5 | 40 | 10 | 0.950 (0.900-1.000) |" in text
    assert "* `python task1_classification/01_train.py --dataset toy` (commit 012345678, cpu, 7 min)" in text
    assert text.endswith("<!-- end results -->\n\nThe end\n")
    assert call("--readme-only").code == 0
    assert (work.root / "README.md").read_text() == text


def test_readme_names_every_commit_once(work: Workspace, call) -> None:
    folder = evaluated.make(work, "resnet18")
    evaluated.make(work, "other")
    path = folder / "fold1" / "01_train.run.json"
    files.write_json(path, files.read_json(path) | {"git_commit": "fedcba9876543210", "git_dirty": True})
    call()
    text = (work.root / "README.md").read_text()
    assert "(commits 012345678 and fedcba987 with uncommitted changes, cpu, 7 min)" in text
    assert "02_evaluate.py --dataset toy` (commit 012345678, 2 min)" in text


def unfinished(work: Workspace) -> None:
    path = work.task(1) / "comparison" / "03_compare.run.json"
    files.write_json(path, files.read_json(path) | {"status": "unfinished"})


def evaluated_again(work: Workspace) -> None:
    evaluated.make(work, "resnet18", accuracy=0.7)


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (unfinished, (), "03_compare.run.json says that the run did not end"),
        (lambda work: None, ("--experiment", "resnet18"), "compares other, of which"),
        (evaluated_again, (), "compares resnet18, of which"),
    ],
)
def test_a_comparison_of_other_results_is_not_kept(work: Workspace, call, spoil, words, said: str) -> None:
    for name in ("resnet18", "other"):
        evaluated.make(work, name)
    evaluated.compare(work, "resnet18", "other")
    spoil(work)
    result = call(*words)
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1
    assert not work.reference.exists()


def test_a_comparison_with_what_is_kept_already_is_kept(work: Workspace, call) -> None:
    evaluated.make(work, "other")
    assert call().code == 0
    evaluated.make(work, "resnet18")
    evaluated.compare(work, "resnet18", "other")
    assert call("--experiment", "resnet18").code == 0
    assert (work.reference / "task1" / "comparison" / "comparison.csv").is_file()


def test_without_results_the_readme_says_so(work: Workspace, call) -> None:
    assert call("--readme-only").code == 0
    assert "<!-- results: toy/task1 -->\nNo results yet.\n<!-- end results -->" in (work.root / "README.md").read_text()


def test_publishing_again_replaces_the_old_files(work: Workspace, call) -> None:
    folder = evaluated.make(work, "resnet18", accuracy=0.8)
    call()
    (folder / "roc.png").unlink()
    evaluated.make(work, "other", accuracy=0.7)
    files.write_json(folder / "metrics.json", files.read_json(folder / "metrics.json") | {"n": 39})
    call("--experiment", "resnet18")
    assert not (work.reference / "task1" / "resnet18" / "roc.png").exists()
    assert files.read_json(work.reference / "task1" / "resnet18" / "metrics.json")["n"] == 39
    assert not (work.reference / "task1" / "other").exists(), "only what was named"


def spoil_size(folder) -> None:
    files.write_text(folder / "predictions.csv", "x" * (publish.LIMIT + 1))


def spoil_status(folder) -> None:
    path = folder / "fold1" / "01_train.run.json"
    files.write_json(path, files.read_json(path) | {"status": "unfinished"})


@pytest.mark.parametrize(("spoil", "said"), [(spoil_size, "predictions.csv"), (spoil_status, "fold1/01_train.run.json")])
def test_refuses_what_git_should_not_keep(work: Workspace, call, spoil, said: str) -> None:
    spoil(evaluated.make(work, "resnet18"))
    result = call()
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1
    assert not work.reference.exists()
    assert (work.root / "README.md").read_text() == README


@pytest.mark.parametrize("words", [(), ("--experiment", "nothing")])
def test_nothing_evaluated_is_one_line(call, words) -> None:
    result = call(*words)
    assert result.code == 2 and result.err.count("\n") == 1


def test_an_unknown_experiment_names_those_there_are(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18")
    result = call("--experiment", "resnet81")
    assert result.code == 2 and "resnet18" in result.err


def test_a_marker_alone_is_named(work: Workspace, call) -> None:
    files.write_text(work.root / "README.md", "<!-- results: toy/task1 -->\n")
    result = call("--readme-only")
    assert result.code == 2 and "<!-- end results -->" in result.err


def test_another_root_without_a_readme_stops_first(work: Workspace, run_step) -> None:
    evaluated.make(work, "resnet18")
    result = run_step(STEP, "--root", work.root, "--dataset", "toy")
    assert result.code == 2 and "README.md is missing" in result.err
    assert not work.reference.exists()
