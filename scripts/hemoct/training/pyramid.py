"""A network of timm as the backbone of a detector of torchvision: its feature maps, joined from the coarsest to the finest."""

import timm
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from hemoct.base.errors import UserError
from hemoct.training import networks
from hemoct.training.options import SCRATCH, Initial

STRIDES = 4, 8, 16, 32  # of the levels; a pyramid of fewer takes the last ones
CHANNELS = 256  # of each level


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017): (n, 3, height, width) to a dictionary of maps (n, CHANNELS, ...), finest first.

    As many levels, and the same further ones above, as the pyramid `like` of torchvision's own backbone. Stops at a network that
    has no maps at these strides for any image size, as most transformers. With ImageNet weights the normalisation layers of
    the network `name` of timm stay as they are there.
    """

    def __init__(self, name: str, like: FeaturePyramidNetwork, initial: Initial = SCRATCH) -> None:
        super().__init__()
        networks.stop_if_unknown(name, "--backbone")
        self.out_channels, strides = CHANNELS, STRIDES[-len(like.inner_blocks) :]
        config, levels = timm.models.get_pretrained_cfg(name), tuple(range(-len(strides), 0))
        try:
            self.body = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=levels)
        except (AttributeError, RuntimeError, ValueError, AssertionError):  # what timm raises where there are no such maps
            self.body = None
        fixed = config is not None and config.fixed_input_size
        if self.body is None or fixed or tuple(self.body.feature_info.reduction()) != strides:
            words = ", ".join(map(str, strides))
            raise UserError(f"--backbone {name} has no maps at strides {words} for any image size; take a convolutional network")
        above = LastLevelP6P7(CHANNELS, CHANNELS) if isinstance(like.extra_blocks, LastLevelP6P7) else like.extra_blocks
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), CHANNELS, above)
        if initial.weights == "imagenet":
            networks.load_body(self.body.model, networks.imagenet(name, initial.weights_dir)[1], "imagenet")
            for layer in self.body.modules():
                if isinstance(layer, nn.BatchNorm2d):  # a detector's batches are small
                    layer.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.fpn({str(level): features for level, features in enumerate(self.body(images))})
