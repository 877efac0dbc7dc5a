"""Which precision is taken, and what is said of it."""

import ctypes
import subprocess
import sys

import pytest
import torch

from hemoct.training import device, options

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "told, has",
    [
        ("flags\t\t: fpu avx2", False), ("flags\t\t: avx2 avx512_bf16 avx512f", True), ("flags: amx_bf16", True),
        ("Features\t: fp asimd i8mm bf16", True), ("flags: xbf16", False), (None, None),
    ],
)  # fmt: skip
def test_a_processor_says_whether_it_has_bfloat16(tmp_path, monkeypatch, told, has):
    path = tmp_path / "cpuinfo"
    if told is not None:
        path.write_text(f"processor\t: 0\n{told}\n")
    monkeypatch.setattr(options, "CPU_INFO", path)
    assert options.cpu_has_bfloat16() is has


@pytest.mark.parametrize("has", [True, False, None])
def test_imitated_bfloat16_is_said_once(monkeypatch, capsys, has):
    device._say_imitated.cache_clear()
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: has)
    assert [device.precision(CPU, wanted) for wanted in ("auto", "fp32", "bf16", "bf16")] == [None, None, *[torch.bfloat16] * 2]
    assert capsys.readouterr().out.count("has no bfloat16") == (has is False)


FAULTS = """
import resource, torch
from hemoct.training import device

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(12_000_000)  # 48 MB: glibc by itself gives that back at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = pages()
device.pick("cpu")
kept = min(pages() for _ in range(5))
print(usual, kept)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_memory_of_a_batch_is_kept_for_the_next():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split("\n")[-2].split())
    assert usual > 4 * 48e6 / 2**16 and kept * 10 < usual
