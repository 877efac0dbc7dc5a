"""Starts of steps in a Python in which what computes cannot be imported. As a script: one process that forks for each start.

It reads lines of JSON, [[step, word, ...], ...] once, and writes a JSON list of [exit code, stdout, stderr], in their order.
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
NETWORKS = ("torch", "torchvision", "timm", "ultralytics", "captum", "segmentation_models_pytorch", "monai", "safetensors")
TABLES = ("pandas", "matplotlib", "cv2", "sklearn", "scipy", "nibabel", "pydicom")
OF_ALL = ("hemoct.training.step", "hemoct.evaluation.thresholds")
OF_MANY = ("hemoct.report.pages", "hemoct.detection.evaluate", "hemoct.segmentation.tables", "hemoct.multilabel.compare")
"""what is loaded once, before the steps start: modules that all of them need, or many beyond the command line"""
DONE = "--done"
"""before the words of a step: every run record says that an equal run ended well"""


class Started(NamedTuple):
    """What became of a start."""

    code: int
    out: str
    err: str


def start(calls: Iterable[list[object]], without: tuple[str, ...]) -> list[Started]:
    """Start steps, [step, word, ...] each, in a Python that is `without` these packages."""
    words = [sys.executable, str(Path(__file__)), ",".join(without)]
    asked = json.dumps([[str(word) for word in call] for call in calls])
    done = subprocess.run(words, input=asked, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    return [Started(*each) for each in json.loads(done.stdout)]


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds some packages, so that they seem to be installed, and loads none of them."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name.partition(".")[0] in self.names else None

    def exec_module(self, module: object) -> None:
        raise AssertionError(f"{module.__name__} was imported")


def forked(step: str, words: list[str]) -> Started:
    """Start a step in a fork of this process."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = os.fork()
        if not process:
            code = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                if words[:1] == [DONE]:
                    from hemoct.base.runs import Run

                    Run.is_done = lambda self: True
                sys.argv = [step, *(word for word in words if word != DONE)]
                sys.path.insert(0, str(Path(step).resolve().parent))
                runpy.run_path(step, run_name="__main__")
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        return Started(code, *texts)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # our own modules are no modules of theirs
    absent = set(sys.argv[1].split(","))
    sys.meta_path.insert(0, Absent(absent))
    for module in OF_ALL if "pandas" in absent else OF_MANY:
        importlib.import_module(module)
    json.dump([forked(step, words) for step, *words in json.load(sys.stdin)], sys.stdout)
