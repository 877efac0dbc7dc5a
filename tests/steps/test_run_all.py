"""run_all.sh and demo.sh with a `python` that only logs: order, skipping, where to go on, when to install."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILES = REPOSITORY / "scripts" / "profiles.txt"
# Answers `python -c` like the real one (version, hash of the requirements), and says what the steps are; everything else is
# written down, not run.
STUB = """#!/usr/bin/env bash
if [ "$1" = -c ] || [ "$2" = hemoct.workflow.commands ]; then exec "{python}" "$@"; fi
echo "$*" >>"{log}"
case "$*" in *"$FAIL_AT"*) exit 7 ;; esac
"""


# A python of the system: its `-m venv` makes an environment with the stub in {programs}/, as on Linux or on Windows.
MAKER = """#!/usr/bin/env bash
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$4/{programs}" && exec cp "{stub}" "$4/{programs}/python"; fi
exec "{python}" "$@"
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the shell scripts in a folder with a space, and an active environment whose `python` only logs."""

    folder: Path
    environment: Path

    def bash(self, script: str, *flags: str, fail_at: str = "nothing", cwd: Path | None = None) -> subprocess.CompletedProcess:
        settings = os.environ | {"VIRTUAL_ENV": str(self.environment), "FAIL_AT": fail_at}
        words = ["bash", str(self.folder / "scripts" / script), *flags]
        return subprocess.run(words, env=settings, cwd=cwd or self.folder, capture_output=True, text=True)

    @property
    def log(self) -> list[str]:
        """The words of each call since the last look."""
        path = self.environment / "calls.log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    made = Copy(tmp_path / "my repo", tmp_path / "my environment")
    (made.folder / "scripts").mkdir(parents=True)
    for path in (*(REPOSITORY / "scripts").glob("*.sh"), PROFILES):
        shutil.copy(path, made.folder / "scripts")
    for name in ("requirements.txt", "requirements-cpu.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, made.folder)
    for room in ("base", "workflow"):
        shutil.copytree(REPOSITORY / "scripts" / "hemoct" / room, made.folder / "scripts" / "hemoct" / room)
    (made.folder / "scripts" / "hemoct" / "__init__.py").touch()
    python = made.environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.format(python=sys.executable, log=made.environment / "calls.log"))
    python.chmod(0o755)
    return made


def listed(copy: Copy, dataset: str) -> list[str]:
    """The commands of --list without their numbers and `python`."""
    done = copy.bash("run_all.sh", "--dataset", dataset, "--list")
    assert done.returncode == 0, done.stderr
    numbers, commands = zip(*(line.strip().split("  python ") for line in done.stdout.splitlines()), strict=True)
    assert [int(number) for number in numbers] == list(range(1, len(commands) + 1))
    return list(commands)


def test_listed_steps_exist_and_follow_the_order_of_the_chain(copy: Copy) -> None:
    scripts = [command.split()[0] for command in listed(copy, "demo")]
    assert [script for script in scripts if not (REPOSITORY / script).is_file()] == []
    assert scripts[0] == "scripts/01_get_data.py" and scripts[-1] == "scripts/90_make_report.py"
    numbered = list(dict.fromkeys(scripts))
    assert numbered[-2:] == ["scripts/80_predict_scan.py", "scripts/90_make_report.py"]
    assert numbered[:-2] == sorted(numbered[:-2]), "data steps, then the tasks, each by its numbers"


def test_steps_run_in_order_and_skip_what_is_up_to_date(copy: Copy) -> None:
    done = copy.bash("run_all.sh", "--dataset", "demo")
    assert done.returncode == 0, done.stderr
    commands = listed(copy, "demo")
    assert copy.log == [f"{command} --skip-if-done" for command in commands]
    for command in commands:
        assert f"python {command}\n" in done.stdout, "echoed as a person would type it"


def test_force_runs_everything_again(copy: Copy) -> None:
    copy.bash("run_all.sh", "--dataset", "demo", "--force")
    assert copy.log == [command.removesuffix(" --resume") for command in listed(copy, "demo")]


def test_flags_after_two_dashes_are_those_of_the_labels(copy: Copy) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    rule = ["--", "--layout", "yolo", "--patient-regex", r"^(\d+)_"]
    failed = copy.bash("run_all.sh", "--dataset", "mine", *rule, fail_at="03_make_labels")
    assert r"--layout yolo --patient-regex ^(\d+)_ --skip-if-done" in copy.log[-1]
    hint = failed.stderr.splitlines()[-1].strip()
    settings = os.environ | {"VIRTUAL_ENV": str(copy.environment), "FAIL_AT": "nothing"}
    subprocess.run(["bash", "-c", hint], env=settings, cwd=copy.folder, check=True, capture_output=True)
    again = copy.log
    assert r"--patient-regex ^(\d+)_" in again[0] and not any("regex" in call for call in again[1:])


@pytest.mark.parametrize(
    ("flags", "merged"),
    [
        (["--layout", "voc", "--patient-regex", "^(.)"], "--layout voc"),
        (["--layout=phe-sich", "--image-set", "jpg"], "--layout=phe-sich --image-set jpg"),
        (["--patient-regex", "^(.)"], ""),
        ([], ""),
    ],
)
def test_the_layout_is_the_same_for_annotations_and_labels(copy: Copy, flags: list[str], merged: str) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    done = copy.bash("run_all.sh", "--dataset", "mine", "--", *flags)
    assert done.returncode == 0, done.stderr
    merge, labels, *others = copy.log
    assert merge.split() == ["scripts/02_merge_annotations.py", "--dataset", "mine", *merged.split(), "--skip-if-done"]
    assert labels.split() == ["scripts/03_make_labels.py", "--dataset", "mine", *flags, "--skip-if-done"]
    assert not any("--layout" in call or "--image-set" in call for call in others)


def test_the_command_to_go_on_keeps_force(copy: Copy) -> None:
    failed = copy.bash("run_all.sh", "--dataset", "demo", "--force", fail_at="04_check_data")
    assert failed.stderr.splitlines()[-1].strip() == "bash scripts/run_all.sh --dataset demo --from-step 4 --force"


def test_stops_at_the_first_failure_with_the_command_to_go_on_from(copy: Copy) -> None:
    failed = copy.bash("run_all.sh", "--dataset", "demo", fail_at="04_check_data")
    assert failed.returncode == 7
    assert len(copy.log) == 4
    hint = failed.stderr.splitlines()[-1].strip()
    assert hint == "bash scripts/run_all.sh --dataset demo --from-step 4"

    copy.bash("run_all.sh", *hint.split()[2:])
    assert copy.log == [f"{command} --skip-if-done" for command in listed(copy, "demo")[3:]]


def test_from_elsewhere_the_command_to_go_on_works_as_it_stands(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "other place" / "data" / "raw" / "mine").mkdir(parents=True)
    flags = ["--dataset", "mine", "--root", "other place"]  # step 1, getting the data, is the user's
    failed = copy.bash("run_all.sh", *flags, fail_at="05_make_splits", cwd=tmp_path)
    hint = failed.stderr.splitlines()[-1].strip()
    assert len(copy.log) == 4
    settings = os.environ | {"VIRTUAL_ENV": str(copy.environment), "FAIL_AT": "nothing"}
    subprocess.run(["bash", "-c", hint], env=settings, cwd="/", check=True, capture_output=True)
    again = copy.log
    assert again[0].startswith("scripts/05_make_splits.py")
    assert f"--root {tmp_path / 'other place'}" in again[0]


STEP_OF = {
    "task1": "task1_classification/01_train.py",
    "task1-also": "task1_classification/01_train.py",
    "task2": "task2_detection/02_train.py",
    "task2-gate": "task2_detection/06_gate_classifier.py",
    "task3": "task3_segmentation/02_train.py",
    "task4": "task4_multilabel/02_train.py",
}
"""the step that each row of profiles.txt is for"""


def rows_of(profile: str) -> dict[str, list[str]]:
    """The rows of a profile: minutes (of `slices`: how many), name and flags, which `slices` and `rest` do not have."""
    lines = [line.split(maxsplit=4) for line in PROFILES.read_text().splitlines()]
    return {line[1]: line[2:] for line in lines if line[:1] == [profile]}


@pytest.mark.parametrize("profile", ["laptop", "gpu", "demo"])
def test_each_training_has_the_name_and_the_flags_of_its_profile(copy: Copy, profile: str) -> None:
    done = copy.bash("run_all.sh", "--dataset", "mine", "--profile", profile, "--list")
    training = [line for line in done.stdout.splitlines() if "_train.py" in line or "_gate" in line]
    rows = rows_of(profile)
    for line, (row, step) in zip(training, STEP_OF.items(), strict=True):
        _, name, flags = rows[row]
        assert step in line and (row == "task2-gate" or f"--experiment {name} " in line)
        assert flags in line or flags.replace(" --precision bf16", "") in line
    assert done.stdout.count(f"--boxes {rows['task2'][1]} ") == 2 and f"--classifier {rows['task1'][1]} " in done.stdout


@pytest.mark.parametrize("profile", ["laptop", "gpu", "demo"])
def test_the_steps_know_the_flags_of_each_profile(tmp_path: Path, run_step, profile: str) -> None:
    for row, step in STEP_OF.items():
        result = run_step(step, "--experiment", "x", *rows_of(profile)[row][2].split(), "--root", tmp_path, "--dataset", "none")
        assert result.code == 2 and "--help lists the flags" not in result.err, f"{row}: {result.err}"


def test_the_profile_fits_the_machine_unless_it_is_named(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def classifier(*flags: str) -> str:
        done = copy.bash("run_all.sh", "--list", *flags)
        return re.search(r"task1_classification/01_train.py --experiment (\S+)", done.stdout)[1]

    names = {profile: rows_of(profile)["task1"][1] for profile in ("laptop", "gpu", "demo")}
    for code, profile in ((1, "laptop"), (0, "gpu")):
        driver.write_text(f"#!/bin/sh\nexit {code}\n")
        driver.chmod(0o755)
        assert classifier("--dataset", "mine") == names[profile]
        assert classifier("--dataset", "demo") == names["demo"]
    assert classifier("--dataset", "demo", "--profile", "gpu") == names["gpu"]
    assert classifier("--dataset", "mine", "--small") == names["laptop"], "as it was called before"


@pytest.mark.parametrize("known", [False, True])
def test_the_time_is_told_before_it_starts_in_proportion_to_the_slices(copy: Copy, known: bool) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    work = copy.folder / "data" / "work" / "mine"
    rows = {row: (int(values[0]) + known) // (1 + known) for row, values in rows_of("laptop").items()}
    slices = rows.pop("slices")
    if known:  # half as many slices, with one label alone, and with neither boxes nor masks
        work.mkdir(parents=True)
        (work / "labels.csv").write_text("image_id\n" + "a\n" * (slices - 1))
        (work / "boxes.csv").write_text("image_id,class\n")
        (work / "dataset.json").write_text('{"labels": ["hemorrhage"], "counts": {"masks": 0}}')
        rows = {row: minutes for row, minutes in rows.items() if row in ("task1", "task1-also", "rest")}
    done = copy.bash("run_all.sh", "--dataset", "mine", "--profile", "laptop", fail_at="02_merge")
    first, *table = done.stdout.splitlines()[: len(rows) + 1]
    hours, minutes = divmod(sum(rows.values()), 60)
    told = f"{hours} h {minutes} min".removeprefix("0 h ")
    assert first.startswith(f"Profile laptop, {slices - known} slices: about {told} on two CPU cores")
    assert [line.split()[:2] for line in table] == [[row, str(minutes)] for row, minutes in rows.items()]
    assert known or hours < 6, "laptop is a matter of one night"
    done = copy.bash("run_all.sh", "--dataset", "mine", "--profile", "gpu", fail_at="02_merge")
    assert "time not measured" in done.stdout.splitlines()[0]


def test_laptop_trains_folds_in_two_lanes_and_stops_both_at_the_first_failure(copy: Copy) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    words = ["--dataset", "mine", "--profile", "laptop"]
    assert copy.bash("run_all.sh", *words).returncode == 0
    name = rows_of("laptop")["task1"][1]
    folds = [re.findall(r"--fold (\d)", call) for call in copy.log if f"01_train.py --experiment {name} " in call]
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core, one lane")
    assert sorted(fold for (fold,) in folds) == ["0", "1", "2", "3", "4"]
    failed = copy.bash("run_all.sh", *words, fail_at="--fold 1 ")
    assert failed.returncode == 7 and failed.stderr.splitlines()[-1].endswith("--from-step 6 --profile laptop")
    calls = copy.log
    assert not any("--fold 3" in call or name + "-plain" in call for call in calls), "nothing follows a failure"


@pytest.mark.parametrize(("rows", "detects"), [("a_1,a,1,2,3,4\n", True), ("", False)])
def test_detection_is_left_out_where_there_are_no_boxes(copy: Copy, rows: str, detects: bool) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    boxes = copy.folder / "data" / "work" / "mine" / "boxes.csv"
    boxes.parent.mkdir(parents=True)
    boxes.write_text("image_id,class,xmin,ymin,xmax,ymax\n" + rows)
    done = copy.bash("run_all.sh", "--dataset", "mine")
    assert done.returncode == 0 and ("skipped: boxes.csv has no box" in done.stdout) is not detects
    calls = copy.log
    assert any("task2_detection" in call for call in calls) is detects
    assert calls[-1].startswith("scripts/90_make_report.py")


@pytest.mark.parametrize(("masks", "boxes", "flag"), [(0, 3, ""), (7, 3, "--boxes"), (7, 0, "--region slice")])
def test_segmentation_needs_masks_and_sees_whole_slices_without_boxes(copy: Copy, masks: int, boxes: int, flag: str) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    work = copy.folder / "data" / "work" / "mine"
    work.mkdir(parents=True)
    (work / "boxes.csv").write_text("image_id,class,xmin,ymin,xmax,ymax\n" + "a_1,a,1,2,3,4\n" * boxes)
    (work / "dataset.json").write_text(f'{{\n  "counts": {{\n    "masks": {masks},\n    "boxes": {boxes}\n  }}\n}}\n')
    done = copy.bash("run_all.sh", "--dataset", "mine")
    assert done.returncode == 0 and ("skipped: labels.csv names no mask" in done.stdout) is (masks == 0)
    calls = [call for call in copy.log if "task3_segmentation" in call]
    assert bool(calls) is (masks > 0) and any("06_" in call for call in calls) is (masks > 0 and boxes > 0)
    training = [call for call in calls if "02_train" in call]
    assert all(flag in call for call in training) and ("--region slice" in " ".join(training)) is (masks > 0 and not boxes)


@pytest.mark.parametrize(
    ("labels", "exclusive", "trained"), [(["IPH", "SAH"], False, True), (["hemorrhage"], False, False), (["a", "b"], True, False)]
)
def test_types_need_labels_that_go_together(copy: Copy, labels: list[str], exclusive: bool, trained: bool) -> None:
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    work = copy.folder / "data" / "work" / "mine"
    work.mkdir(parents=True)
    told = {"labels": labels, "exclusive": exclusive, "classes": ["x", "y"]}
    (work / "dataset.json").write_text(json.dumps(told, indent=2))
    done = copy.bash("run_all.sh", "--dataset", "mine")
    assert done.returncode == 0 and ("skipped: labels.csv has no labels" in done.stdout) is not trained
    assert any("task4_multilabel" in call for call in copy.log) is trained


@pytest.mark.parametrize("profile", ["laptop", "gpu", "demo"])
def test_both_stages_of_the_cascade_are_trained_on_the_same_folds(copy: Copy, profile: str) -> None:
    done = copy.bash("run_all.sh", "--dataset", "demo", "--profile", profile, "--list")
    training = [line for line in done.stdout.splitlines() if "demo-types" in line and "_train.py" in line]
    assert ["task1" in line for line in training] == [True, False]
    assert ["--fold 0" in line for line in training] == [profile == "demo"] * 2


def test_the_demonstration_has_types_of_bleeding_as_data_of_their_own(copy: Copy, tmp_path: Path) -> None:
    place = tmp_path / "other place"
    place.mkdir()
    done = copy.bash("run_all.sh", "--dataset", "demo", "--root", str(place))
    assert done.returncode == 0, done.stderr
    of_types = [call for call in copy.log if "--dataset demo-types" in call]
    assert of_types[0] == (
        f"scripts/01_get_data.py --dataset demo-types --root {place} --from {place}/data/raw/demo/types --skip-if-done"
    )
    assert all(f"--root {place}" in call and "--dataset demo " not in call for call in of_types)
    assert [call.split()[0] for call in of_types if "task4" in call] == [
        f"task4_multilabel/{name}.py" for name in ("01_prepare_labels", "02_train", "03_evaluate", "04_cascade", "10_explain")
    ]


def test_the_value_of_masks_goes_to_the_steps_that_read_them(copy: Copy) -> None:
    done = copy.bash("run_all.sh", "--dataset", "mine", "--mask-value", "3", "--list")
    told = [line.split()[2] for line in done.stdout.splitlines() if "--mask-value 3" in line]
    of_task = [f"task3_segmentation/{name}.py" for name in ("01_make_seg_dataset", "02_train")]
    of_maps = ["task1_classification/08_explain.py", "task4_multilabel/10_explain.py"]
    assert told == ["scripts/04_check_data.py", of_maps[0], *of_task, of_maps[1]]
    (copy.folder / "data" / "raw" / "mine").mkdir(parents=True)
    failed = copy.bash("run_all.sh", "--dataset", "mine", "--mask-value", "3", fail_at="05_make_splits")
    assert failed.stderr.splitlines()[-1].endswith("--from-step 5 --mask-value 3")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "--dataset NAME"),
        (["--dataset"], "--dataset needs a value"),
        (["--dataset", "mine"], "python scripts/01_get_data.py --from DIR --dataset mine"),
        (["--dataset", "demo", "--from-step", "99"], "--from-step 99"),
        (["--dataset", "demo", "--from-step", "two"], "--from-step two"),
        (["--dataset", "demo", "--root", "nowhere"], "--root nowhere"),
        (["--dataset", "demo", "--forse"], "unknown flag --forse"),
        (["--dataset", "demo", "--profile", "labtop"], "--profile labtop is none of laptop, gpu and demo"),
        (["--dataset", "demo", "--mask-value", "edema"], "--mask-value edema"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(copy: Copy, flags: list[str], problem: str) -> None:
    done = copy.bash("run_all.sh", *flags)
    assert done.returncode == 2
    assert problem in done.stderr and done.stderr.count("\n") == 1
    assert copy.log == []


def test_demo_installs_only_when_the_requirements_changed(copy: Copy) -> None:
    def installations() -> int:
        done = copy.bash("demo.sh")
        assert done.returncode == 0, done.stderr
        assert "outputs/demo/report.html" in done.stdout
        return sum("pip install" in call for call in copy.log)

    assert [installations(), installations()] == [2, 0], "PyTorch, then the rest"
    with (copy.folder / "requirements.txt").open("a") as stream:
        stream.write("# one more line\n")
    assert [installations(), installations()] == [2, 0], "PyTorch, then the rest"


def test_what_setup_was_asked_for_stays_until_it_is_asked_again(copy: Copy) -> None:
    def calls(script: str, *flags: str) -> list[str]:
        done = copy.bash(script, *flags)
        assert done.returncode == 0, done.stderr
        return [call for call in copy.log if "pip install" in call]

    (first,) = calls("setup.sh", "--cpu")
    assert "-c requirements-cpu.txt --extra-index-url https://" in first and "-r requirements.txt" in first
    assert calls("setup.sh", "--cpu") == calls("test.sh") == [], "the tests keep what is there"
    assert "--require-hashes -r requirements.lock" in calls("setup.sh", "--locked")[0]
    assert ["torch==" in call or call.partition(" -r ")[2] for call in calls("setup.sh")] == [True, "requirements.txt"]
    done = copy.bash("setup.sh", "--cuda")
    assert done.returncode == 2 and "unknown flag --cuda" in done.stderr and done.stderr.count("\n") == 1


def test_a_failed_installation_is_tried_again(copy: Copy) -> None:
    failed = copy.bash("test.sh", fail_at="pip install")
    assert failed.returncode == 2 and "installation failed" in failed.stderr
    assert copy.bash("test.sh", "-k", "train").returncode == 0
    calls = copy.log
    assert sum("pip install" in call for call in calls) == 3, "one that failed, PyTorch, the rest"
    assert calls[-1].startswith("-m pytest") and calls[-1].endswith("tests -k train")


@pytest.mark.parametrize("programs", ["bin", "Scripts"])
def test_conda_base_is_left_alone_for_an_environment_of_its_own(copy: Copy, tmp_path: Path, programs: str) -> None:
    base, own = tmp_path / "conda", tmp_path / "own.log"
    stub = tmp_path / "stub"
    stub.write_text(STUB.format(python=sys.executable, log=own))
    (base / "bin").mkdir(parents=True)
    (base / "bin" / "python").write_text(STUB.format(python=sys.executable, log=tmp_path / "base.log"))
    (base / "bin" / "python3.12").write_text(MAKER.format(programs=programs, stub=stub, python=sys.executable))
    for path in (stub, *(base / "bin").iterdir()):
        path.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    active = {"CONDA_PREFIX": str(base), "PATH": f"{base / 'bin'}:{os.environ['PATH']}", "FAIL_AT": "nothing"}

    def calls(environment: str) -> list[str]:
        settings = inherited | active | {"CONDA_DEFAULT_ENV": environment}
        done = subprocess.run(
            ["bash", copy.folder / "scripts" / "test.sh"], env=settings, cwd=copy.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        made = own.read_text().splitlines() if own.exists() else []
        own.unlink(missing_ok=True)
        return made

    assert sum("pip install" in call for call in calls("base")) == 2
    assert not any("pip install" in call for call in calls("base")), "the second call finds it as it is"
    assert not (tmp_path / "base.log").exists()
    assert calls("mine") == [] and "pip install" in (tmp_path / "base.log").read_text(), "a named one is used"


def test_without_a_fitting_python_one_line_says_so(copy: Copy, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    for name in ("python3.12", "python3.13", "python3.11", "python3"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        [tools / "bash", copy.folder / "scripts/demo.sh"], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr and done.stderr.count("\n") == 1


def test_flags_of_the_labels_are_sent_behind_the_two_dashes(copy: Copy) -> None:
    done = copy.bash("run_all.sh", "--dataset", "mine", "--layout", "csv")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "-- --layout csv" in done.stderr
