"""scripts/profiles.txt: what is trained, under which name, and how long it takes."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY

FILE = REPOSITORY / "scripts" / "profiles.txt"
NAMES = ("laptop", "gpu", "demo")


@dataclass(frozen=True)
class Row:
    minutes: int | None
    """on two CPU cores, for as many slices as the profile was measured on; None: not measured"""
    name: str = ""
    """of the experiment"""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    name: str
    slices: int
    """that the minutes were measured on"""
    rows: dict[str, Row]

    def minutes(self, row: str, slices: int) -> int | None:
        """How long a row takes for another number of slices."""
        measured = self.rows[row].minutes
        return None if measured is None else -(-measured * slices // self.slices)


def read(name: str, everything: bool = False) -> Profile:
    """A profile by its name; rows with a plus, `+pretrain`, only when `everything` is to be done.

    Without bfloat16 in the processor its flag is left out, for it would make trainings slower.
    """
    if name not in NAMES:
        raise UserError(f"profile {name} is none of {', '.join(NAMES[:-1])} and {NAMES[-1]}")
    lines = [line.split() for line in FILE.read_text(encoding="utf-8").splitlines()]
    rows = {line[1]: line[2:] for line in lines if line[:1] == [name]}
    rows = {row.removeprefix("+"): words for row, words in rows.items() if everything or not row.startswith("+")}
    slices = int(rows.pop("slices")[0])
    return Profile(name, slices, {row: _row(words, slow=is_slow(name)) for row, words in rows.items()})


def of_machine(dataset: str) -> str:
    """The profile that is taken where none is named."""
    if dataset == "demo":
        return "demo"
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False)
    except OSError:
        return "laptop"
    return "laptop" if found.returncode else "gpu"


def is_slow(name: str) -> bool:
    """Whether a profile's trainings run on a processor without bfloat16."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        told = ""
    return name != "gpu" and not ("avx512_bf16" in told or "amx_bf16" in told)


def _row(words: list[str], slow: bool) -> Row:
    minutes, *named = words
    name, *flags = named or [""]
    text = " ".join(flags)
    return Row(
        None if minutes == "-" else int(minutes), name, tuple((text.replace(" --precision bf16", "") if slow else text).split())
    )
