"""Fixtures that every test file may use: a workspace, a runner of steps, the real data where they are."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import long_tests
import pytest

from helpers.fake_figshare import Server, serving
from hemoct.base import cli
from hemoct.base.workspace import Workspace
from hemoct.sources import figshare

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `long` what long_tests.txt names."""
    known, here = long_tests.names(), Path(__file__).parent
    for item in items:
        if long_tests.named(item.path.relative_to(here).as_posix(), item.name) in known:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def run_step(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call a step's `main` in this process as the shell would: exit code, stdout, stderr. Words may be paths or numbers."""

    def run(step: str, *words: object) -> Result:
        spec = importlib.util.spec_from_file_location(Path(step).stem, REPOSITORY / step)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look for the module that defines them
        spec.loader.exec_module(module)
        capfd.readouterr()
        try:
            cli.exit_cleanly(lambda: module.main([str(word) for word in words]))
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """An empty workspace named `toy`; pass `--root work.root --dataset toy` to steps."""
    return Workspace(tmp_path, "toy")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine that behaves like figshare's API. A proxy must not stand between the test and it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(figshare, "PAUSE_S", 0.0)
    with serving() as made:
        yield made


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data; tests that need it are skipped elsewhere. HEMOCT_REAL_DATA names another place."""
    folder = Path(os.environ.get("HEMOCT_REAL_DATA", REAL_DATA))
    if not folder.is_dir():
        pytest.skip("the real data are not on this machine")
    return folder
