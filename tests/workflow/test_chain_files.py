"""The chain's one list: what a step is, the commands that follow from it, and the files of each job."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import declared
from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.workflow import chain, profiles, steps
from hemoct.workflow.graph import Graph
from hemoct.workflow.plan import Plan

REPOSITORY = Path(__file__).resolve().parents[2]


def graph(root: Path, dataset: str = "demo", profile: str = "demo", **config: object) -> Graph:
    (root / "data" / "raw" / dataset).mkdir(parents=True, exist_ok=True)
    return Graph.of({"dataset": dataset, "profile": profile, "root": root, "python": sys.executable} | config)


def known(root: Path, boxes: int, **told: object) -> None:
    work = root / "data" / "work" / "mine"
    work.mkdir(parents=True)
    (work / "boxes.csv").write_text("image_id,class\n" + "a,b\n" * boxes)
    (work / "dataset.json").write_text(json.dumps(told))


def step(made: Graph, name: str) -> steps.Step:
    return next(step for step in made.steps if step.name == name)


def test_each_step_has_a_name_of_its_own_and_a_script_that_exists() -> None:
    names = [each.name for each in chain.STEPS]
    assert len(set(names)) == len(names)
    assert [each.script for each in chain.STEPS if not (REPOSITORY / each.script).is_file()] == []
    assert all(each.records for each in chain.STEPS)


def test_a_figure_of_a_report_is_one_that_is_always_there() -> None:
    for each in chain.STEPS:
        assert set(each.figures.split()) <= {name for record in each.records for name in record.writes.split()}, each.name


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("profile", profiles.NAMES)
def test_what_a_step_reads_is_made_by_one_before_it(tmp_path: Path, profile: str, everything: bool) -> None:
    made, ready = graph(tmp_path, profile=profile, all=everything), set()
    for each in made.steps:
        for job in made.plan.jobs(each):
            assert set(made.inputs(each, **job)) <= ready, f"{each.name} {job}"
        outputs = [path for job in made.plan.jobs(each) for path in made.outputs(each, **job)]
        assert len(set(outputs)) == len(outputs) and not ready & set(outputs), each.name
        ready |= set(outputs)
    assert ready == set(made.targets())


def test_trainings_have_a_job_for_each_experiment_and_fold(tmp_path: Path) -> None:
    laptop = graph(tmp_path, profile="laptop").plan
    jobs = {each.name: len(laptop.jobs(each)) for each in laptop.steps if "fold" in each.by}
    assert jobs == {"task1_train": 5, "task1_train_also": 1, "task2_train": 5, "task3_train": 5, "task1_train_of_types": 5,
                    "task4_train": 5}  # fmt: skip
    demo = graph(tmp_path).plan
    assert sum(len(demo.jobs(each)) for each in demo.steps if "fold" in each.by) == 10


def test_a_job_is_the_command_of_run_all_for_one_fold(tmp_path: Path) -> None:
    made = graph(tmp_path)
    words = made.command(step(made, "task1_train"), 3, experiment="resnet10t", fold="2").split()
    listed = made.plan.command(step(made, "task1_train"))
    assert words[0] == sys.executable and words[1] == str(REPOSITORY / listed[0])
    assert words[2:] == [*listed[1:], "--fold", "2", "--threads", "3", "--skip-if-done"]
    words = made.command(step(made, "task1_evaluate"), 1, experiment="resnet10t-augment")
    assert words.endswith(" --experiment resnet10t-augment --skip-if-done")


def test_steps_that_write_in_one_folder_follow_each_other(tmp_path: Path) -> None:
    made = graph(tmp_path)
    assert "data/work/demo/audit.json" in made.inputs(step(made, "make_splits"))
    curves = made.outputs(step(made, "task2_training_curves"), experiment="yolov8n")
    assert curves[0] in made.inputs(step(made, "task2_evaluate"), experiment="yolov8n")


def test_what_a_training_goes_on_with_is_no_output(tmp_path: Path) -> None:
    made = graph(tmp_path)
    for each in made.steps:
        assert not [path for path in made.outputs(each) if re.search(r"\.pt$|history\.csv$", path)], each.name


def test_a_data_set_has_the_steps_that_it_can_have(tmp_path: Path) -> None:
    everything = graph(tmp_path, "mine")
    assert {path.split("/")[2] for path in everything.targets() if path.startswith("outputs")} >= {"task2", "task3", "task4"}
    known(tmp_path, 0, counts={"masks": 0}, labels=["hemorrhage"])
    tasks = {path.split("/")[2] for path in graph(tmp_path, "mine").targets() if path.startswith("outputs")}
    assert tasks == {"task1", "report.html", "report.md"}


def test_segmentation_without_boxes_sees_whole_slices(tmp_path: Path) -> None:
    known(tmp_path, 0, counts={"masks": 9}, labels=["a", "b"], exclusive=True)
    made = graph(tmp_path, "mine")
    train = step(made, "task3_train")
    assert " --region slice " in made.command(train, 1, fold="0")
    assert not any("task2" in path for path in made.inputs(train, experiment=made.plan.experiments(train)[0], fold="0"))


def test_flags_of_the_labels_and_of_masks_reach_their_steps(tmp_path: Path) -> None:
    made = graph(tmp_path, "mine", label_flags="--layout yolo --patient-regex '^(.) x'", mask_value=3)
    assert "--layout yolo --patient-regex '^(.) x'" in made.command(step(made, "make_labels"), 1)
    assert made.command(step(made, "merge_annotations"), 1).endswith("--layout yolo --skip-if-done")
    assert "--mask-value 3" in made.command(step(made, "check_data"), 1)


def test_shards_convert_before_the_step_that_makes_the_tables(tmp_path: Path) -> None:
    made = Graph.of({"dataset": "ct", "root": tmp_path, "python": sys.executable, "get_flags": "--from '/a b'", "shards": 2})
    get = step(made, "get_data")
    assert made.inputs(get) == ["data/work/ct/shards/1-of-2", "data/work/ct/shards/2-of-2"]
    assert made.outputs(get)[0] in made.inputs(step(made, "make_labels"))
    words = "01_get_data.py --from '/a b' --dataset ct --root"
    assert f"{words} {tmp_path} --shard 2/2 --workers 3" in made.shard_command("2", 3)
    assert "--shard" not in made.command(get, 3) and words in made.command(get, 3)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "--config dataset=NAME"),
        ({"dataset": "none"}, "data/raw/none is missing in .*; register your copy: python scripts/01_get_data.py --from DIR"),
        ({"dataset": "demo", "profile": "labtop"}, "profile labtop is none of laptop, gpu and demo"),
        ({"dataset": "demo", "datset": "demo"}, "--config datset is unknown; there are: dataset, profile"),
        ({"dataset": "demo", "python": "/nowhere/python"}, "/nowhere/python is no python"),
        ({"dataset": "demo", "root": "/nowhere"}, "root=/nowhere is no folder"),
        ({"dataset": "demo", "threads": "many"}, "threads=many is no whole number"),
        ({"dataset": "ct", "get_flags": "--from /x", "shards": "1.5"}, "shards=1.5 is no whole number"),
        ({"dataset": "demo", "shards": 2}, 'say of which folder, get_flags="--from DIR"'),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(tmp_path: Path, config: dict, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        Graph.of({"root": tmp_path, "python": sys.executable} | config)
    assert "\n" not in str(error.value)


def test_run_all_asks_with_nothing_but_the_standard_library() -> None:
    words = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY / 'scripts')!r})\n"
             "import hemoct.workflow.commands, hemoct.workflow.graph"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_minutes_are_in_proportion_to_the_slices() -> None:
    laptop = profiles.read("laptop")
    assert laptop.minutes("task1", laptop.slices) == laptop.rows["task1"].minutes
    assert laptop.minutes("task1", 2 * laptop.slices) == 2 * laptop.rows["task1"].minutes
    assert profiles.read("gpu").minutes("task1", 1) is None


def test_the_plan_of_a_folder_elsewhere_names_it(tmp_path: Path) -> None:
    plan = Plan("demo", profiles.read("demo"), tmp_path)
    last = next(each for each in plan.steps if each.name == "predict_scan")
    assert plan.command(last)[-3:] == ["--out", f"{tmp_path}/outputs/demo/scans/unseen", "--overwrite"]


def test_what_differs_from_the_declaration_is_told(tmp_path: Path) -> None:
    """The whole chain is compared in tests/steps/test_chain.py; here the comparison itself."""
    plan = Plan("demo", profiles.read("demo"), tmp_path)
    work = tmp_path / "data" / "work" / "demo"
    files.write_text(work / "labels.csv", "")
    told = {"inputs": {"data/work/demo/dataset.json": "", "data/work/demo/other.csv": ""}, "outputs": ["data/work/demo/x.csv"]}
    files.write_json(work / "05_make_splits.run.json", told)
    name = "data/work/demo/05_make_splits.run.json"
    assert [line for line in declared.differences(plan, tmp_path) if line.startswith(name)] == [
        f"{name}: declares, but did not read data/work/demo/labels.csv",
        f"{name}: read, but does not declare data/work/demo/other.csv",
        f"{name}: declares, but did not write data/work/demo/splits.csv",
        f"{name}: wrote, but does not declare data/work/demo/x.csv",
    ]


def test_rows_with_a_plus_are_for_all(tmp_path: Path) -> None:
    names = [{each.name for each in graph(tmp_path, all=everything).steps} for everything in (False, True)]
    assert names[1] - names[0] == {
        *("pretrain", "task1_train_pretrained", "task1_evaluate_pretrained"),
        *(f"task1_{step}_{row}" for step in ("study_labels", "train_volume", "evaluate") for row in ("side", "quarters")),
        *("task3_train_multitask", "task1_evaluate_multitask", "task3_evaluate_multitask"),
    }
    assert names[1] == {each.name for each in chain.STEPS}
