"""The house stays small and its rooms apart; the layers themselves are a contract in pyproject.toml, checked by lint-imports."""

import subprocess
import sys
from pathlib import Path

import long_tests
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LIBRARY = REPOSITORY / "scripts" / "hemoct"
ROOMS = sorted(path for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__")
MOST = 37_000  # lines of the library; lower it when it shrinks, and think twice before it rises


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_the_library_is_its_rooms_and_nothing_else():
    assert {path.name for path in LIBRARY.iterdir()} - {"__pycache__"} == {"__init__.py", *(room.name for room in ROOMS)}
    assert all(lines(path) == 0 for path in LIBRARY.rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_has_few_files_of_readable_length(room):
    modules = sorted(room.glob("*.py"))
    assert (room / "__init__.py") in modules and len(modules) <= 16
    assert [f"{path.name}: {lines(path)}" for path in modules if lines(path) > 300] == []
    assert [path.name for path in modules if lines(path) and not path.read_text(encoding="utf-8").startswith('"""')] == []


def test_steps_are_two_screens_and_the_library_does_not_grow():
    steps = list(REPOSITORY.glob("*/[0-9][0-9]_*.py"))
    assert len(steps) > 30 and [path.name for path in steps if lines(path) > 260] == []
    assert sum(map(lines, LIBRARY.rglob("*.py"))) < MOST


def test_tests_mirror_the_rooms():
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {room.name for room in ROOMS} | {"steps", "helpers"}
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names), "pytest imports test files by their names"


@pytest.mark.parametrize(
    "words",
    [
        (sys.executable, "-m", "ruff", "check", "--no-cache", "."),
        (sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "--quiet", "."),
        (str(Path(sys.executable).with_name("lint-imports")), "--no-cache"),
    ],
    ids=["style", "format", "layers"],
)
def test_style_and_layers_are_kept(words):
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_long_tests_are_there():
    for name in long_tests.names():
        path, _, test = name.partition("::")
        text = REPOSITORY.joinpath("tests", path).read_text(encoding="utf-8")
        assert f"def {test}(" in text, f"{name} is gone: write the list again, see tests/long_tests.py"
