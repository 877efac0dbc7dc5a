"""A bundle: a folder of ONNX graphs with all that is needed to feed them and to read what they say. Imports no torch.

bundle.json describes each task as hemoct.scan.runners.Task does; SHA256SUMS is what `sha256sum -c` reads. Whoever reads a bundle
checks both: a network that was exchanged would answer as well as any other.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.scan import onnx_runners
from hemoct.scan.result import Model
from hemoct.scan.runners import Around, Classifier, Detector, Models, Segmenter, Task

SCHEMA = 1
BUNDLE, SUMS, CARD = "bundle.json", "SHA256SUMS", "MODEL_CARD.md"
EXPORT = "python scripts/82_export.py"
GRAPH = re.compile(r"[A-Za-z0-9-]+\.onnx")
KINDS = {1: ("classifier",), 2: ("boxes", "candidates"), 3: ("patches",), 4: ("classifier",)}
"""of onnx_runners.KINDS, by task"""
OWN = "of the fold, chosen on validation"
WORKERS = 4  # files that are hashed at a time


@dataclass(frozen=True, kw_only=True)
class Described:
    """A task in bundle.json: the fields of Task, its networks, and for people what its evaluation says."""

    task: int
    experiment: str
    dataset: str
    folds: list
    score: str
    weights: list[str]
    """sha256 of the weights that each network was exported from"""
    size: int
    channels: int
    context: int
    window: str | None
    prepare: list[str]
    orientation: str
    classes: list[str]
    thresholds: list
    rule: str
    kind: str
    """of onnx_runners.KINDS"""
    image_size: int
    """px, of what a network sees"""
    networks: list[str]
    """the file of each fold"""
    around: dict | None
    """of task 3: the fields of Around, its detector described like a task"""
    training: list
    """of each network: what model.json says of it"""
    means: str = "lesion"
    evaluation: dict
    """protocol, n, patients, folds (thresholds, calibration temperature), metrics with ci95; empty where there is none"""


def describe(task: Task, made: tuple[str, int, list[str]], training: list[dict], evaluation: dict[str, Any]) -> dict[str, Any]:
    """A task as bundle.json holds it, but for `around`. `made`: kind, image size and the files of its networks."""
    model, (kind, image_size, networks) = task.model, made
    told = {"task": model.task, "experiment": model.experiment, "dataset": model.dataset, "folds": model.folds}
    fields = ("size", "channels", "context", "window", "prepare", "orientation", "classes", "thresholds", "rule", "means")
    return told | {"score": model.score, "weights": model.weights} | {name: getattr(task, name) for name in fields} | {
        "kind": kind, "image_size": image_size, "networks": networks, "around": None, "training": training,
        "evaluation": evaluation,
    }  # fmt: skip


def write(folder: Path, content: dict[str, Any], card: str) -> list[str]:
    """Write bundle.json, the model card and the checksums beside the graphs that lie in `folder`; returns all names."""
    graphs = sorted(path.name for path in folder.glob("*.onnx"))
    hashes = {name: files.sha256(folder / name) for name in graphs}
    files.write_json(folder / BUNDLE, {"schema": SCHEMA, **content, "files": hashes})
    files.write_text(folder / CARD, card)
    hashes |= {name: files.sha256(folder / name) for name in (BUNDLE, CARD)}
    files.write_text(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())))
    return [*hashes, SUMS]


# ---- reading


def load(folder: Path, fast: bool = False, threads: int | None = None) -> Models:
    """The models of a bundle; `fast`: one fold of each. UserError, one line, where it is not as it was exported."""
    path = folder / BUNDLE
    content = _content(path)
    if _sums(folder).get(BUNDLE) != files.sha256(path):
        raise _damaged(path, f"it is not the file that {SUMS} was made of")
    tasks = [_task(folder, _described(one, path), (fast, threads)) for one in content["tasks"]]
    needed = sorted({name for one in content["tasks"] for name in _networks(one, fast)})
    _stop_if_other(folder, content["files"], needed)
    models = ", ".join(f"task {task.model.task} {task.model.experiment}" for task in tasks)
    said = [f"bundle {folder}: {models}; it does not know which slices they learned from"]
    return Models(tasks, said, [], [path, *(folder / name for name in needed)])


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}); copy the bundle again, or make it anew: {EXPORT}")


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: this folder is no bundle; make one: {EXPORT}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is no JSON") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise _damaged(path, "it does not say its version")
    if schema != SCHEMA:
        newer = "update this program" if schema > SCHEMA else f"export it again: {EXPORT}"
        raise UserError(f"{path} is a bundle of version {schema}, this program reads version {SCHEMA}; {newer}")
    if not isinstance(content.get("tasks"), list) or not content["tasks"] or not isinstance(content.get("files"), dict):
        raise _damaged(path, "it lists no tasks or no files")
    return content


def _sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; copy the bundle again, or make it anew: {EXPORT}") from None
    except ValueError:
        raise _damaged(path, "it is no text") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _described(content: Any, path: Path) -> Described:
    """A task of bundle.json, or the detector in it; stops at what no export wrote."""
    if not isinstance(content, dict):
        raise _damaged(path, "a task is no object")
    one = files.read_into(Described, content, path)
    many = len(one.networks)
    wrong = one.task not in KINDS or one.kind not in KINDS[one.task]
    wrong |= not many or any(len(each) != many for each in (one.folds, one.weights))
    wrong |= not all(isinstance(value, int | float) for value in one.thresholds)
    wrong |= len(one.thresholds) != (len(one.classes) if one.task in (1, 4) else 1)
    wrong |= not all(GRAPH.fullmatch(name) for name in one.networks)
    if wrong:
        raise _damaged(path, f"what it says of task {one.task} does not fit together")
    return one


def _networks(content: dict[str, Any], fast: bool) -> list[str]:
    """The files that a described task needs."""
    detector = (content["around"] or {}).get("detector")
    return [*content["networks"][: 1 if fast else None], *(_networks(detector, fast) if detector else [])]


def _stop_if_other(folder: Path, known: dict[str, str], names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder / missing[0]} is missing; copy the bundle again, or make it anew: {EXPORT}")
    with ThreadPoolExecutor(WORKERS) as pool:  # hashing releases the interpreter lock
        found = list(pool.map(files.sha256, [folder / name for name in names]))
    for name, digest in zip(names, found, strict=True):
        if known.get(name) != digest:
            raise _damaged(folder / name, "its checksum is another one")


def _limits(one: Described, fast: bool) -> tuple[list[float], str]:
    """The thresholds of a task and where they come from; of one fold alone those that it chose itself."""
    of_folds = {fold.get("fold"): fold for fold in one.evaluation.get("folds", [])}
    own = of_folds.get(one.folds[0]) if fast and len(one.folds) > 1 else None
    if own is None:
        return one.thresholds, one.rule
    each = own.get("thresholds") or {}
    values = [each.get(name) for name in one.classes] if one.task == 4 else [own.get("threshold")]
    kept = [usual if value is None else float(value) for value, usual in zip(values, one.thresholds, strict=True)]
    return kept, OWN


def _task(folder: Path, one: Described, how: tuple[bool, int | None]) -> Task:
    """A task as it is predicted with. `how`: whether one fold is enough, and threads."""
    kept = slice(1 if how[0] else None)
    paths, (limits, rule) = [folder / name for name in one.networks[kept]], _limits(one, how[0])
    around = None
    if one.around is not None:
        about = files.read_into(_Around, one.around, folder / BUNDLE)
        detector = _task(folder, _described(about.detector, folder / BUNDLE), how) if about.detector else None
        around = Around(about.margin, about.least_side, about.least_confidence[kept], detector)
    return Task(
        model=Model(one.task, one.experiment, one.dataset, one.folds[kept], one.score, one.weights[kept]), size=one.size,
        channels=one.channels, context=one.context, window=one.window, prepare=one.prepare, orientation=one.orientation,
        classes=one.classes, thresholds=limits, rule=rule,
        load=partial(_load, paths, one.kind, one.image_size, how[1]), around=around, means=one.means,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Around:
    margin: float
    least_side: int
    least_confidence: list
    detector: dict | None


def around(of: Around, detector: dict[str, Any] | None) -> dict[str, Any]:
    """Where a segmenter looks, as bundle.json holds it. `detector`: described, see `describe`."""
    return asdict(_Around(margin=of.margin, least_side=of.least_side, least_confidence=of.least_confidence, detector=detector))


def _load(paths: list[Path], kind: str, image_size: int, threads: int | None) -> list[Classifier | Detector | Segmenter]:
    return [onnx_runners.KINDS[kind](path, image_size, threads) for path in paths]
