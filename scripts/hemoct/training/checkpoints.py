"""Checkpoints of a fold folder: best.pt (the weights that are kept) and last.pt (all that resuming needs), read and written.

None is ever unpickled: torch reads plain tensors and numbers, and whatever else a file names becomes an object without any code.
"""

import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn, serialization

from hemoct.base import experiments, files
from hemoct.base.errors import UserError, few, one_line
from hemoct.base.runs import Run

MODEL = ("best.pt", "model.json", "last.pt", "history.csv")
"""the files of a trained model"""
RESULTS = ("best.pt", "last.pt", "history.csv", "predictions.csv", "train_predictions.csv", "metrics.json")
"""what a training makes, or what is made of it: gone when a new one starts in the same folder"""
OF_NETWORKS = (
    *("torch.nn.", "torchvision.", "timm.", "segmentation_models_pytorch.", "ultralytics."),
    *("numpy.", "pathlib.", "collections.", "builtins.getattr", "dill."),
)
"""how the names begin that pickled networks and their training's numbers consist of"""


def save(path: Path, content: dict) -> None:
    """Write a checkpoint whole or not at all."""
    try:
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError) as error:
        # Torch hides the error of a stream behind one of its own; given a path it would lose it.
        disk = error if isinstance(error, OSError) else error.__context__
        if not isinstance(disk, OSError):
            raise
        raise OSError(disk.errno, disk.strerror, str(path)) from None


def portable(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict on the CPU in plain memory layout, so that the file does not depend on the device that trained."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


class Damaged(UserError):
    """A checkpoint that cannot be read: cut, or of another format."""


class _Inert:
    """Stands in for what a pickle names, layers of a network for example, and keeps their attributes. Has no code of its own."""

    def __init__(self, *_: Any) -> None:
        """Takes what the thing itself would have been made of."""


def _state_of(network: _Inert, prefix: str = "") -> dict[str, torch.Tensor]:
    """The state_dict of a network of torch, from the attributes of its layers."""
    layer = vars(network)
    passing = layer.get("_non_persistent_buffers_set", ())
    named = layer["_parameters"] | {name: value for name, value in layer["_buffers"].items() if name not in passing}
    state = {f"{prefix}{name}": value.detach() for name, value in named.items() if value is not None}
    for name, child in layer["_modules"].items():
        state |= _state_of(child, f"{prefix}{name}.") if child is not None else {}
    return state


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, a network in it as its state_dict, without running any code that a pickle may hold.

    Raises Damaged where it cannot be read, and UserError where it names what no network consists of: it was made to run code.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        names = serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        foreign = [name for name in names if not name.startswith(OF_NETWORKS)]
        if foreign:
            raise UserError(
                f"{path} names {few(sorted(foreign))}: no part of a network that is known here, and may be code; none of it was "
                "run; take weights of another source, or a state_dict"
            )
        with serialization.safe_globals([(_Inert, name) for name in names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = {"model": content} if isinstance(content, _Inert) else content
        return {name: _state_of(value) if isinstance(value, _Inert) and "_modules" in vars(value) else value
                for name, value in content.items()}  # fmt: skip
    except (OSError, MemoryError, UserError):
        raise
    except Exception as error:  # bytes of another kind make torch raise anything
        raise Damaged(f"{path} is not a torch checkpoint of plain tensors ({one_line(error)})") from None


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict of the network in a checkpoint: the whole file, or what it keeps under a usual name. See `read`."""
    content = read(path)
    kept = (content.get(name) for name in ("ema", "model", "state_dict"))
    state = next((of_name for of_name in kept if isinstance(of_name, dict)), content)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise Damaged(f"{path} is not a torch checkpoint of plain tensors (it holds other things)")
    return state


def left_in(path: Path, *others: Path) -> dict[str, Any] | None:
    """The content of last.pt, for --resume; None, and a line that says why, where training starts from the beginning instead.

    `others`: checkpoints that it needs as well.
    """
    try:
        missing = [one for one in (path, *others) if not one.exists()]
        if not missing:
            for one in others:
                read_state(one)
            return read(path)
        why = "nothing to resume" if path in missing else f"{missing[0]} is missing"
    except Damaged as error:
        why = str(error)
    except UserError as error:
        raise UserError(f"{error}; or train without --resume") from None
    print(f"  {why}: starts from the beginning")
    return None


def stop_if_exchanged(folder: Path) -> None:
    """Stop where best.pt or model.json of a fold is not the one that its training wrote. Older run records know neither."""
    for place in folder.glob("*.run.json"):
        record = files.read_json(place)
        hashes = record.get("sha256", {}) if record.get("status") == "ok" else {}
        best = next((Path(name) for name in hashes if name.endswith(f"{folder.name}/best.pt")), None)
        for path in (folder / name for name in ("best.pt", "model.json") if best):
            if path.exists() and hashes.get(str(best.with_name(path.name))) not in (None, files.sha256(path)):
                raise UserError(f"{path} is not the one that was trained (see {place.name}); restore it, or train again, "
                                "without --resume")  # fmt: skip


def load_trained(model: nn.Module, folder: Path) -> nn.Module:
    """Load best.pt of a fold folder into the model that model.json describes."""
    path = folder / "best.pt"
    if not path.exists():
        raise UserError(f"{path} is missing; train with {experiments.train_step(files.read_json(folder / 'model.json')['task'])}")
    stop_if_exchanged(folder)
    state = read_state(path)
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:  # its predictions would be empty cells, or no box anywhere
        raise UserError(f"{path} holds weights that are not finite ({few(broken, 1)}); train again, with a lower --lr")
    try:
        model.load_state_dict(state)
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
