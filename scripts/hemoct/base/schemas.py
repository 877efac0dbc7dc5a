"""What the JSON files between steps hold, by their names: the kinds of their fields are checked where a file is read.

Fields that are not named here are taken as they are: each task adds its own. Any field may be missing, older versions wrote
fewer; code that cannot do without it stops at that moment, see `Content`.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from hemoct.base.errors import UserError


class Damaged(UserError):
    """A file of ours that no step wrote so."""


class Content(dict):
    """An object of JSON that knows its file: a field that is looked up and not there stops with its name."""

    def __init__(self, read: Iterable[Any], path: Path | None = None) -> None:
        super().__init__(read)
        self.path = path

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:  # a plain dictionary for workers and checkpoints
        return dict, (dict(self),)

    def __missing__(self, field: str) -> Any:
        raise Damaged(f"{self.path} is damaged (it lacks {field}); restore it, or make it again with the step that wrote it")


class Record(TypedDict, total=False):
    """NN_verb_noun.run.json"""

    step: str
    command: str
    status: str
    arguments: dict[str, Any]
    inputs: dict[str, str | None]
    outputs: list[str]
    sha256: dict[str, str]
    earlier: list[dict[str, Any]]
    device: str | None
    wall_s: float | None
    git_commit: str | None
    git_dirty: bool | None


class Metric(TypedDict, total=False):
    value: float | None
    ci95: list[float] | None
    reason: str | None


class Fold(TypedDict, total=False):
    fold: int | str
    n: int
    threshold: float | None
    threshold_rule: str
    temperature: float | None
    temperature_rule: str
    thresholds: dict[str, float | None]
    threshold_rules: dict[str, str]
    temperatures: dict[str, float | None]
    val_dice: float | None
    chosen: bool
    temperature_chosen: bool
    lacks: dict[str, str]


class Metrics(TypedDict, total=False):
    """metrics.json of an evaluation"""

    n: int
    folds: list[Fold]
    metrics: dict[str, Metric]
    dataset: str
    experiment: str
    evaluated_on: str
    protocol: str
    protocol_text: str
    folds_done: str
    threshold_rule: str
    labels_mean: str | None
    positive: str | None
    patients: int | None
    positives: int | None
    training_unfinished: list[str]
    notes: list[str]
    labels: list[str]
    fold_numbers: list[int]
    folds_expected: int
    complete: bool | None
    limit_patients: int | None
    upper_bound: bool
    patients_known: bool
    baselines: dict[str, Any]
    cases: str | None
    of_studies: bool
    positives_by_label: dict[str, int | None]
    positive_patients_by_label: dict[str, int | None]
    unknown_by_label: dict[str, int]


class MadeOf(TypedDict, total=False):
    task: int
    experiment: str
    sha256: str | None


class Origin(TypedDict, total=False):
    """see training.weights.Origin"""

    name: str
    source: str | None
    licence: str | None
    sha256: str | None


class Model(TypedDict, total=False):
    """model.json: what all of them have, and what reports ask of them; the rest is checked by training.specs"""

    task: int
    fold: int | None
    protocol: str
    split: str
    splits_sha256: str
    window: str | None
    image_size: int
    validation: int
    members: list[str] | None
    members_sha256: list[str | None]
    stages: list[MadeOf]
    made_of: list[MadeOf]
    linked: dict[str, Any] | None
    initial_weights: Origin | None
    joined_weights: list[Origin | None]


class Checked(TypedDict, total=False):
    count: int
    fatal: bool
    explanation: str
    examples: list[str]


class Ceiling(TypedDict, total=False):
    value: float | None
    explanation: str
    boxed_slices: int
    without_mask_file: int
    with_mask_pixels: int


class Audit(TypedDict, total=False):
    """audit.json"""

    checks: dict[str, Checked]
    ceiling: Ceiling
    sample: dict[str, Any]


class Data(TypedDict, total=False):
    """dataset.json, see tables.Dataset"""

    name: str
    layout: str
    labels: list[str]
    classes: list[str]
    image_size: list[int] | None
    counts: dict[str, int]
    patient_source: str


KINDS: dict[str, Any] = {
    "metrics.json": Metrics,
    "model.json": Model,
    "dataset.json": Data,
    "audit.json": Audit,
    "titles.json": dict[str, str],
    ".run.json": Record,
}
"""by the end of their names"""


def plain(value: Any) -> Any:
    """A value of JSON without what its objects know of their file."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def wrong(name: str, content: Any) -> str:
    """What is wrong with the content of a file of this name: `folds[0].threshold is 'a'`; "" if nothing is."""
    kind = next((kind for end, kind in KINDS.items() if name.endswith(end)), None)
    return _wrong(content, kind, "") if kind else ""


_kinds = lru_cache(get_type_hints)
"""of the fields of a TypedDict; finding them out takes longer than checking them"""


def _wrong(value: Any, hint: Any, place: str) -> str:
    if hint is Any:
        return ""
    if get_origin(hint) in (Union, UnionType):
        told = [_wrong(value, one, place) for one in get_args(hint)]
        return "" if "" in told else told[0]  # None comes last
    if is_typeddict(hint):
        if not isinstance(value, dict):
            return _is(place, value)
        kinds = _kinds(hint)
        inside = ((name, value[name], kinds[name]) for name in kinds if name in value)
    elif get_origin(hint) is dict:
        if not isinstance(value, dict):
            return _is(place, value)
        inside = ((name, item, get_args(hint)[1]) for name, item in value.items())
    elif get_origin(hint) is list:
        if not isinstance(value, list):
            return _is(place, value)
        return next(filter(None, (_wrong(item, get_args(hint)[0], f"{place}[{at}]") for at, item in enumerate(value))), "")
    else:
        fits = isinstance(value, (int, float) if hint is float else hint)
        return "" if fits and not (isinstance(value, bool) and hint in (int, float)) else _is(place, value)
    return next(filter(None, (_wrong(item, kind, f"{place}.{name}".lstrip(".")) for name, item, kind in inside)), "")


def _is(place: str, value: Any) -> str:
    return f"{place or 'it'} is {value!r:.40}"
