"""What the chain says of a step: its command, and the files that it reads and writes.

Files are patterns relative to --root, written `FOLDER NAME NAME ...`. `{dataset}` is the data set of the step, `{types}` that
of task 4 (`demo-types` in the demonstration), `{demo}` that of all other tasks. `{classifier}`, `{also}`, `{detector}`,
`{segmenter}` and `{typer}` are the experiments of the profile, `{experiment}` is each experiment of the step's `rows`, `{fold}`
each fold that it is trained on. A star is anything, `/` too.
"""

from dataclasses import dataclass, replace
from typing import Any

EXPERIMENTS = {"classifier": "task1", "also": "task1-also", "detector": "task2", "segmenter": "task3", "typer": "task4",
               "pretraining": "pretrain", "pretrained": "task1-pretrained", "side": "side", "quarters": "quarters",
               "multitask": "multitask"}  # fmt: skip
"""the row of scripts/profiles.txt that names each"""

WORK, OUTPUTS = "data/work/{dataset}", "outputs/{dataset}"
RAW = "data/raw {dataset}"
LABELS = f"{WORK} dataset.json labels.csv"
TABLES = f"{WORK} dataset.json images.csv labels.csv splits.csv"
BOXES = f"{WORK} boxes.csv"
STATE = "best.pt last.pt model.json history.csv"  # what a training leaves as it goes
MODEL = "best.pt model.json history.csv predictions.csv"  # what of it is evaluated
SCORES = "metrics.json classification_report.txt confusion_matrix.png"
IF_DEFINED = "operating_points.csv per_patient.csv roc.png pr.png"  # with a positive class, patients that are known, both classes
EACH: dict[str, Any] = {"by": ("experiment",)}
TRAINING: dict[str, Any] = {"by": ("experiment", "fold"), "trains": True, "memory_mb": 8000, "minutes": 720}


def experiment(task: int, name: str = "{experiment}") -> str:
    """The folder of an experiment of a task."""
    return f"{OUTPUTS}/task{task}/{name}"


def fold(task: int, name: str = "{experiment}") -> str:
    """The folder of one of its folds."""
    return f"{experiment(task, name)}/fold{{fold}}"


def paths(folder: str, names: str) -> tuple[str, ...]:
    """The paths of `NAME NAME ...` in a folder; a name that begins with `/` lies below the root instead."""
    return tuple(name[1:] if name.startswith("/") else f"{folder}/{name}" for name in names.split())


@dataclass(frozen=True)
class Record:
    """A run record that a step leaves in `folder`, and the files of which it tells."""

    folder: str
    reads: tuple[str, ...] = ()
    """`FOLDER NAME ...`; what a data set does not have (XML, a table of patients) is not read"""
    writes: str = ""
    """names in `folder` that are there whenever the step has ended well: a workflow engine waits for them"""
    beside: str = ""
    """what is not always made, folders, and what a training goes on with: a workflow engine leaves them alone"""

    @property
    def read(self) -> tuple[str, ...]:
        return tuple(path for line in self.reads for path in paths(*line.split(maxsplit=1)))

    @property
    def written(self) -> tuple[str, ...]:
        return paths(self.folder, self.writes)

    @property
    def others(self) -> tuple[str, ...]:
        return paths(self.folder, self.beside)


@dataclass(frozen=True)
class Step:
    """A numbered script as the chain calls it."""

    script: str
    flags: str = ""
    """`{classify}`, `{mask_value}` ... are flags that plan.py fills in"""
    last: str = ""
    """what stands behind --dataset and --root"""
    records: tuple[Record, ...] = ()
    rows: tuple[str, ...] = ()
    """of scripts/profiles.txt: the experiments that it is about; without one of them in the profile there is no such step"""
    by: tuple[str, ...] = ()
    """`experiment`, `fold`: a job each in a workflow engine, where run_all.sh does them all in one command"""
    after: tuple[str, ...] = ()
    """`FOLDER NAME ...`: what must be there, though no record names it"""
    figures: str = ""
    """names in `writes` that the report of a workflow engine shows"""
    needs: str = ""
    """what the data set must have: boxes, masks or types; several are joined by a space"""
    typed: bool = False
    """on the data set of task 4"""
    demo: bool = False
    """of the demonstration alone: there the types of bleeding are on other phantoms, a data set of their own"""
    trains: bool = False
    """takes --resume and --threads, and a GPU where there is one"""
    suffix: str = ""
    """of the name, where the chain calls a script more than once"""
    memory_mb: int = 4000
    minutes: int = 60

    @property
    def name(self) -> str:
        """`make_labels`, `task1_train_also`."""
        room, file = self.script.split("/")
        task = "" if room == "scripts" else room.split("_")[0] + "_"
        return task + file[3:].removesuffix(".py") + self.suffix

    def record_of(self, record: Record) -> str:
        """The pattern of the run record's own path."""
        return f"{record.folder}/{self.script.split('/')[1].removesuffix('.py')}.run.json"


def of_types(step: Step, **changes: Any) -> Step:
    """A step once more, for the data set of task 4 in the demonstration."""
    return replace(step, typed=True, demo=True, suffix="_of_types", **changes)
