"""Checkpoints: reading tensors from a file without running any code that it may hold."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from hemoct.base.errors import UserError


def read_state(path: Path) -> dict:
    """Read a checkpoint without running any code that a pickle may hold."""
    if not path.is_file():
        raise UserError(f"{path} is not there; give --weights imagenet, none, or a file with a state_dict")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        return state
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not a torch checkpoint of plain tensors ({first_line(error)})") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, or its kind where it has none."""
    return textwrap.shorten((str(error).strip().splitlines() or [type(error).__name__])[0], 140, placeholder=" ...")
