"""A grid of trainings: which conditions there are, checked before anything is trained; each trained and evaluated."""

import csv
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hemoct.base import cli, experiments, options as base_options, tables
from hemoct.base.errors import UserError, one_line
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.classification import options
from hemoct.data import slices

TRAIN, EVALUATE = (REPOSITORY / step(1) for step in (experiments.train_step, experiments.evaluate_step))
FIXED = {"dataset", "root", "skip_if_done", "resume", "overwrite", "help"}
"""flags that are the same for all conditions"""
YES, NO = ("yes", "true", "1"), ("no", "false", "0")


@dataclass(frozen=True)
class Condition:
    """One training of the grid."""

    name: str
    """what is other in it: `optimizer=sgd, augment=affine`"""
    words: list[str]
    """its flags of 01_train.py"""
    experiment: str
    """the folder of its results"""


def conditions(grid: list[str], table: Path | None, common: list[str]) -> list[Condition]:
    """Every condition: each row of `table` with each combination of `grid`. Stops, before anything is trained, at what the
    parser of 01_train.py does not take, at unknown networks, weights or labels, and at two conditions of one name."""
    made: dict[str, Condition] = {}
    for row, *chosen in itertools.product(_rows(table) if table else [{}], *map(_values, grid)):
        given = row | dict(chosen)
        name = ", ".join(f"{flag}={value}" for flag, value in given.items() if value and flag != "experiment")
        condition = _condition(name or "default", given, common)
        if condition.experiment in made:
            other = made[condition.experiment].name
            raise UserError(f"'{other}' and '{condition.name}' would both be the experiment {condition.experiment}; drop one of "
                            "them, or name them in a column `experiment` of --csv")  # fmt: skip
        made[condition.experiment] = condition
    return list(made.values())


def _values(line: str) -> list[tuple[str, str]]:
    flag, _, listed = line.partition("=")
    values = [value.strip() for value in listed.split(";" if ";" in listed else ",")]
    if not flag or not all(values):
        raise UserError(f"--grid {line}: write a flag of 01_train.py and its values, --grid optimizer=adamw,sgd")
    return [(flag.strip(), value) for value in values]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"--csv {path} is missing; name a table with a row for each condition")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--csv {path} cannot be read ({one_line(error)}); save it as CSV in UTF-8") from None
    if not rows or any(None in row or None in row.values() for row in rows):
        raise UserError(f"--csv {path} needs a line with the names of flags, and below it rows with as many cells; correct it")
    return [{flag.strip(): value.strip() for flag, value in row.items()} for row in rows]


def _condition(name: str, given: dict[str, str], common: list[str]) -> Condition:
    parser = cli.parser(None)
    cli.add_experiment_flags(parser)
    base_options.add_all(parser, options.Options)
    actions = {action.dest: action for action in parser._actions if action.dest not in FIXED}
    words = []
    for flag, value in given.items():
        dest, option = flag.lstrip("-").replace("-", "_"), f"--{flag.lstrip('-').replace('_', '-')}"
        if dest not in actions:
            words.append(option)  # the parser says what it thinks of it
        elif actions[dest].nargs == 0 and value.lower() in (*YES, *NO, ""):
            words += [option] * (value.lower() in YES)
        elif value:
            words.append(f"{option}={value}")
    args = cli.parse(parser, [*common, *words], str(TRAIN))
    chosen, work = base_options.read(args, options.Options), Workspace.of(args)
    for folder in chosen.selection.folders(work.task(1)):
        chosen.initial.of_fold(work, folder).inputs()
    dataset = tables.read_dataset(work)
    slices.choose_targets(tables.read_labels(work, dataset), dataset, args.label)
    from hemoct.training import networks  # torch: what is missing is said without it

    for backbone in (args.backbone, *args.join):
        networks.stop_if_unknown(backbone, "--backbone")
    return Condition(name, words, cli.experiment_name(parser, args, args.backbone))


def run(work: Workspace, listed: list[Condition], common: list[str], seed: int, jobs: int = 1) -> list[Condition]:
    """Train and evaluate all conditions, what is up to date skipped; returns those that failed.

    `common`: flags of 01_train.py for all of them; `seed`: of the evaluations. `jobs`: how many at a time, each on its share of
    the CPU's threads; what they say is then printed when they end.
    """

    def one(number: int, condition: Condition) -> bool:
        print(f"condition {number} of {len(listed)}: {condition.name} ({condition.experiment})", flush=True)
        done = _train_and_evaluate(work, condition, [*common, *condition.words], seed, jobs)
        if not done:
            print(f"condition {number} failed, see above", flush=True)
        return done

    if jobs == 1:
        done = [one(number, condition) for number, condition in enumerate(listed, 1)]
    else:
        with ThreadPoolExecutor(jobs) as pool:  # of processes, which these threads wait for
            done = list(pool.map(one, range(1, len(listed) + 1), listed))
    return [condition for condition, well in zip(listed, done, strict=True) if not well]


def _train_and_evaluate(work: Workspace, condition: Condition, words: list[str], seed: int, jobs: int) -> bool:
    """Whether both steps ended well; each in a process of its own, so that one that is killed takes no other with it."""
    place = ["--dataset", work.dataset, "--root", str(work.root), "--seed", str(seed), "--skip-if-done"]
    options: dict[str, Any] = {}
    if jobs > 1:
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        options = {"capture_output": True, "text": True, "env": os.environ | {"OMP_NUM_THREADS": threads}}
    for command in (
        [str(TRAIN), *words, "--resume", "--skip-if-done"],
        [str(EVALUATE), "--experiment", condition.experiment, *place],
    ):
        done = subprocess.run([sys.executable, *command], check=False, **options)
        if jobs > 1:
            print(f"{condition.experiment}:\n{done.stdout}{done.stderr}", end="", flush=True)
        if done.returncode:
            return False
    return True


def stop_if_failed(failed: list[Condition], listed: list[Condition]) -> None:
    if failed:
        raise UserError(
            f"{len(failed)} of {len(listed)} conditions failed: {', '.join(sorted(one.experiment for one in failed))}; what each "
            "said stands above; when it is mended run the same command again"
        )
