"""Without the project's environment a step says in one line how to activate it, from whichever folder it is called."""

import subprocess
import sys
from pathlib import Path

import environment
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = sorted(REPOSITORY.glob("*/[0-9][0-9]_*.py"))


@pytest.mark.parametrize(
    "step", [STEPS[0], *(path for path in STEPS if path.name == "01_train.py")], ids=lambda path: path.parent.name
)
def test_a_python_without_the_packages_is_told_what_to_do(step):
    done = subprocess.run([sys.executable, "-S", step.name, "--help"], cwd=step.parent, capture_output=True, text=True, env={})
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "activate" in done.stderr and done.stderr.startswith(step.name)


def test_every_step_asks_first():
    for step in STEPS:
        lines = [line for line in step.read_text(encoding="utf-8").splitlines() if line.startswith(("import ", "from "))]
        ours = next(number for number, line in enumerate(lines) if line.startswith("from hemoct"))
        assert any(line.startswith("import environment") for line in lines[:ours]), step.name


def test_another_python_is_named(monkeypatch):
    monkeypatch.setattr(environment, "PYTHONS", ((3, 99),))
    assert environment.problem().startswith("this is Python 3.") and "needs" in environment.problem()


def test_the_remedy_is_the_environment_that_is_there():
    words = environment.remedy()
    assert words.startswith("source ") == any((REPOSITORY / ".venv" / name / "activate").exists() for name in ("bin", "Scripts"))
