"""Figures of a pre-training: its loss, and what an autoencoder makes of slices."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hemoct.base import figure as base_figure


def curves(history: list[dict[str, float]], heading: str) -> Figure:
    """Loss and learning rate of each epoch."""
    frame = pd.DataFrame(history)
    figure, axes = base_figure.figure(1, 2, heading=heading)
    for axis, name, label in zip(axes, ("train_loss", "lr"), ("loss of the training slices", "learning rate"), strict=True):
        axis.plot(frame["epoch"], frame[name], marker="." if len(frame) < 40 else "")
        axis.set(xlabel="epoch", ylabel=label, yscale="log" if (frame[name] > 0).all() else "linear")
    return figure


def restored(rows: dict[str, np.ndarray], heading: str) -> Figure:
    """Slices in columns; in rows what is done with them: images (n, side, side) in 0..1 by its name."""
    n = len(next(iter(rows.values())))
    figure, axes = base_figure.figure(len(rows), n, width=1.4, height=1.5, heading=heading, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    return figure
