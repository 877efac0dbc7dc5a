"""The chain of one data set: its steps, their commands, and the paths of their files."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hemoct.base import files
from hemoct.base.experiments import FOLDS
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.workflow.chain import STEPS
from hemoct.workflow.profiles import Profile
from hemoct.workflow.steps import EXPERIMENTS, Record, Step, paths

DEMO = "demo"
NEEDS = {"task2": "boxes", "task3": "masks", "task4": "types"}
"""what the data set must have for the rows of a task in scripts/profiles.txt"""

FLAGS = {
    **{"{classify}": "task1", "{classify_also}": "task1-also", "{detect}": "task2", "{gate}": "task2-gate"},
    **{"{segment}": "task3", "{type}": "task4", "{pretrain}": "pretrain", "{classify_pretrained}": "task1-pretrained"},
    **{"{learn_side}": "side", "{learn_quarters}": "quarters", "{train_multitask}": "multitask"},
}
"""the row whose flags a word in the flags of a step stands for"""


@dataclass(frozen=True)
class Plan:
    """What is done with a data set. `label_flags`, `get_flags`: those of steps 3 and 1 that a person gave."""

    dataset: str
    profile: Profile
    root: Path | None = None
    mask_value: str = ""
    label_flags: tuple[str, ...] = ()
    resume: bool = True
    get_flags: tuple[str, ...] = ()

    @property
    def is_demo(self) -> bool:
        return self.dataset == DEMO

    @property
    def types(self) -> str:
        """The data set of task 4. The demonstration has its types of bleeding on other phantoms."""
        return "demo-types" if self.is_demo else self.dataset

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Those that the data set and the profile have."""
        of_profile = [step for step in STEPS if set(step.rows) <= self.profile.rows.keys()]
        return tuple(step for step in of_profile if self.is_demo or not step.demo)

    @cached_property
    def lacking(self) -> dict[str, str]:
        """What the data set does not have, and how that shows; empty while that is not known yet."""
        work = Workspace(self.root or REPOSITORY, self.dataset).work
        lacking = {}
        if (work / "boxes.csv").is_file():
            with (work / "boxes.csv").open(encoding="utf-8") as stream:
                if len(list(itertools.islice(stream, 2))) < 2:  # labels alone can be classified, but nothing detected in them
                    lacking["boxes"] = "boxes.csv has no box"
        if (work / "dataset.json").is_file():
            told = files.read_json(work / "dataset.json")
            if not told.get("counts", {}).get("masks"):
                lacking["masks"] = "labels.csv names no mask"
            if not self.is_demo and (len(told.get("labels", ())) < 2 or told.get("exclusive")):
                lacking["types"] = "labels.csv has no labels that one image may have together"
        return lacking

    def lacks(self, needs: str) -> str:
        """Why the data set cannot have what needs `boxes masks`; "" where it can, or where that is not known yet."""
        return next((self.lacking[need] for need in needs.split() if need in self.lacking), "")

    # The command of a step.

    def command(self, step: Step) -> list[str]:
        """The words behind `python`, for all experiments and folds of the step."""
        place = ["--dataset", self.types if step.typed else self.dataset], ["--root", str(self.root)] if self.root else []
        flags, last = self._filled(step, step.flags), self._filled(step, step.last)
        before, behind = (place[0], []) if step.typed and self.is_demo else ([], place[0])
        return [step.script, *before, *flags, *behind, *place[1], *last, *(["--resume"] if step.trains and self.resume else [])]

    def job(self, step: Step, experiment: str = "", fold: str = "") -> list[str]:
        """The words behind `python` for one job: one experiment, one fold."""
        words = self.command(step)
        of = ["--experiment", experiment] if experiment and "--experiment" not in words else []
        return words + of + (["--fold", fold] if fold and "--fold" not in words else [])

    def _filled(self, step: Step, words: str) -> list[str]:
        filled = []
        for word in words.split():
            filled += self._flags[word] if word in self._flags else [self.named(step, word)]
        return filled

    @cached_property
    def _flags(self) -> dict[str, list[str]]:
        """What a word of a step's flags stands for."""
        rows = self.profile.rows
        once = "--fold" in rows["task4"].flags  # the cascade needs both of its stages
        return {
            "{get}": ["--demo"] if self.is_demo else [*self.get_flags] or ["--from", "DIR"],
            "{mask_value}": ["--mask-value", self.mask_value] if self.mask_value else [],
            "{label_flags}": list(self.label_flags),
            "{merge_flags}": list(self._merge_flags()),
            "{region}": ["--region", "slice"] if self.lacks("boxes") else [],
            "{fold_of_types}": ["--fold", "0"] if once and "--fold" not in rows["task1"].flags else [],
            **{word: list(rows[row].flags) for word, row in FLAGS.items() if row in rows},
        }

    def _merge_flags(self) -> Iterator[str]:
        """Steps 2 and 3 must agree on the layout."""
        for before, word in itertools.pairwise(("", *self.label_flags)):
            if before in ("--layout", "--image-set"):
                yield from (before, word)
            elif word.startswith(("--layout=", "--image-set=")):
                yield word

    # The files of a step.

    def experiments(self, step: Step) -> list[str]:
        return [self.profile.rows[row].name for row in step.rows]

    def folds(self, row: str, typed: bool = False) -> list[str]:
        """The folds that an experiment is trained on; `typed`: on the data set of task 4."""
        flags = self.profile.rows[row].flags
        if "--fold" in flags:
            return [flags[flags.index("--fold") + 1]]
        if typed and self.is_demo and row == "task1":
            return self.folds("task4")
        return [str(fold) for fold in range(FOLDS)]

    def jobs(self, step: Step) -> list[dict[str, str]]:
        """The values of the step's wildcards, job by job."""
        if "experiment" not in step.by:
            return [{}]
        named = [(row, {"experiment": self.profile.rows[row].name}) for row in step.rows]
        if "fold" not in step.by:
            return [of for _, of in named]
        return [of | {"fold": fold} for row, of in named for fold in self.folds(row, step.typed)]

    def expand(self, step: Step, pattern: str, **job: str) -> list[str]:
        """The paths that a pattern stands for in a job."""
        found = re.search(r"\{(experiment|" + "|".join(EXPERIMENTS) + r")\}", pattern)
        if found and found[1] == "experiment":
            rows = [row for row in step.rows if job.get("experiment") in (None, self.profile.rows[row].name)]
        else:
            rows = [EXPERIMENTS[found[1]]] if found else [""]
        made = []
        for row in rows:
            name = self.profile.rows[row].name if row else ""
            of_fold = self._folds_of(row, step.typed or "{types}" in pattern, job) if "{fold}" in pattern else [""]
            made += [self.named(step, pattern, experiment=name, fold=fold) for fold in of_fold]
        return made

    def _folds_of(self, row: str, typed: bool, job: dict[str, str]) -> list[str]:
        if "fold" in job:
            return [job["fold"]]
        return self.folds(row, typed) if row else [str(fold) for fold in range(FOLDS)]

    def named(self, step: Step, text: str, **more: str) -> str:
        """A text with the names of data sets and experiments in it; `more`: what stands for other words."""
        names = {name: self.profile.rows[row].name for name, row in EXPERIMENTS.items() if row in self.profile.rows}
        sets = {"dataset": self.types if step.typed else self.dataset, "types": self.types, "demo": self.dataset}
        return text.format(**names | sets | {"at": f"{self.root}/" if self.root else ""} | more)

    def reads(self, step: Step, record: Record, **job: str) -> list[str]:
        return [path for pattern in record.read for path in self.expand(step, pattern, **job)]

    def writes(self, step: Step, record: Record, **job: str) -> list[str]:
        return [path for pattern in record.written for path in self.expand(step, pattern, **job)]

    def beside(self, step: Step, record: Record, **job: str) -> list[str]:
        return [path for pattern in record.others for path in self.expand(step, pattern, **job)]

    def after(self, step: Step) -> list[str]:
        return [path for line in step.after for pattern in paths(*line.split(maxsplit=1)) for path in self.expand(step, pattern)]
