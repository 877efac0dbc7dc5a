"""Steps that are killed just before one of their writes, as by `kill -9` or a power cut, in a process of their own."""

import importlib.util
import os
import signal
import sys
import traceback
from pathlib import Path

from hemoct.base import cli

REPOSITORY = Path(__file__).resolve().parents[2]


def run(step: str, words: list[str], at: int | None = None) -> bool:
    """Run a step in a fork of this process; kill it when it is about to put its write number `at` (from 0) in place.

    Returns whether it was killed: False where it ended before, well. Any other end fails.
    """
    sys.stdout.flush()
    process = os.fork()
    if not process:
        _child(step, words, at)
    status = os.waitpid(process, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"{step} {' '.join(words)}: ended with {status}, write {at}"
    return killed


def _child(step: str, words: list[str], at: int | None) -> None:
    """Never returns: what a fork of pytest must not do."""
    code = 1
    try:
        _arm(at)
        spec = importlib.util.spec_from_file_location(Path(step).stem, REPOSITORY / step)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        cli.exit_cleanly(lambda: module.main(words))
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def _arm(at: int | None) -> None:
    """Count what puts a file or a folder in its place; at number `at` the process ends without any cleaning up."""
    waiting = iter(range(1_000_000))

    def dying(put):
        def replaced(*words, **more):
            if next(waiting) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return put(*words, **more)

        return replaced

    for name in ("replace", "rename", "symlink"):
        setattr(os, name, dying(getattr(os, name)))


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder but caches, locks and run records (which hold times), by name."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "cache" not in path.parts and not path.name.endswith((".run.json", ".lock"))
    }


def left_over(root: Path) -> list[str]:
    """What a killed process half wrote."""
    return [str(path) for path in root.rglob(".*") if path.name.startswith((".tmp-", ".old-", ".drawing", ".converting"))]
