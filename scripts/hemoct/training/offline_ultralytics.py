"""Ultralytics, imported so that it stays offline and quiet and loads no pickle. No other module imports it."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import matplotlib
import torch
from PIL import Image

from hemoct.base import files

CONFIG = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hemoct"


def _prepare() -> None:
    """Set what Ultralytics reads at its import: no network, no installation of packages, its own folder, a font in it."""
    place = CONFIG if os.access(CONFIG.parent, os.W_OK) else Path(tempfile.gettempdir()) / "hemoct"
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_CONFIG_DIR": str(place), "YOLO_VERBOSE": "False"}
    font = place / "Ultralytics" / "Arial.ttf"
    if not font.exists():  # else it downloads one
        with files.replacing(font) as temporary:
            shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", temporary)


_prepare()
_threads, _open = torch.get_num_threads(), Image.open
from ultralytics import YOLO  # noqa: E402, F401
from ultralytics.data import dataset  # noqa: E402
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer  # noqa: E402, F401
from ultralytics.nn.tasks import DetectionModel  # noqa: E402, F401
from ultralytics.utils import LOGGER, SETTINGS, nms, torch_utils  # noqa: E402, F401
from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS, attempt_download_asset  # noqa: E402, F401

torch.set_num_threads(_threads)  # its import lowers them
Image.open = _open  # and replaces this by its own, which asks for a package that reads HEIC where a file is broken
# It would load a pickle that lies beside the labels, whoever made it, and write one; so it reads the labels each time.
dataset.load_dataset_cache_file = {}.__getitem__
dataset.save_dataset_cache_file = lambda prefix, path, labels, version: labels.update(version=version)
LOGGER.setLevel(logging.ERROR)
REPORTERS = ("sync", "clearml", "comet", "dvc", "mlflow", "neptune", "raytune", "tensorboard", "wandb", "vscode_msg")
if any(SETTINGS.get(name) for name in REPORTERS):
    SETTINGS.update({name: False for name in REPORTERS if name in SETTINGS})
