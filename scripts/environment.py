"""Imported first by every numbered step: says in one line what to do where the project's environment is not active."""

import importlib.util
import os
import sys

PYTHONS = ((3, 11), (3, 12))  # what the pinned packages were tried with


def problem() -> str:
    """Why this Python cannot run a step; "" where it can."""
    if sys.version_info[:2] not in PYTHONS:
        return f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, and the project needs 3.11 or 3.12"
    missing = [name for name in ("hemoct", "pandas", "torch") if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed in {sys.executable}" if missing else ""


def remedy() -> str:
    """The command that activates the environment of the repository, or makes it."""
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for programs in ("bin", "Scripts"):
        activate = os.path.join(repository, ".venv", programs, "activate")
        if os.path.exists(activate):
            return f"source {activate}"
    return f"bash {os.path.join(repository, 'scripts', 'test.sh')} makes it (or demo.sh), then source .venv/bin/activate"


if problem():
    print(f"{os.path.basename(sys.argv[0])}: {problem()}; activate the environment: {remedy()}", file=sys.stderr)
    sys.exit(2)
