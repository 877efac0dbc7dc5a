"""A convolutional head: a map for each class, whose mean is the logit, in place of a fully connected layer on pooled features."""

import torch
from torch import nn

from hemoct.base.errors import UserError, one_line

WIDTH = 128  # channels between the features and the maps


class ClassMaps(nn.Module):
    """A network of timm, (b, planes, size, size) to its features, with a head that keeps their places: logits (b, classes).

    A logit is the mean of its class map, so that the output of the layer `maps` explains it place by place, without a gradient.
    The first convolution and its ReLU are what makes it more than a fully connected layer: the mean of maps that are linear in
    the features is linear in their mean.
    """

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        self.body, self.features = body, body.num_features
        self.mix = nn.Sequential(
            nn.Conv2d(self.features, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)
        )
        self.maps = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body.forward_features(images)
        if features.dim() == 4 and features.shape[1] != self.features == features.shape[3]:  # some transformers
            features = features.permute(0, 3, 1, 2)
        if features.dim() != 4 or features.shape[1] != self.features:
            raise RuntimeError(f"it ends in {tuple(features.shape[1:])}, not in maps")
        return self.maps(self.mix(features)).mean(dim=(2, 3))

    def get_classifier(self) -> nn.Module:
        """What is trained where the body is frozen; named as timm's networks name it."""
        return nn.ModuleList([self.mix, self.maps])


def stop_if_without_maps(model: nn.Module, planes_and_size: tuple[int, int], backbone: str, flag: str) -> nn.Module:
    """The model, where it can look at the places of its backbone's maps: one black slice tells."""
    planes, size = planes_and_size
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, planes, size, size))
    except (RuntimeError, AttributeError) as error:
        reason = one_line(error)
        raise UserError(f"--backbone {backbone} has no feature maps for {flag} ({reason}); take another") from None
    return model
