"""Which device computes, and in which precision."""

import ctypes
import functools
import sys
import types
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from hemoct.base.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@functools.cache  # so that the line is printed once however many models a step loads
def pick(name: str, threads: int | None = None) -> torch.device:
    """Turn --device into a device, and print it: `auto` takes CUDA, then MPS, then CPU. `threads` of the CPU, if given."""
    if threads:
        torch.set_num_threads(threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in available.items() if here)
    elif not available[name]:
        here = ", ".join(kind for kind, there in available.items() if there)
        raise UserError(f"--device {name} is not available to this torch {torch.__version__}; choose one of: auto, {here}")
    label = torch.cuda.get_device_name() if name == "cuda" else f"{torch.get_num_threads()} threads" if name == "cpu" else "GPU"
    print(f"device: {name} ({label})")
    if name == "cpu":
        keep_memory()
    return torch.device(name)


def keep_memory() -> None:
    """Let glibc keep the memory of tensors that are gone, for the next batch, which needs blocks of the same sizes.

    Else it gives large blocks back to the system at once, and each batch waits while the system clears new pages: several
    hundred thousand of them in a few steps. What is computed stays the same to the bit. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # bytes: how much may be free before some is given back, as much as can be said
        mallopt(M_MMAP_THRESHOLD, 2**30)  # bytes: from where on a block is the system's own


def precision(device: torch.device, wanted: str) -> torch.dtype | None:
    """The dtype for autocast, or None for full precision.

    `auto`: bfloat16 where a GPU has it in hardware, else float16, on CUDA only. `bf16` also on a CPU: where that has bfloat16 in
    hardware (AVX-512 BF16, AMX), a U-Net trains about twice as fast; where it has not, a line says so.
    """
    if wanted == "bf16":
        if device.type == "cpu":
            _say_if_imitated()
        return torch.bfloat16
    if wanted == "fp32" or device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


@functools.cache  # once
def _say_if_imitated() -> None:
    known = [has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name]  # avx512_bf16, amx_bf16 ...
    if known and not any(known):
        print("  mind: this processor has no bfloat16, it is imitated; --precision fp32 is several times faster")


def memory_format(device: torch.device, image_size: int) -> torch.memory_format:
    """Channels last is faster for convolutions on CUDA, and on CPU from about 96 pixels up (1.4 times at 128 px)."""
    fast = device.type == "cuda" or (device.type == "cpu" and image_size >= 96)
    return torch.channels_last if fast else torch.contiguous_format


def place(model: nn.Module, device: torch.device, image_size: int) -> nn.Module:
    """The model on the device, in the memory format that is fastest there for images of this side.

    On a CPU depthwise convolutions stay in float32, within autocast too: bfloat16 makes their backward pass three to nine times
    slower, and an EfficientNet's training nearly twice.
    """
    for module in model.modules() if device.type == "cpu" else ():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = types.MethodType(_in_float32, module)  # bound to the module, so that copies get their own
    return model.to(device, memory_format=memory_format(device, image_size))


def to_predict(model: nn.Module, device: torch.device, image_size: int) -> nn.Module:
    """A trained model on the device, in evaluation mode, in the memory format that is fastest there for images of this side."""
    return model.to(device, memory_format=memory_format(device, image_size)).eval()


def _in_float32(convolution: nn.Conv2d, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(convolution).forward(convolution, batch.float()).to(batch.dtype)


def on_host(results: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Results of a device as arrays. Each is copied while the GPU computes the next: waiting for one would let it run dry."""
    copying = None
    for result in results:
        copied = result.to("cpu", non_blocking=True)
        done = torch.cuda.Event() if result.is_cuda else None
        if done is not None:
            done.record()
        else:
            copied = result.cpu()
        if copying is not None:
            yield _copied(*copying)
        copying = copied, done
    if copying is not None:
        yield _copied(*copying)


def _copied(copied: torch.Tensor, done: torch.cuda.Event | None) -> np.ndarray:
    if done is not None:
        done.synchronize()
    return copied.numpy()


def free_memory(device: torch.device) -> int:
    """Bytes that data may take on the device; 0 where the data are better left in the page cache of the host."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return 0
