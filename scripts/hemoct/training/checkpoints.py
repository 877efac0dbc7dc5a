"""Checkpoints of a fold folder: best.pt (the weights that are kept) and last.pt (all that resuming needs), read and written."""

import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from hemoct.base import experiments, files
from hemoct.base.errors import UserError, one_line
from hemoct.base.runs import Run

MODEL = ("best.pt", "model.json", "last.pt", "history.csv")
"""the files of a trained model"""
RESULTS = ("best.pt", "last.pt", "history.csv", "predictions.csv", "train_predictions.csv", "metrics.json")
"""what a training makes, or what is made of it: gone when a new one starts in the same folder"""


def save(path: Path, content: dict) -> None:
    """Write a checkpoint whole or not at all."""
    # Through a stream: given a path, torch reports a full disk as a RuntimeError without a name.
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


def portable(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict on the CPU in plain memory layout, so that the file does not depend on the device that trained."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def read_state(path: Path) -> dict:
    """Read a checkpoint without running any code that a pickle may hold."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        return state
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not a torch checkpoint of plain tensors ({one_line(error)})") from None


def load_trained(model: nn.Module, folder: Path) -> nn.Module:
    """Load best.pt of a fold folder into the model that model.json describes."""
    path = folder / "best.pt"
    if not path.exists():
        raise UserError(f"{path} is missing; train with {experiments.train_step(files.read_json(folder / 'model.json')['task'])}")
    try:
        model.load_state_dict(read_state(path))
    except RuntimeError:
        raise UserError(f"{path} is a checkpoint of another model than model.json describes; train again") from None
    return model


def load_fitting(model: nn.Module, state: dict[str, torch.Tensor], source: Path | str) -> None:
    """Load what fits of a state_dict: the head's last layers differ with the number of classes."""
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) / 2:
        raise UserError(
            f"--weights {source} is a checkpoint of another model: {len(fitting)} of {len(own)} tensors fit; "
            "choose the architecture that it was trained with"
        )
    model.load_state_dict(fitting, strict=False)


def may_resume(path: Path, state: dict[str, Any], run: Run) -> bool:
    """Whether a training saved at `path` may go on in this run; stops when its flags were others.

    `state`: `arguments` and `inputs` of the run record that it was started with.
    """
    if any(run.record["inputs"].get(name) != digest for name, digest in state["inputs"].items()):
        print("  the tables have changed since: starts from the beginning")
        return False
    changed = run.changed(state["arguments"], trained=True)
    if changed:
        raise UserError(f"{path} was trained with {', '.join(changed)}; resume with the same flags or train without --resume")
    return True


def mended(state: dict[str, Any], run: Run) -> dict[str, Any]:
    """The content of last.pt; one of an older version is brought into today's form.

    Version 0.1 kept `settings`, some of the flags, in which `auto` and the like had become what they stood for.
    """
    state = {"average": None, "steps": 0} | state
    if "settings" not in state:
        return state
    settings, now = state.pop("settings"), run.arguments
    left_open = {name for name in settings if now.get(name) in (None, "auto")} | ({"epochs"} if now.get("refit") else set())
    known = {name: value for name, value in settings.items() if name in now and name not in left_open}
    later = {"validation": 1} if "validation" in now else {}  # a flag that came within that version, and what was done before
    return state | {"arguments": now | later | known}
