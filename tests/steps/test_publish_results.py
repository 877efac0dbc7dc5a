"""What is kept in git: small, whole, without weights, patients' images or a machine's paths; and the pages made of it."""

import pytest
from PIL import Image

from helpers import evaluated, toy
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.report import publish, reference

STEP = "scripts/91_publish_results.py"
README = "# Title\n\n<!-- best: toy/task1 -->\n<!-- end best -->\n\nThe end\n"


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
        "fold0/01_train.run.json", "fold0/history.csv", "fold0/model.json",
        "fold1/01_train.run.json", "fold1/history.csv", "fold1/model.json",
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


def pages(work: Workspace) -> tuple[str, str]:
    return (work.root / "README.md").read_text(), (work.reference.parent / "README.md").read_text()


def test_one_command_adds_an_experiment_and_the_best_is_in_the_readme(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18", accuracy=0.9)
    assert call("--experiment", "resnet18", "--title", "ResNet18 | small").code == 0
    readme, page = pages(work)
    link = "[ResNet18 \\| small](outputs/reference/README.md#task-1-toy)"
    row = f"| toy, 10 patients | patient, folds 0, 1 of 5 | AUROC 0.900 (0.850-0.950) | {link} | toy, from weights.pt |"
    assert f"| [Images with hemorrhage](task1_classification/README.md) {row}" in readme
    assert readme.startswith("# Title\n\n<!-- best: toy/task1 -->\n| task | data |")
    assert readme.endswith("<!-- end best -->\n\nThe end\n") and "## Task 1: toy" in page
    assert "| [ResNet18 \\| small](toy/task1/resnet18) | toy, from weights.pt | 40 images of 10 patients; folds 0, 1 of 5" in page
    assert "* `python task1_classification/01_train.py --dataset toy` (commit 012345678, cpu, 3 min)" in page

    evaluated.make(work, "better", accuracy=0.95)
    evaluated.make(work, "slice", accuracy=0.99, protocol="slice")
    assert call("--experiment", "better", "slice").code == 0
    readme, page = pages(work)
    assert "AUROC 0.950 (0.900-1.000) | [better]" in readme and "ResNet18" not in readme and "0.990" not in readme
    places = [page.index(f"(toy/task1/{name})") for name in ("better", "resnet18", "slice")]
    assert places == sorted(places), "best first, what cannot be compared last"
    assert call("--readme-only").code == 0 and pages(work) == (readme, page)


def test_a_title_names_one_experiment(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18")
    result = call("--title", "ResNet18")
    assert result.code == 2 and "--experiment NAME" in result.err and not work.reference.exists()


def test_the_rule_that_found_the_patients_and_the_notes_stand_on_the_page(work: Workspace, call) -> None:
    toy.make(work)
    dataset = work.work / "dataset.json"
    files.write_json(dataset, files.read_json(dataset) | {"patient_source": "regex ^(a|b)"})
    evaluated.make(work, "resnet18", notes=["a note of the evaluation"])
    assert call().code == 0
    assert files.read_json(work.reference / "dataset.json") == files.read_json(dataset)
    _, page = pages(work)
    assert "told apart by `regex ^(a|b)`" in page and "* a note of the evaluation" in page


def test_every_commit_is_named_once(work: Workspace, call) -> None:
    folder = evaluated.make(work, "resnet18")
    path = folder / "fold1" / "01_train.run.json"
    files.write_json(path, files.read_json(path) | {"git_commit": "fedcba9876543210", "git_dirty": True})
    call()
    _, page = pages(work)
    assert "(commits 012345678 and fedcba987 with uncommitted changes, cpu, 3 min)" in page
    assert "02_evaluate.py --dataset toy` (commit 012345678, 60 s)" in page


def test_a_wide_table_is_shown_in_parts_of_ten_columns(work: Workspace) -> None:
    labels = [f"L{number}" for number in range(12)]
    metrics = {f"f1_{label}": evaluated.metric(0.5) for label in labels}
    folder = work.reference / "task4" / "e"
    files.write_json(folder / "metrics.json", evaluated.metrics_json(work, "e", metrics, labels=labels))
    heads = [line for line in reference.page(work.reference.parent).splitlines() if line.startswith("| experiment")]
    assert [line.count("|") - 1 for line in heads] == [8, 10, 4] and "F1 L11" in heads[-1]


def test_the_panel_is_drawn_without_any_result(work: Workspace, call) -> None:
    assert call("--panel").code == 0
    with Image.open(work.reference.parent / "panel.png") as drawn:
        assert drawn.width > 1000 and drawn.height < 300
    assert (work.root / "README.md").read_text() == README


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
    assert "no results yet" in (work.root / "README.md").read_text()


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
    files.write_text(work.root / "README.md", "<!-- best: toy/task1 -->\n")
    result = call("--readme-only")
    assert result.code == 2 and "<!-- end best -->" in result.err


def test_another_root_without_a_readme_stops_first(work: Workspace, run_step) -> None:
    evaluated.make(work, "resnet18")
    result = run_step(STEP, "--root", work.root, "--dataset", "toy")
    assert result.code == 2 and "README.md is missing" in result.err
    assert not work.reference.exists()
