"""What lies in a folder that a user has: files of CT, pictures, tables; whether it is converted, and what is left out then."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hemoct.base import files
from hemoct.base.errors import UserError, few
from hemoct.ct import kinds
from hemoct.ingest import image_names, layouts, table_text

ARCHIVES = {".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz"}
OTHER_VOLUMES = {".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".mnc", ".img", ".v", ".raw"}
TEXTS = {
    *(".csv", ".tsv", ".xlsx", ".xls", ".xml", ".txt", ".md", ".json", ".html", ".htm", ".pdf", ".doc", ".docx", ".rtf", ".log"),
    *(".py", ".sh", ".m", ".ipynb", ".yaml", ".yml", ".bib", ".ini"),
}
PICTURES = files.IMAGE_SUFFIXES - kinds.TIFF
"""what a scan never ends with: such files need not be opened"""
OWN_EVIDENCE = {"phe-sich", "yolo", "voc", "masks"}
"""layouts that more than the names of pictures speak for: such a folder is no series with a few previews"""


@dataclass(frozen=True)
class Contents:
    """The files of a folder, by what they are; paths below it."""

    folder: Path
    scans: list[Path]
    """DICOM files and NIfTI volumes, masks too"""
    pictures: list[Path]
    tables: list[Path]
    others: list[Path]

    @classmethod
    def of(cls, folder: Path, listing: Iterable[Path] | None = None) -> "Contents":
        """`listing`: its files, where they are known."""
        scans, pictures, tables, others = [], [], [], []
        for path in files.walk(folder) if listing is None else listing:
            suffix = path.suffix.lower()
            if suffix not in PICTURES and image_names.is_source(folder / path):
                scans.append(path)
            elif suffix in files.IMAGE_SUFFIXES:
                pictures.append(path)
            elif suffix in table_text.SUFFIXES:
                tables.append(path)
            else:
                others.append(path)
        voxels = {_voxels_of(path) for path in scans}
        return cls(folder, scans, pictures, tables, [path for path in others if path not in voxels])

    @property
    def volumes(self) -> list[str]:
        """The NIfTI files."""
        return [path.as_posix() for path in self.scans if kinds.is_volume(path)]

    def is_to_convert(self, recognised: layouts.Recognised | None) -> bool:
        """Whether these are scans, perhaps with a few pictures, rather than the data set of pictures that was recognised."""
        single = [path for path in self.pictures if not kinds.is_stack(self.folder / path)]
        if not self.scans or not single or recognised is None:
            return bool(self.scans)
        if recognised.layout in OWN_EVIDENCE or len(self.scans) <= len(self.pictures):
            return False
        return not any(self._names_pictures(path) for path in self.tables if len(path.parts) == 1)

    def _names_pictures(self, table: Path) -> bool:
        """Whether a table has more names of pictures than of scans."""
        stems = [{key for path in paths for key in image_names.name_keys(path.name)} for paths in (self.pictures, self.scans)]
        try:
            cells = table_text.read(self.folder / table).stack().unique()
        except UserError:  # step 03 says what is wrong with it
            return False
        named = [sum(bool(keys & image_names.name_keys(cell)) for cell in cells if cell) for keys in stems]
        return named[0] > named[1]

    def left_out(self) -> dict[str, str]:
        """What a conversion leaves out, with the reason; not what is text."""
        return {path.as_posix(): reason for path in [*self.pictures, *self.others] if (reason := self._reason(path))}

    def _reason(self, path: Path) -> str:
        suffix = path.suffix.lower()
        if kinds.is_stack(self.folder / path):
            return "is a mask in several pages, which is not read; write one picture for each page"
        if path in self.pictures:
            return "is a picture, no DICOM file and no NIfTI volume: it is not converted"
        if suffix in ARCHIVES:
            return "is an archive; unpack it"
        if suffix in OTHER_VOLUMES:
            return "is in a format that is not read; convert it to NIfTI"
        is_text = suffix in TEXTS or path.name.upper() in {"DICOMDIR", "README", "LICENSE", "LICENCE", "VERSION"}
        return "" if is_text else "is no DICOM file and no NIfTI volume"

    def texts(self, read: Collection[Path]) -> Iterator[str]:
        """In words, how many files of text a conversion does not read. `read`: tables that are."""
        kinds = Counter(
            path.suffix.lower() or path.name
            for path in [*self.tables, *self.others]
            if not self._reason(path) and path not in read
        )
        if kinds:
            yield f"not read: {few([f'{count} {kind}' for kind, count in kinds.items()])}"


def _voxels_of(path: Path) -> Path | None:
    """The file that holds the voxels of a header."""
    for suffix, voxels in kinds.PAIRED.items():
        if path.name.lower().endswith(suffix):
            return path.with_name(path.name[: -len(suffix)] + voxels)
    return None
