"""The results that git keeps, outputs/reference/NAME/taskN: what is copied there, and what is refused.

Small files only: no weights, no images of patients, no path of a machine.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

LIMIT = 4_000_000  # bytes an experiment
EXPLAINED = tuple(f"explain/*/{name}" for name in ("metrics.json", "scores.csv", "layers.csv", "scores.png", "*.run.json"))
"""of maps: numbers, no slice"""
# What is kept of an experiment, and of the comparison of experiments, by task.
KEPT = {
    1: (
        "metrics.json", "predictions.csv", "classification_report.txt", "operating_points.csv", "per_patient.csv",
        "confusion_matrix.png", "roc.png", "calibration.png", "loss_curves.png",
        "02_evaluate.run.json", "06_ensemble.run.json", "fold*/*_train*.run.json", "fold*/history.csv", "fold*/model.json",
        *EXPLAINED,
    ),
    2: (
        "metrics.json", "predictions.csv", "classification_report.txt", "classification_summary.csv", "operating_points.csv",
        "per_patient.csv", "per_lesion.csv", "froc.csv", "localisation.csv", "errors.csv", "error_types.csv",
        "size_and_brightness.csv", "training_summary.csv", "threshold_tradeoff.png", "froc.png", "localisation.png",
        "size_and_brightness.png", "training_performance_summary.png", "04_evaluate.run.json", "fold*/0?_*.run.json",
        "fold*/history.csv", "fold*/model.json", "fold*/predictions.csv", "fold*/train_predictions.csv",
        "gate/metrics.json", "gate/predictions.csv", "gate/gate_comparison.*", "gate/*.run.json", "gate/fold*/*.run.json",
    ),
    3: (
        "metrics.json", "segmentation_metrics.csv", "per_slice.csv", "per_patient.csv", "volume_agreement.csv",
        "slice_pixels.csv", "dice_and_size.png", "volumes.png", "threshold.png", "training_curves.png",
        "03_evaluate.run.json", "07_ensemble.run.json", "fold*/*_train*.run.json", "fold*/history.csv", "fold*/model.json",
        "truth-boxes/metrics.json", "truth-boxes/segmentation_metrics.csv", "truth-boxes/per_patient.csv",
        "truth-boxes/03_evaluate.run.json", "classification/metrics.json", "classification/slice_comparison.csv",
        "classification/classification_report.txt", "classification/confusion_matrix.png", "classification/*.run.json",
        "hematoma/*.csv", "hematoma/core_and_abc2.png", "hematoma/*.run.json",
    ),
    4: (  # histories and predictions draw the other figures again
        "metrics.json", "predictions.csv", "per_label.csv", "cooccurrence.csv", "confusions.csv", "diagnosis.md",
        "classification_report.txt", "confusion_matrices.png", "03_evaluate.run.json", "09_ensemble.run.json",
        "fold*/*_train*.run.json", "fold*/history.csv", "fold*/model.json", "stage_one.csv", "comparison.csv",
        "comparison.md", "04_cascade.run.json", *EXPLAINED,
    ),
}  # fmt: skip
COMPARED_BY = {1: "03_compare.py", 2: "08_compare.py", 3: "08_compare.py", 4: "07_compare.py"}
COMPARISON = ("comparison.csv", "comparison.md", "comparison.png", "*_compare.run.json")


def kept_files(work: Workspace, task: int, name: str) -> list[Path]:
    """The files that are kept of an experiment, or of the `comparison` of experiments."""
    folder = work.task(task) / name
    return [path for pattern in (COMPARISON if name == "comparison" else KEPT[task]) for path in sorted(folder.glob(pattern))]


def check(work: Workspace, task: int, names: list[str]) -> None:
    """Raise UserError when one of these experiments, or the comparison, is not what git should keep.

    An experiment is not evaluated, a run of it did not end, or it is larger than LIMIT; the comparison compares what is neither
    kept as it was then nor one of these.
    """
    for name in names:
        source, kept = work.task(task) / name, kept_files(work, task, name)
        if not (source / "metrics.json").is_file():
            have = ", ".join(experiments.evaluated(work, task))
            raise UserError(f"{work.show(source)} has no metrics.json; evaluated experiments are: {have}")
        for path in kept:
            if path.name.endswith(".run.json"):
                _need_end(work, path)
        sizes = {path: path.stat().st_size for path in kept}
        if sum(sizes.values()) > LIMIT:
            largest = max(sizes, key=sizes.get)
            raise UserError(
                f"{work.show(source)} has {sum(sizes.values()) / 1e6:.1f} MB to keep in git where {LIMIT / 1e6:.1f} MB is the "
                f"limit; make {largest.relative_to(source)} ({sizes[largest] / 1e6:.1f} MB) smaller"
            )
    if kept_files(work, task, "comparison"):
        _check_comparison(work, task, names)


def _check_comparison(work: Workspace, task: int, coming: list[str]) -> None:
    source, kept = work.task(task) / "comparison", work.reference / f"task{task}"
    step = f"{experiments.FOLDERS[task]}/{COMPARED_BY[task]}"
    record = _need_end(work, work.need(source / f"{Path(step).stem}.run.json", step))
    for name, digest in record["inputs"].items():
        inside = Path(name).parts[Path(name).parts.index(f"task{task}") + 1 :]  # EXPERIMENT/FILE, EXPERIMENT/truth-boxes/FILE
        place = work.task(task) if inside[0] in coming else kept
        if files.fingerprint(place.joinpath(*inside)) != digest:
            raise UserError(
                f"{work.show(source)} compares {inside[0]}, of which {work.show(kept)} holds no copy or another; name it with "
                f"--experiment too, or compare what is kept: python {step} --dataset {work.dataset} EXPERIMENT ..."
            )


def _need_end(work: Workspace, path: Path) -> dict[str, Any]:
    """A run record; stops when the run did not end."""
    record = files.read_json(path)
    if record["status"] != "ok":
        raise UserError(f"{work.show(path)} says that the run did not end; run its command again before publishing")
    return record


def publish(work: Workspace, task: int, names: list[str]) -> list[Path]:
    """Copy what is kept of experiments and of their comparison to the reference folder, replacing what was there, each whole or
    not at all; returns the new folders. `check` comes before."""
    dataset = work.work / "dataset.json"  # which rule found the patients, among other things
    if dataset.is_file():
        files.write_json(work.reference / "dataset.json", files.read_json(dataset))
    targets = []
    for name in (*names, "comparison"):
        kept, target = kept_files(work, task, name), work.reference / f"task{task}" / name
        if not kept:
            continue
        with files.replacing_folder(target) as temporary:
            for path in kept:
                copied = temporary / path.relative_to(work.task(task) / name)
                copied.parent.mkdir(parents=True, exist_ok=True)
                if path.name.endswith(".run.json"):
                    files.write_json(copied, portable(files.read_json(path), work.root))
                else:
                    shutil.copyfile(path, copied)
        targets.append(target)
    return targets


def portable(record: Any, root: Path) -> Any:
    """A run record without a machine's paths: relative to `root`, the bare name elsewhere, no --root."""
    if isinstance(record, dict):
        plain = {_portable(key, root): portable(value, root) for key, value in record.items()}
        return plain | {"command": _portable_command(record["command"], root)} if "command" in record else plain
    if isinstance(record, list):
        return [portable(value, root) for value in record]
    return _portable(record, root) if isinstance(record, str) else record


def _portable(text: str, root: Path) -> str:
    path = Path(text)
    if not path.is_absolute():
        return text
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _portable_command(command: str, root: Path) -> str:
    words = [part for word in shlex.split(command) for part in (word.split("=", 1) if word.startswith("--") else [word])]
    kept = [word for before, word in zip(["", *words], words, strict=False) if "--root" not in (before, word)]
    return shlex.join(_portable(word, root) for word in kept)
