"""model.json: what every trained model says of itself, whatever its task."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from hemoct.base import experiments, files
from hemoct.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How a model is fed, and which slices it learned from. Each task adds what rebuilds its models, and sets TASK."""

    TASK = 0

    image_size: int
    """side of what it sees, in pixels"""
    mean: float
    std: float
    """grey values in 0..1 are fed as (value - mean) / std"""
    protocol: str
    split: str
    fold: int | None
    """None after a refit on all patients"""
    splits_sha256: str
    window: str | None = None
    """in which the slices were converted from HU; None: they were not, or it is not recorded"""
    prepare: list[str] = field(default_factory=list)
    """what was done with each image, in this order (hemoct.prepare.options.NAMES)"""
    orientation: str | None = None
    """where the nose points in what it learned from; None: not recorded"""
    initial_weights: dict[str, Any] | None = None
    """where the weights came from that training started with (training.weights.Origin); None: from scratch, or not recorded"""

    def save(self, folder: Path) -> Path:
        return files.write_json(folder / "model.json", {"task": self.TASK, **asdict(self)})

    @classmethod
    def read_all(cls, folders: list[Path], alike: Iterable[str]) -> list[Self]:
        """The specs of models whose predictions are put together; stops where they differ in a field that has to be `alike`.

        What an older one does not say of the orientation is what the others say.
        """
        specs = [cls.read(folder) for folder in folders]
        said = next((spec.orientation for spec in specs if spec.orientation is not None), None)
        specs = [replace(spec, orientation=said if spec.orientation is None else spec.orientation) for spec in specs]
        for folder, spec in zip(folders, specs, strict=True):
            other = ", ".join(
                name for name in (*alike, "window", "prepare", "orientation") if getattr(spec, name) != getattr(specs[0], name)
            )
            if other:
                raise UserError(f"{folder} differs from {folders[0]} in {other} (model.json); train the folds again, all alike")
        return specs

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The spec beside a checkpoint; stops when it is not one of this task."""
        path = folder / "model.json"
        if not path.exists():
            raise UserError(f"{path} is missing; train with {experiments.train_step(cls.TASK)}")
        content = files.read_json(path)
        if content.pop("task", None) != cls.TASK:
            raise UserError(f"{path} describes a model of another task; name an experiment of task {cls.TASK}")
        unknown = content.keys() - {one.name for one in fields(cls)}
        if unknown:
            made_by = content.get("made_by", "another version")
            raise UserError(
                f"{path} describes no single network (it was made by {made_by}: {min(unknown)}); name an experiment that was "
                f"trained with {experiments.train_step(cls.TASK)}"
            )
        return files.read_into(cls, content, path)
