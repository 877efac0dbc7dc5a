"""Maps as a user makes them: they hit the lesion where it was learned, the score, sheets, pseudo-labels, and every mistake."""

import shutil

import pandas as pd
import pytest

from helpers import looking, quick, toy, trained
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace

STEP = "task1_classification/08_explain.py"


@pytest.fixture
def explain(work, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    flags = ("--root", work.root, "--dataset", "toy", "--experiment", "e", "--device", "cpu", "--method", "gradcam")
    return lambda *words: run_step(STEP, *flags, *words)


def told(work: Workspace, name: str = "gradcam") -> dict:
    return files.read_json(work.task(1) / "e" / "explain" / name / "metrics.json")


def test_a_model_of_the_lesion_points_at_it_and_one_of_shuffled_labels_does_not(work, explain, run_step, tmp_path):
    looking.put(work)
    result = explain("--images")
    assert result.code == 0 and "[" not in result.out, result.err
    content, out = told(work), work.task(1) / "e" / "explain" / "gradcam"
    metrics, beside = content["metrics"], content["beside"]
    assert metrics["pointing"]["value"] >= 0.8 and metrics["heat_head"]["value"] > 0.8
    assert content["n"] == content["maps"] == 12 and content["patients"] == 3 and content["fold_numbers"] == [0]
    low, high = metrics["dice_mask"]["ci95"]
    assert low <= metrics["dice_mask"]["value"] <= high and metrics["dice_mask"]["value"] > 0.5
    assert set(beside) == {"random weights", "centre"}
    assert all(one["metrics"]["pointing"]["value"] < 0.8 for one in beside.values())
    assert beside["centre"]["difference"]["dice_box"]["ci95"][0] > 0 and -1 <= metrics["rank_correlation"]["value"] < 1
    assert content["right_for_the_wrong_reason"]["outside_head_cases"] == 0
    layers = tables.read_csv(out / "layers.csv", ["pointing", "map_threshold"])
    assert layers["chosen"].sum() == 1 and content["folds"][0]["layer"] == layers["layer"][layers["chosen"] == 1].iloc[0]
    assert layers["heat_box"].max() == layers["heat_box"][layers["chosen"] == 1].iloc[0]
    assert {path.name for path in out.iterdir()} == {
        "metrics.json", "scores.csv", "per_case.csv", "layers.csv", "right_for_the_wrong_reason.csv", "scores.png",
        "true_positives.png", "examples.png", "images", "08_explain.run.json",
    }  # fmt: skip
    assert len(list((out / "images" / "true_positives").glob("*.png"))) == 12
    assert explain("--images", "--skip-if-done").out.startswith("up to date")
    assert run_step("scripts/90_make_report.py", "--root", work.root, "--dataset", "toy").code == 0
    page = (work.outputs / "report.md").read_text()
    assert "Task 1: where e/explain/gradcam looks" in page and "LEFT OUT" not in page
    assert "| mean over cases with a box | model | random weights | centre |" in page and "maps by gradcam at layer" in page

    other = Workspace(tmp_path / "other", "toy")
    looking.put(other, "shuffled")
    assert explain("--root", other.root).code == 0
    assert told(other)["metrics"]["pointing"]["value"] < 0.5


def test_a_model_that_is_right_for_the_wrong_reason_stands_out(work, explain):
    looking.put(work, "marker")
    result = explain()
    assert result.code == 0 and "correct, and heat outside of the head: 12 of 12 true positives" in result.out
    content = told(work)
    assert content["metrics"]["pointing"]["value"] == 0 and content["right_for_the_wrong_reason"]["outside_head"]["value"] == 1
    frame = tables.read_csv(work.task(1) / "e/explain/gradcam/right_for_the_wrong_reason.csv", ["heat_head", "p"])
    assert len(frame) == 12 and (frame["p"] > 0.5).all() and (frame["peak_outside_head"] == 1).all()


def test_methods_layers_and_thresholds_that_are_named(work, explain):
    looking.put(work)
    result = explain("--method", "hirescam", "--layer", "layer2,layer3")
    assert result.code == 0, result.err
    assert "hirescam-layer2-layer3" in result.out and told(work, "hirescam-layer2-layer3")["metrics"]["pointing"]["value"] >= 0.8
    result = explain("--method", "ablation", "--layer", "layer2", "--map-threshold", 0.3)
    assert result.code == 0 and told(work, "ablation-layer2-threshold0.3")["folds"][0]["threshold"] == 0.3
    assert refused(explain("--layer", "layer9"), "--layer layer9 is no layer of test_resnet", "layer1", "layer4")
    assert refused(explain("--layer", "layer1,layer1"), "--layer", "different names")
    assert refused(explain("--method", "scorecam"), "--method", "gradcam")
    assert refused(explain("--label", "stroke"), "--label stroke is no label of e; it has hemorrhage")
    assert refused(explain("--fold", 3), "--fold 3", "e has fold0")
    assert refused(explain("--boxes", "d"), "task2/d/fold0 holds no predictions.csv", "train a detector")
    assert refused(explain("--write", "boxes"), "--write goes with --fold K")
    assert refused(explain("--experiment", "f"), "there are: e")


def test_a_data_set_without_boxes_gets_maps_and_no_score(work, explain):
    looking.put(work)
    tables.write_boxes(work, tables.read_boxes(work).iloc[:0])
    result = explain()
    assert result.code == 0 and "no positive test image has a box: maps, but no score" in result.out
    content, out = told(work), work.task(1) / "e" / "explain" / "gradcam"
    assert content["metrics"] == {} and content["n"] == 0 and content["maps"] == 12
    assert content["folds"][0] == content["folds"][0] | {"layer": "layer4", "threshold": 0.5, "chosen": False}
    assert (out / "true_positives.png").exists() and not (out / "layers.csv").exists() and not (out / "scores.png").exists()


@pytest.mark.parametrize(("field", "inside"), [("0,0,1,1", True), ("0,0,0.1,0.1", False)])
def test_a_field_that_a_user_names_takes_the_place_of_the_head_and_needs_no_box(work, explain, field, inside):
    looking.put(work)
    tables.write_csv(work.work / "boxes.csv", pd.DataFrame(columns=tables.BOX_COLUMNS))
    result = explain("--field", field)
    assert result.code == 0 and "12 positive images, 'head' is the field, 3 patients" in result.out, result.err
    content = told(work, f"gradcam-field{field.replace(',', '-')}")
    assert (content["metrics"]["heat_head"]["value"] > 0.5) == inside and content["metrics"]["pointing"]["value"] is None
    wrong = content["right_for_the_wrong_reason"]
    assert wrong["outside_head_cases"] == (0 if inside else wrong["true_positives"]) and wrong["true_positives"]
    assert "heat outside of the field" in result.out and "n/a" not in result.out


@pytest.mark.parametrize("field", ["0.1,0.1,0.9", "0.9,0.1,0.1,0.9", "0,0,1,1.2", "lungs"])
def test_a_field_that_is_none_is_one_line(explain, field):
    result = explain("--field", field)
    assert result.code == 2 and "is no LEFT,TOP,RIGHT,BOTTOM" in result.err


def test_maps_become_boxes_and_masks_of_a_data_set_whose_test_is_true(work, explain, run_step):
    looking.put(work)
    result = explain("--fold", 0, "--write", "masks")
    assert result.code == 0 and "task2_detection/02_train.py --fold 0 --dataset toy-pseudo-fold0" in result.out, result.err
    other = Workspace(work.root, "toy-pseudo-fold0")
    labels, true, made = tables.read_labels(other, tables.read_dataset(other)), tables.read_boxes(work), tables.read_boxes(other)
    part = tables.read_splits(work).set_index("image_id")["fold"]
    of_test = [frame[frame["image_id"].map(part) == 0].reset_index(drop=True) for frame in (true, made)]
    assert of_test[0].equals(of_test[1]), "test images keep their true boxes"
    learned = made[made["image_id"].map(part) != 0]
    positive = labels[(labels["hemorrhage"] == 1) & (labels["image_id"].map(part) != 0)]
    assert set(learned["image_id"]) == set(positive["image_id"]) and not learned.equals(true)
    both = learned.drop_duplicates("image_id").merge(true, on="image_id")
    middle = [(both[f"{a}min_x"] + both[f"{a}max_x"]) / 2 - (both[f"{a}min_y"] + both[f"{a}max_y"]) / 2 for a in "xy"]
    assert sum((abs(each) < looking.RADIUS).mean() for each in middle) / 2 > 0.8, "most lie on the lesion"
    assert all((other.raw / name).exists() for name in [*labels["image"], *labels["mask"]]) and (labels["mask"] != "").all()
    assert files.read_json(other.work / "pseudo.json")["threshold_from_true_boxes"] is True
    exported = run_step("task3_segmentation/01_make_seg_dataset.py", "--root", work.root, "--dataset", other.dataset, "--fold", 0)
    assert exported.code == 0, exported.err
    exported = run_step("task2_detection/01_make_yolo_dataset.py", "--root", work.root, "--dataset", other.dataset, "--fold", 0)
    assert exported.code == 0, exported.err
    again = explain("--fold", 0, "--write", "boxes", "--map-threshold", 0.5, "--layer", "layer2")
    assert again.code == 0, again.err
    assert (tables.read_labels(other, tables.read_dataset(other))["mask"] != "").sum() == 24, "the true masks of test alone"
    shutil.rmtree(other.work)
    toy.make(Workspace(work.root, "mine"), patients=5)
    shutil.copytree(work.root / "data/work/mine", other.work)
    assert refused(explain("--fold", 0, "--write", "boxes"), "toy-pseudo-fold0 is a data set that no map was written to")


def test_labels_of_task_4_are_mapped_one_by_one(work, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    trained.types(work)
    tables.write_boxes(work, pd.DataFrame(columns=tables.BOX_COLUMNS))
    flags = ("--root", work.root, "--dataset", "toy", "--experiment", "e", "--device", "cpu", "--method", "gradcam")
    result = run_step("task4_multilabel/10_explain.py", *flags)
    assert result.code == 0 and "maps, but no score" in result.out, result.err
    content = files.read_json(work.task(4) / "e" / "explain" / "gradcam" / "metrics.json")
    assert content["labels"] == ["IPH", "IVH", "SAH"] and content["folds"][0]["layer"] == "maps"
    cases = tables.read_csv(work.task(4) / "e/explain/gradcam/per_case.csv", ["p"])
    assert set(cases["label"]) == {"IPH", "IVH", "SAH"} and not cases.duplicated(["image_id", "label"]).any()
    one = run_step("task4_multilabel/10_explain.py", *flags, "--label", "IVH")
    assert one.code == 0 and files.read_json(work.task(4) / "e/explain/gradcam-label-IVH/metrics.json")["labels"] == ["IVH"]


def test_boxes_follow_what_the_model_sees_of_a_prepared_image(work, explain):
    looking.put(work, "lesion", "--prepare", "head")
    result = explain("--images")
    assert result.code == 0, result.err
    metrics = told(work)["metrics"]
    assert metrics["pointing"]["value"] >= 0.8 and metrics["dice_mask"]["value"] > 0.5
