"""Flags, errors in one line, run records and the up-to-date check."""

import errno
import json
import os
import resource
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run, step_name
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.sources import phantom_dataset


def parsed(words: list[str], *flags: str):
    parser = cli.parser("A step.")
    for flag in flags:
        parser.add_argument(flag, type=int, default=1)
    return cli.parse(parser, words, "/x/scripts/07_do_it.py")


@pytest.mark.parametrize(
    "words",
    [
        ["--unknown"],
        ["--see", "7"],
        ["--dataset", "../evil"],
        ["--seed", "x"],
        ["--dataset", "reference"],
        ["--dataset", "a" * 300],
        ["--seed", "1_0"],
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_step_of_another_copy_than_the_installed_one_stops(tmp_path, capsys):
    (tmp_path / "scripts" / "hemoct").mkdir(parents=True)
    with pytest.raises(SystemExit) as stop:
        cli.parse(cli.parser("A step."), [], str(tmp_path / "task1_classification" / "01_train.py"))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and f"pip install -e {tmp_path}" in error


def test_command_is_as_a_person_would_type_it():
    assert parsed(["--dataset", "a", "--skip-if-done", "--root", "/tmp"]).command == "python scripts/07_do_it.py --dataset a"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_to_is_one_line(number, capsys):
    def main():
        raise OSError(number, "nothing written", "/full/file.csv")

    with pytest.raises(SystemExit) as stop:
        cli.exit_cleanly(main)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "/full/file.csv" in error


@pytest.mark.parametrize("flags", [("--batch-size", "--image-size"), ()])
@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 256. TiB"), RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
])  # fmt: skip
def test_a_full_memory_names_the_flags_to_lower(error, flags, capsys):
    made = cli.parser("A step.")
    for flag in flags:
        made.add_argument(flag)

    def main():
        cli.parse(made, [], str(REPOSITORY / "scripts" / "07_do_it.py"))
        raise error

    with pytest.raises(SystemExit) as stop:
        cli.exit_cleanly(main)
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and shown.count("\n") == 1 and "the memory is full" in shown
    assert all((flag in shown) == (flag in flags) for flag in ("--batch-size", "--image-size"))
    with pytest.raises(RuntimeError, match="another"):
        cli.exit_cleanly(lambda: (_ for _ in ()).throw(RuntimeError("another")))


def test_a_full_disk_is_one_line_whoever_writes(tmp_path, capsys):
    header = phantom_dataset._dicom_slice(1, 0, np.zeros((512, 512)))

    def main():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with pytest.raises(SystemExit) as stop:
        cli.exit_cleanly(main)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "free the disk" in error


def test_remedies_are_commands_for_the_same_root(tmp_path):
    step = [sys.executable, "task3_segmentation/03_evaluate.py", "--dataset", "toy"]
    (tmp_path / "two words" / "data").mkdir(parents=True)
    for root in ([f"--root={tmp_path}"], ["--root", str(tmp_path / "two words")]):
        done = subprocess.run([*step, *root], cwd=REPOSITORY, capture_output=True, text=True)
        place = shlex.quote(root[-1].removeprefix("--root="))
        assert done.returncode == 2 and f"run: python task3_segmentation/02_train.py --root {place} --dataset toy" in done.stderr
    assert "--root" not in subprocess.run(step, cwd=REPOSITORY, capture_output=True, text=True).stderr


def test_a_bug_stays_a_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.exit_cleanly(lambda: 1 / 0)
    with pytest.raises(OSError, match="elsewhere"):
        cli.exit_cleanly(lambda: (_ for _ in ()).throw(OSError(errno.EIO, "elsewhere")))


