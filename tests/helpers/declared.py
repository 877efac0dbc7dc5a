"""Whether the steps of the chain read and wrote what scripts/hemoct/workflow/chain.py says: their run records tell."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from hemoct.base import files
from hemoct.workflow.plan import Plan


class Declared(NamedTuple):
    """What a run record should tell."""

    reads: list[str]
    writes: list[str]
    beside: list[str]


def records(plan: Plan) -> dict[str, Declared]:
    """By the path of each run record that the chain leaves."""
    found = {}
    for step in plan.steps:
        for job in plan.jobs(step):
            for record in step.records:
                for path in plan.expand(step, step.record_of(record), **job):
                    fold = re.search(r"fold(\d+)/[^/]*$", path)
                    of = job | ({"fold": fold[1]} if fold else {})
                    found[path] = Declared(*(kind(step, record, **of) for kind in (plan.reads, plan.writes, plan.beside)))
    return found


def differences(plan: Plan, root: Path) -> list[str]:
    """One line for each file, and each record, that is declared and not told of, or the other way round."""
    declared = records(plan)
    left = {str(path.relative_to(root)): files.read_json(path) for path in root.rglob("*.run.json")}
    lines = [f"{name}: no step declares it" for name in sorted(left.keys() - declared.keys())]
    lines += [f"{name}: no step left it" for name in sorted(declared.keys() - left.keys())]
    for name in sorted(left.keys() & declared.keys()):
        of, inputs, outputs = declared[name], left[name]["inputs"], left[name]["outputs"]
        there = [path for path in of.reads if "*" not in path and (root / path).exists()]
        lines += [f"{name}: declares, but did not read {path}" for path in there if path not in inputs]
        lines += [f"{name}: read, but does not declare {path}" for path in inputs if not _fits(path, of.reads)]
        lines += [f"{name}: declares, but did not write {path}" for path in of.writes if path not in outputs]
        lines += [f"{name}: wrote, but does not declare {path}" for path in outputs if not _fits(path, of.writes + of.beside)]
    return lines


def _fits(path: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
