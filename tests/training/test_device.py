"""Which precision is taken, what is said of it, and that a CPU keeps the memory of its batches."""

import ctypes
import subprocess
import sys

import pytest
import torch

from hemoct.training import device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "told, imitated",
    [
        ({"avx512_bf16": False, "amx_bf16": False}, True),
        ({"avx512_bf16": True, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_imitated_bfloat16_is_said_once(monkeypatch, capsys, told, imitated):
    device._say_if_imitated.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    assert [device.precision(CPU, wanted) for wanted in ("auto", "fp32", "bf16", "bf16")] == [None, None, *[torch.bfloat16] * 2]
    assert capsys.readouterr().out.count("has no bfloat16") == imitated


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
