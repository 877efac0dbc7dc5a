"""The commands that made a result, from their run records."""

import re
from collections.abc import Iterable
from typing import Any

SINGLE = re.compile(r" --(fold|threads|device) \S+| --resume\b")  # flags that say where and in which pieces a command ran


def commands(records: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """(command, how it ran) of run records, each command once: the folds of one training share it, their times add up.

    Folds that were trained one by one are shown as the one command that trains them all.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault(SINGLE.sub("", record["command"]), []).append(record)
    shown = {common: {record["command"] for record in same} for common, same in runs.items()}
    return [(shown[common].pop() if len(shown[common]) == 1 else common, _how(same)) for common, same in runs.items()]


def _how(records: list[dict[str, Any]]) -> str:
    runs = [run for record in records for run in (*record.get("earlier", []), record)]
    facts = [_commits(runs)]
    facts += sorted({record["device"] for record in records if record.get("device")})
    facts.append(_duration(sum(run.get("wall_s") or 0 for run in runs)))
    if any(record["status"] != "ok" for record in records):
        facts.append("did not end")
    return ", ".join(facts)


def _commits(records: Iterable[dict[str, Any]]) -> str:
    """`commit 012345678`, or each of several once: folds of one training may come from different states of the code."""
    names = dict.fromkeys(
        (record.get("git_commit") or "unknown")[:9] + (" with uncommitted changes" if record.get("git_dirty") else "")
        for record in records
    )
    return ("commit " if len(names) == 1 else "commits ") + " and ".join(names)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
