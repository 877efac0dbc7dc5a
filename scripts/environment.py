"""Imported first by every numbered step: says in one line what to do where the project's environment is not active."""

import importlib.util
import os
import signal
import sys
from typing import NoReturn

PYTHONS = ((3, 11), (3, 12), (3, 13))  # what the pinned packages were tried with
WITHOUT_TORCH = ("80_predict_scan.py", "81_view.py")
"""a bundle (82_export.py) needs no training library"""


def problem() -> str:
    """Why this Python cannot run a step; "" where it can."""
    if sys.version_info[:2] not in PYTHONS:
        return f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, and the project needs 3.11, 3.12 or 3.13"
    needed = ("hemoct", "pandas") if os.path.basename(sys.argv[0]) in WITHOUT_TORCH else ("hemoct", "pandas", "torch")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed in {sys.executable}" if missing else ""


def remedy() -> str:
    """The command that activates the environment of the repository, or makes it."""
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for programs in ("bin", "Scripts"):
        activate = os.path.join(repository, ".venv", programs, "activate")
        if os.path.exists(activate):
            return f"source {activate}"
    return f"bash {os.path.join(repository, 'scripts', 'test.sh')} makes it (or demo.sh), then source .venv/bin/activate"


def stopped(*_: object) -> NoReturn:
    """Ctrl-C while packages are imported: until a step's main runs nothing has begun that would have to be ended well."""
    os.write(2, f"{os.path.basename(sys.argv[0])}: stopped by the keyboard\n".encode(errors="replace"))
    os._exit(130)


if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK") != "0":  # torchrun: the first process speaks for all
    sys.stdout, os.environ["TQDM_DISABLE"] = open(os.devnull, "w"), "1"  # noqa: SIM115 (until the process ends)
if os.path.basename(sys.argv[0])[:2].isdigit() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stopped)
if problem():
    print(f"{os.path.basename(sys.argv[0])}: {problem()}; activate the environment: {remedy()}", file=sys.stderr)
    sys.exit(2)
