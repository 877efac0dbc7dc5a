"""Predictions that all fold models of an experiment made together on another data set: where they lie, whether they are current.

The predicting step of a task makes them with `--on OTHER`, so that evaluations read tables alone.
"""

from collections import Counter
from pathlib import Path

from hemoct.base import experiments, files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ingest import layouts
from hemoct.sources import known


def folder(work: Workspace, task: int, experiment: str, other: str) -> Path:
    """Where predictions on the data set `other`, and their evaluation, are kept."""
    return work.task(task) / experiment / f"on-{other}"


def predicted(work: Workspace, task: int, other: str) -> list[str]:
    """The experiments with predictions on other data; stops where there is none."""
    names = sorted(path.parents[1].name for path in work.task(task).glob(f"*/on-{other}/predictions.csv"))
    if not names:
        raise UserError(f"no experiment of task {task} has predictions on {other}; {again(work, task, 'NAME', other)}")
    return names


def again(work: Workspace, task: int, experiment: str, other: str) -> str:
    """The remedy where predictions on other data are wrong."""
    return f"run: python {made_by(task, experiment, other)} --dataset {work.dataset}"


def made_by(task: int, experiment: str, other: str) -> str:
    return f"{experiments.predict_step(task)} --experiment {experiment} --on {other}"


SHARED = 0.05
"""share of another data set's images that may also be in this one, with a word"""


def other(work: Workspace, name: str) -> Workspace:
    """Another data set; stops when it holds images that the models of this one were trained on, or copies of them.

    Stops also when both were converted from HU, in other windows: what is bright there is not what the models know as bright.
    """
    data = Workspace(work.root, name)
    if data.raw.resolve() == work.raw.resolve():
        raise UserError(f"--on {name} holds the images of {work.dataset}, on which the models were trained; name other data")
    own, window = layouts.recorded_window(work.raw), layouts.recorded_window(data.raw)
    if own and window and own != window:
        raise UserError(
            f"--on {name}: its images show the window {window}, the models of {work.dataset} learned from {own}; convert it "
            f"again: python scripts/01_get_data.py --from DIR --window {own} --dataset {name}"
        )
    _stop_at_shared_people(work, data)
    theirs = _images(data)
    shared = copies(theirs, _images(work))
    words = f"{len(shared)} of {len(theirs)} images of {name} are also in {work.dataset}, on which the models were trained"
    if len(shared) > SHARED * len(theirs):
        raise UserError(f"--on {name}: {words} (first: {data.show(shared[0])}); name other data, or take these images out of it")
    if shared:
        print(f"mind: {words} (first: {data.show(shared[0])})")
    return data


def _stop_at_shared_people(work: Workspace, data: Workspace) -> None:
    """Stop when another data set holds people of this one, as public sets do that were made from one another."""
    own, other = tables.read_dataset(work), tables.read_dataset(data)
    people = known.shared_people(own.source, other.source)
    if not people:
        return
    patients = [set(tables.read_labels(one, dataset)["patient"]) for one, dataset in ((work, own), (data, other))]
    both = patients[0] & patients[1]
    if both or not (own.knows_patients and other.knows_patients):
        among = f"{len(both)} of its patients are among those of {work.dataset} (first: {min(both, default='')})"
        which = among if both else "nothing tells which"
        raise UserError(
            f"--on {data.dataset}: {own.source} and {other.source} are scans of the same people ({people}); {which}; name other "
            "data, or take these patients out of its table of labels"
        )
    print(f"mind: {own.source} and {other.source} are both of {people}; no patient has the same name in both")


def _images(work: Workspace) -> list[Path]:
    """The image files of a data set, as far as they are there."""
    paths = [work.raw / name for name in tables.read_labels(work, tables.read_dataset(work))["image"]]
    return [path for path in paths if path.exists()]


def copies(paths: list[Path], others: list[Path]) -> list[Path]:
    """Those of `paths` whose very bytes are also in one of `others`. Only files of equal size are read.

    What stands several times among the `paths` or the `others`, like an all-black slice, is no copy.
    """
    by_size: dict[int, list[Path]] = {}
    for path in others:
        by_size.setdefault(path.stat().st_size, []).append(path)
    alike = {path: size for path in paths if (size := path.stat().st_size) in by_size}
    theirs = Counter(files.sha256(path) for size in set(alike.values()) for path in by_size[size])
    of_path = {path: files.sha256(path) for path in alike}
    again = Counter(of_path.values())
    return [path for path, digest in of_path.items() if theirs[digest] == again[digest] == 1]
