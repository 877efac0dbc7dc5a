"""Images in exports for other programs: linked where those read a file as we do, else decoded and written as PNG."""

import contextlib
import os
import shutil
from collections.abc import Iterable
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
    """Files of `raw` linked into `folder`, which is made here: right once it lies at `final`; copied where there are no links.

    `twins`: folders of another fold that may hold the same. One more name for it costs a fortieth of a new link or small file,
    which takes a place on the disk.
    """

    def __init__(self, raw: Path, folder: Path, final: Path, twins: Iterable[Path] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._twins = folder, [f"{twin}{os.sep}" for twin in twins]
        self._raw, self._place = str(raw), f"{folder}{os.sep}"  # for ten thousands of files paths are slow
        self._up = os.path.relpath(raw, os.path.realpath(final)) + os.sep

    def link(self, source: str, place: str) -> None:
        """Link the file `source` of `raw` under the name `place`."""
        target, leads_to = self._place + place, self._up + os.path.normpath(source)
        for twin in self._twins:
            with contextlib.suppress(OSError, NotImplementedError):
                if os.readlink(same := twin + place) == leads_to:
                    os.link(same, target, follow_symlinks=False)
                    return
        try:
            os.symlink(leads_to, target)
        except OSError:
            shutil.copyfile(os.path.join(self._raw, source), target)

    def write(self, content: bytes, place: str) -> None:
        """Write a small file under the name `place`."""
        target = self._place + place
        for twin in self._twins:
            with contextlib.suppress(OSError):
                with open(same := twin + place, "rb", buffering=0) as stream:
                    alike = stream.read() == content
                if alike:
                    os.link(same, target)
                    return
        with open(target, "wb", buffering=0) as stream:
            stream.write(content)

    def image(self, source: str, shown: Exported) -> None:
        """Link the image `source` of `raw`; one that is not plain is decoded and written, in grey or in colour as it is."""
        if shown.plain:
            self.link(source, shown.name)
            return
        path = Path(self._raw, source)
        mode = "L" if pixels.header(path)[2] == 1 else "RGB"
        Image.fromarray(pixels.read(path, mode)).save(self.folder / shown.name)
