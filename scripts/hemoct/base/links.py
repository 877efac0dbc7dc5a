"""Images in exports for other programs: linked where those read a file as we do, else decoded and written as PNG."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hemoct.base import pixels

LINKED = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}  # what Ultralytics and nnU-Net's reader know


@dataclass(frozen=True)
class Exported:
    """What an image is in an export."""

    name: str
    plain: bool
    """other programs read the file as we do: they know its suffix, and need not turn it"""


def exported(image: Path, image_id: str) -> Exported:
    """What an image is in an export, from its header."""
    plain = image.suffix.lower() in LINKED and not pixels.is_turned(image)
    return Exported(f"{image_id}{image.suffix if plain else '.png'}", plain)


class Links:
    """Files of `raw` linked into `folder`, which is made here: right once it lies at `final`; copied where there are no links."""

    def __init__(self, raw: Path, folder: Path, final: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._raw, self._place = str(raw), str(folder)  # for ten thousands of files paths are slow
        self._up = os.path.relpath(raw, os.path.realpath(final))

    def link(self, source: str, place: str) -> None:
        """Link the file `source` of `raw` under the name `place`."""
        target = os.path.join(self._place, place)
        try:
            os.symlink(os.path.join(self._up, os.path.normpath(source)), target)
        except OSError:
            shutil.copyfile(os.path.join(self._raw, source), target)

    def image(self, source: str, shown: Exported) -> None:
        """Link the image `source` of `raw`; one that is not plain is decoded and written, in grey or in colour as it is."""
        if shown.plain:
            self.link(source, shown.name)
            return
        path = Path(self._raw, source)
        mode = "L" if pixels.header(path)[2] == 1 else "RGB"
        Image.fromarray(pixels.read(path, mode)).save(self.folder / shown.name)
