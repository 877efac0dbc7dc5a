"""What the benchmarks share: two ways measured in alternation, a row of their ratio, one table printed and kept as JSON.

    python scripts/benchmarking.py

writes the tables of scripts/README.md again from the files in scripts/benchmarks/, which `--out` of a benchmark has written.
"""

import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hemoct.base import files

Wait = Callable[[], None]
KEPT = Path(__file__).with_name("benchmarks")
PAGE = Path(__file__).with_name("README.md")
TABLES = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end benchmarks -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One comparison: `ours` against `other`, both in `unit`, as measured in alternation."""

    what: str
    ours: float
    other: float
    ratio: float
    """above 1 where ours is better"""
    unit: str
    aim: float | None = None
    """the least ratio that is wanted"""
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        wanted = "" if self.aim is None else f"  (aim {self.aim:g}{'' if self.ratio >= self.aim else ': MISSED'})"
        return f"{self.what:58s} {self.ours:9.1f} {self.other:9.1f} {self.unit:9s} {self.ratio:6.3f}{wanted}"


def alternate(
    ways: dict[str, Callable[[], Any]], repeats: int, wait: Wait = lambda: None, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each way, in turn, so that a busy machine is busy for all; a first round warms up and does not count.

    `wait`: returns when the device has done all that it was told. `clock`: time.process_time where only this process computes,
    which other programs on the machine do not disturb.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            wait()
            start = clock()
            way()
            wait()
            if repeat:
                seconds[name].append(clock() - start)
    return seconds


def speed(what: str, seconds: dict[str, list[float]], count: int, unit: str, aim: float | None = None) -> Row:
    """The row of `ours` against `bare` from their seconds for `count` things each: medians, of the pairs for the ratio.

    A machine changes its pace from minute to minute, and two measurements that follow each other share it.
    """
    ours, bare = seconds["ours"], seconds["bare"]
    usual = [count / statistics.median(values) for values in (ours, bare)]
    ratio = statistics.median(other / one for one, other in zip(ours, bare, strict=True))
    return Row(what, *usual, ratio, unit, aim)


def machine(device: str = "") -> dict[str, Any]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cores": cores, "python": platform.python_version()} | (
        {"device": device} if device else {}
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def publish(out: Path | None, command: str, about: dict[str, Any], rows: list[Row], notes: dict[str, Any] | None = None) -> None:
    """Print the table; with `out` it is written as JSON too."""
    print(f"\n{'':58s} {'ours':>9s} {'other':>9s} {'':9s} {'ratio':>6s}")
    for row in rows:
        print(row)
    if out is not None:
        keep(out, command, about, rows, notes)


def keep(out: Path, command: str, about: dict[str, Any], rows: list[Row], notes: dict[str, Any] | None = None) -> None:
    """Write a table as JSON, for scripts/README.md."""
    kept = [{key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(row).items()}
            for row in rows]  # fmt: skip
    files.write_json(out, {"command": command, "machine": about, "rows": kept, "notes": notes or {}})
    print(f"wrote {out}")


# ---- the page


def page(text: str, kept: Path = KEPT) -> str:
    """The text of scripts/README.md with a table for each file of `kept`, so that no number is typed by hand."""
    sections = [section(files.read_json(path)) for path in sorted(kept.glob("*.json"))]
    return TABLES.sub(lambda match: match[1] + "\n".join(sections) + match[2], text)


def section(measured: dict[str, Any]) -> str:
    """What one benchmark has measured: its command, its machine, a row for each comparison, and what it says of them."""
    about = measured["machine"]
    parts = [about.get("device"), about["processor"], f"{about['cores']} cores", about.get("by")]
    where = "; ".join([*filter(None, parts), *(f"torch {about['torch']}" for _ in range("torch" in about))])
    lines = [f"`{measured['command']}` ({where})", "", "| compared | ours | other | unit | ratio | aim |",
             "| --- | ---: | ---: | --- | ---: | ---: |"]  # fmt: skip
    for row in measured["rows"]:
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        lines.append(f"| {row['what']} | {row['ours']:.4g} | {row['other']:.4g} | {row['unit']} | {row['ratio']:.2f} | {aim} |")
    said = measured.get("notes", {}).get("said", [])
    return "\n".join([*lines, *([""] if said else []), *said, "", ""])


if __name__ == "__main__":
    files.write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))
    print(f"wrote {PAGE}")
