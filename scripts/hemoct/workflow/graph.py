"""The chain as scripts/workflow/Snakefile needs it: what each rule waits for and makes, job by job."""

import itertools
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.workflow import profiles
from hemoct.workflow.plan import DEMO, Plan
from hemoct.workflow.steps import Step

KEYS = ("dataset", "profile", "root", "python", "mask_value", "get_flags", "label_flags", "threads", "shards", "all")
"""what `snakemake --config KEY=VALUE` may hold"""
GET_DATA = "get_data"  # yours, but that the demonstration is drawn, and what `get_flags` says how to get


@dataclass(frozen=True)
class Graph:
    """Rules and jobs of a plan. A rule is a step; `python` runs it, on `threads` cores where it trains or converts."""

    plan: Plan
    python: str
    threads: int
    shards: int = 0
    """of a conversion, a job each before the step that gets the data; 0: that step converts all"""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Graph":
        """From snakemake's `config`; stops with one line where it cannot be run."""
        if unknown := sorted(config.keys() - set(KEYS)):
            raise UserError(f"--config {unknown[0]} is unknown; there are: {', '.join(KEYS)}")
        if not config.get("dataset"):
            raise UserError("say which data: --config dataset=NAME")
        dataset, root = str(config["dataset"]), Path(config.get("root") or REPOSITORY).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"--config root={root} is no folder")
        get_flags, label_flags = (tuple(shlex.split(str(config.get(key) or ""))) for key in ("get_flags", "label_flags"))
        if dataset != DEMO and not get_flags and not Workspace(root, dataset).raw.exists():
            remedy = Workspace(root, dataset).command("scripts/01_get_data.py", "--from", "DIR")
            raise UserError(f"data/raw/{dataset} is missing in {root}; register your copy: {remedy}")
        python = Path(config.get("python") or REPOSITORY / ".venv" / "bin" / "python").expanduser()
        if not os.access(python, os.X_OK):
            raise UserError(f"{python} is no python; name that of the project's environment: --config python=FILE")
        profile = profiles.read(str(config.get("profile") or profiles.of_machine(dataset)), bool(config.get("all")))
        numbers = {key: str(config.get(key) or least) for key, least in (("threads", 2), ("shards", 0))}
        if wrong := [f"{key}={value}" for key, value in numbers.items() if not value.isdecimal()]:
            raise UserError(f"--config {wrong[0]} is no whole number")
        if int(numbers["shards"]) and "--from" not in get_flags:
            raise UserError('--config shards=N converts DICOM: say of which folder, get_flags="--from DIR"')
        plan = Plan(dataset, profile, root, str(config.get("mask_value") or ""), label_flags, get_flags=get_flags)
        return cls(plan, str(python.absolute()), int(numbers["threads"]), int(numbers["shards"]))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Those that are rules; `lacks` says which of them have no jobs."""
        gets = self.plan.is_demo or self.plan.get_flags
        return tuple(step for step in self.plan.steps if gets or step.name != GET_DATA)

    @cached_property
    def is_known(self) -> bool:
        """Whether it is known what the data set has: labels are made, or it is the demonstration."""
        return self.plan.is_demo or (Workspace(self.plan.root, self.plan.dataset).work / "dataset.json").is_file()

    def outputs(self, step: Step, **job: str) -> list[str]:
        """What a rule makes; without a `job` its wildcards are left in. A step that makes folders alone has its record."""
        wildcards = {name: "{" + name + "}" for name in step.by}
        made = []
        for pattern in [path for record in step.records for path in record.written] or [step.record_of(step.records[0])]:
            if job or not wildcards:
                made += self.plan.expand(step, pattern, **job)
            else:
                made.append(self.plan.named(step, pattern, **wildcards))
        return made

    def figures(self, step: Step) -> set[str]:
        """Those of `outputs` that a report shows."""
        names = step.figures.split()
        return {path for path in self.outputs(step) if path.rsplit("/", 1)[1] in names}

    def is_record(self, step: Step) -> bool:
        """Whether the run record is what the rule makes: it must not be kept when the step has to run again."""
        return not any(record.writes for record in step.records)

    def targets(self, *names: str) -> list[str]:
        """What all jobs make, or those of the steps of some names."""
        return [path for step, job in self._jobs if not names or step.name in names for path in self.outputs(step, **job)]

    def inputs(self, step: Step, **job: str) -> list[str]:
        """What a job waits for: what other rules make of the files that it reads, and who writes in the same folder before it."""
        own = set(self.outputs(step, **job))
        wanted = [path for record in step.records for path in self.plan.reads(step, record, **job)] + self.plan.after(step)
        found = itertools.chain.from_iterable(self._made_of(path) for path in wanted)
        shards = [self.shard(str(number)) for number in range(1, self.shards + 1)] if step.name == GET_DATA else []
        return sorted({*found, *self._before(step, job), *shards} - own)

    def shard(self, number: str) -> str:
        """What is there when a shard of the conversion is done."""
        return f"{Workspace(Path(), self.plan.dataset).work}/shards/{number}-of-{self.shards}"

    def shard_command(self, number: str, threads: int) -> str:
        """The shell command of a shard."""
        script, *words = self.plan.command(next(step for step in self.steps if step.name == GET_DATA))
        own = ["--shard", f"{number}/{self.shards}", "--workers", str(threads)]
        return shlex.join([self.python, str(REPOSITORY / script), *words, *own])

    def command(self, step: Step, threads: int, **job: str) -> str:
        """The shell command of a job."""
        script, *words = self.plan.job(step, **job)
        of_training = ["--threads", str(threads)] if step.trains else []
        return shlex.join([self.python, str(REPOSITORY / script), *words, *of_training, "--skip-if-done"])

    @cached_property
    def _jobs(self) -> list[tuple[Step, dict[str, str]]]:
        return [(step, job) for step in self.steps if not self.plan.lacks(step.needs) for job in self.plan.jobs(step)]

    @cached_property
    def _made(self) -> dict[str, str]:
        """Each file of the chain, and the output of a rule that stands for it: itself, or the first of the step that made it."""
        made = {}
        for step, job in self._jobs:
            outputs = self.outputs(step, **job)
            for record in step.records:
                others = [*self.plan.beside(step, record, **job), *self.plan.expand(step, step.record_of(record), **job)]
                made |= dict.fromkeys(others, outputs[0])
            made |= {path: path for path in outputs}
        return made

    def _made_of(self, path: str) -> list[str]:
        if "*" in path:
            return [output for made, output in self._made.items() if fnmatchcase(made, path)]
        return [self._made[path]] if path in self._made else []

    def _before(self, step: Step, job: dict[str, str]) -> list[str]:
        """Two steps that leave records in one folder must not run at once: each holds the folder's lock."""
        own, before = self._folders(step, job), []
        for other, its in self._jobs:
            if other is step:
                break
            if own & self._folders(other, its):
                before.append(self.outputs(other, **its)[0])
        return before

    def _folders(self, step: Step, job: dict[str, str]) -> set[str]:
        return {path for record in step.records for path in self.plan.expand(step, record.folder, **job)}


def stop(error: UserError) -> None:
    """End snakemake with one line."""
    print(f"Snakefile: {error}", file=sys.stderr)
    os._exit(2)