def test_output_that_nobody_reads_on_is_no_error():
    noisy = "from hemoct.base import cli; cli.exit_cleanly(lambda: [print('x' * 999) for _ in range(9999)])"
    done = subprocess.run(f'"{sys.executable}" -c "{noisy}" | head -n 1', shell=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_a_run_is_up_to_date_only_for_the_same_flags_inputs_and_outputs(tmp_path):
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("a")
    words = ["--root", str(tmp_path), "--skip-if-done"]

    def run(*extra: str) -> Run:
        return Run("scripts/07_do_it.py", parsed([*words, *extra], "--size"), tmp_path, [source])

    first = run()
    assert not first.up_to_date()
    with first:
        assert json.loads(first.path.read_text())["status"] == "unfinished"
        first.wrote(files.write_text(result, "b"))
    assert json.loads(first.path.read_text())["status"] == "ok"
    assert run().up_to_date()
    assert not run("--size", "2").up_to_date()
    result.unlink()
    assert not run().up_to_date()
    result.write_text("b")
    source.write_text("changed")
    assert not run().up_to_date()


def test_a_failed_run_stays_unfinished(tmp_path):
    run = Run("scripts/07_do_it.py", parsed(["--root", str(tmp_path), "--skip-if-done"]), tmp_path, [])
    with pytest.raises(UserError), run:
        raise UserError("no")
    assert json.loads(run.path.read_text())["status"] == "unfinished"
    assert not run.up_to_date()


def test_a_finished_run_with_other_flags_is_not_written_over(tmp_path):
    def run(*words: str) -> Run:
        return Run("scripts/07_do_it.py", parsed(["--root", str(tmp_path), *words], "--size"), tmp_path, [])

    with run():
        pass
    run().stop_if_other("")
    with pytest.raises(UserError, match="--size 1"):
        run("--size", "2").stop_if_other("choose another name")


def test_a_flag_that_came_later_had_its_default_before(tmp_path):
    def run(*words: str, flags: tuple[str, ...] = ("--size", "--new")) -> Run:
        return Run("scripts/07_do_it.py", parsed(["--root", str(tmp_path), "--skip-if-done", *words], *flags), tmp_path, [])

    with run(flags=("--size",)):
        pass
    assert run().up_to_date()
    run().stop_if_other("")
    assert not run("--new", "2").up_to_date()
    with pytest.raises(UserError, match="--new 1"):
        run("--new", "2").stop_if_other("choose another name")


def test_replacing_leaves_the_old_file_when_writing_fails(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "full")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_experiments_are_named_by_what_differs():
    parser = cli.parser("A step.")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--experiment")
    parser.named.update(weights={"none": "scratch"}, lr="lr{:g}")

    def name(*words: str) -> str:
        return cli.experiment_name(parser, cli.parse(parser, list(words), __file__), "net")

    assert name() == "net"
    assert name("--weights", "none", "--lr", "0.5") == "net-scratch-lr0.5"
    assert name("--weights", "/some/my model.pt") == "net-my_model"
    assert name("--lr", "0.5", "--experiment", "mine") == "mine"
    for path in ("../mine", "/tmp/mine", "mine/", "..", "."):
        with pytest.raises(UserError, match="give the name of a folder, no path"):
            name("--experiment", path)
    for own in ("comparison", "Comparison", "on-cq500", "first-10-patients", "truth-boxes", "fold0", "unfinished", "grid"):
        with pytest.raises(UserError, match="choose another name"):
            name("--experiment", own)
    assert name("--experiment", "comparison2") == "comparison2"
    with pytest.raises(UserError, match=r"has 300 bytes.* shorter"):
        name("--experiment", "e" * 300)


def test_ctrl_c_while_packages_are_imported_is_one_line(tmp_path):
    """As at any other time: no traceback, 130."""
    step = tmp_path / "07_do_it.py"
    step.write_text("import environment, os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport pandas\n")
    done = subprocess.run(
        [sys.executable, step], env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it for what runs in the background
    )  # fmt: skip
    assert done.returncode == 130 and done.stderr == "07_do_it.py: stopped by the keyboard\n"
    main = "def main():\n    try: os.kill(os.getpid(), signal.SIGINT)\n    finally: print('swept')\ncli.exit_cleanly(main)\n"
    step.write_text(f"import environment, os, signal\nfrom hemoct.base import cli\n{main}")
    done = subprocess.run(
        [sys.executable, step], env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == 130 and (done.stdout, done.stderr) == ("swept\n", "07_do_it.py: stopped by the keyboard\n")


def test_a_name_that_no_disk_takes_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.exit_cleanly(lambda: (tmp_path / ("a" * 300)).mkdir())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "255 bytes" in error


def test_what_is_said_of_a_broken_table_is_no_longer_than_a_screen(capsys):
    with pytest.raises(SystemExit):
        cli.exit_cleanly(lambda: (_ for _ in ()).throw(UserError(f"the column {'x' * 10**6} is not known; correct it")))
    error = capsys.readouterr().err
    assert len(error) < 10_000 and error.endswith("... is not known; correct it\n")


@pytest.mark.parametrize("step", sorted(REPOSITORY.glob("*/[0-9][0-9]_*.py")), ids=step_name)
def test_every_step_runs_when_it_is_called(step):
    assert step.read_text().endswith('\n\nif __name__ == "__main__":\n    cli.exit_cleanly(main)\n')


def test_a_run_that_is_gone_on_with_keeps_what_it_took_before(tmp_path):
    source, folder = tmp_path / "in.csv", tmp_path / "out"
    source.write_text("a")

    def run(*words: str) -> Run:
        parser = cli.parser("A step.")
        parser.add_argument("--resume", action="store_true")
        parser.add_argument("--lr", type=int, default=1)
        return Run("/x/07_do_it.py", cli.parse(parser, ["--root", str(tmp_path), *words], "/x/07_do_it.py"), folder, [source])

    with pytest.raises(ZeroDivisionError), run():
        1 / 0  # noqa: B018
    first = files.read_json(folder / "07_do_it.run.json")
    assert first["status"] == "unfinished" and first["wall_s"] >= 0
    for times in (1, 2):
        with run("--resume"):
            pass
        record = files.read_json(folder / "07_do_it.run.json")
        assert record["status"] == "ok" and len(record["earlier"]) == times
    assert record["earlier"][0]["started"] == first["started"] and record["earlier"][0]["wall_s"] == first["wall_s"]
    with run("--resume", "--lr", "2"):
        pass
    assert "earlier" not in files.read_json(folder / "07_do_it.run.json"), "another training"


def test_a_data_set_that_is_not_there_is_told_with_those_that_are(tmp_path):
    work = Workspace(tmp_path, "phe-sihc")
    with pytest.raises(UserError, match=r"make it with: python scripts/03_make_labels\.py --dataset phe-sihc"):
        work.need(work.work / "labels.csv", "scripts/03_make_labels.py")
    (tmp_path / "data" / "raw" / "phe-sich").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no data set is called phe-sihc; there are: phe-sich \(--dataset NAME\)"):
        work.need(work.work / "labels.csv", "scripts/03_make_labels.py")
