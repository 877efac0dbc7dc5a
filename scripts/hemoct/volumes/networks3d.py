"""Networks of MONAI that see a volume, and the weights that they start from: of MedicalNet, of bundles, or of our own."""

import re

import torch
from torch import nn

from hemoct.base.errors import UserError, one_line
from hemoct.training import checkpoints
from hemoct.training.options import Initial

DEPTH = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""blocks in each of the four layers of a ResNet"""
PLAIN_SHORTCUT = (18, 34)
"""depths whose shortcuts in MedicalNet have no weights (type A); those of others are convolutions (type B)"""
WRAPPER = re.compile(r"^(module|_orig_mod)\.")


def build(name: str, classes: int, dropout: float = 0.0) -> nn.Module:
    """A network of VOLUMES: float (b, 1, depth, height, width) to logits (b, classes).

    ResNets are those of MedicalNet but for the first stride: along the few slices there are none is skipped.
    """
    from monai.networks import nets  # seconds: only where a network is built

    if name == "densenet121-3d":
        return nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=classes, dropout_prob=dropout)
    depth = int(re.fullmatch(r"resnet(\d+)-3d", name)[1])
    block = nets.resnet.ResNetBottleneck if depth == 50 else nets.resnet.ResNetBlock
    network = nets.ResNet(
        block, list(DEPTH[depth]), [64, 128, 256, 512], spatial_dims=3, n_input_channels=1, conv1_t_stride=(1, 2, 2),
        num_classes=classes, shortcut_type="A" if depth in PLAIN_SHORTCUT else "B", bias_downsample=False,
    )  # fmt: skip
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return network


def load(network: nn.Module, name: str, initial: Initial) -> bool:
    """Load the file that --weights names, if it is one; returns whether. Stops where it is of another network.

    MedicalNet's files hold `state_dict`, whose names begin with `module.`, of a ResNet without its last layer; bundles hold
    the state_dict of a network in models/model.pt.
    """
    for path in initial.inputs():
        state = {WRAPPER.sub("", key): value for key, value in checkpoints.read_state(path).items()}
        found = resnet_of(state)
        if found and name.startswith("resnet") and name != f"resnet{found}-3d":
            raise UserError(
                f"--weights {path} is of a ResNet-{found}, not of {name}; choose --network resnet{found}-3d, or its file"
            )
        own = network.state_dict()
        head = [key for key in own if key.startswith(("fc.", "class_layers.out."))]
        other = sorted(key for key in own if key not in head and (key not in state or state[key].shape != own[key].shape)
                       and not key.endswith("num_batches_tracked"))  # fmt: skip
        if other:
            count = f"{len(other)} of {len(own)} tensors are missing or of another shape (first: {other[0]})"
            raise UserError(f"--weights {path} is of another network than {name}: {count}; choose the network that it is of")
        network.load_state_dict({key: value for key, value in state.items() if key in own and key not in head}, strict=False)
        return True
    return False


def resnet_of(state: dict[str, torch.Tensor]) -> int | None:
    """The depth of the ResNet that these tensors are of; None of another network."""
    blocks = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{layer}.")}) for layer in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state
    depths = {(1, 1, 1, 1, False): 10, (2, 2, 2, 2, False): 18, (3, 4, 6, 3, False): 34, (3, 4, 6, 3, True): 50,
              (3, 4, 23, 3, True): 101, (3, 8, 36, 3, True): 152, (3, 24, 36, 3, True): 200}  # fmt: skip
    return depths.get((*blocks, bottleneck))


def stop_if_too_small(network: nn.Module, name: str, shape: tuple[int, int, int]) -> None:
    """Stop where a network cannot take volumes of `shape` (depth, height, width): one black one tells."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 1, *shape))
    except (RuntimeError, ValueError) as error:
        sides = " x ".join(map(str, shape))
        raise UserError(f"--network {name} cannot take {sides} ({one_line(error)}); other --depth or --image-size") from None
