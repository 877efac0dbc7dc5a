"""What requirements.txt pins is what the lock file and the CPU-only pair hold."""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package, version in PIN.findall((REPOSITORY / name).read_text(encoding="utf-8")):
        found.setdefault(package.lower().replace("_", "-"), set()).add(version)
    return found


def test_the_lock_file_holds_what_is_pinned():
    locked = pins("requirements.lock")
    assert {name: locked.get(name) for name in pins("requirements.txt")} == pins("requirements.txt")
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert len(re.findall(r"^\S+==.*\\$", text, re.MULTILINE)) == sum(map(len, locked.values())) <= text.count("--hash=sha256:")


def test_the_pair_without_cuda_is_of_the_same_versions():
    pinned, pair = pins("requirements.txt"), pins("requirements-cpu.txt")
    assert pair == {name: {f"{version}+cpu" for version in pinned[name]} for name in ("torch", "torchvision")}


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["-c", "requirements-cpu.txt", "--extra-index-url", "INDEX"]], ids=["default", "cpu"])
def test_what_is_pinned_resolves(words):
    index = re.search(r"^# index: (.*)$", (REPOSITORY / "requirements-cpu.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    if words:
        try:
            urllib.request.urlopen(f"{index}/torch/", timeout=10).close()
        except OSError:
            pytest.skip(f"{index} cannot be reached")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-r", "requirements.txt"]
    command += [index if word == "INDEX" else word for word in words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"torch-{min(pins('requirements.txt')['torch'])}" in done.stdout
