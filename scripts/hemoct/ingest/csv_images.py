"""Which files of a data set the rows of a table mean, and what to say of rows that mean none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.ingest import conversion_tables, layouts

NO_IMAGE_FOLDERS = layouts.ROLE_FOLDERS - layouts.IMAGE_FOLDERS


def find(there: list[Path], names: pd.Series, folder: str) -> list[str]:
    """Which of the files `there` each name means, with or without suffix, in data/raw/NAME or its `folder`; "" where none."""
    index: dict[str, str] = {}
    for path in sorted(there, key=lambda path: path.parts[0] != folder):
        within = path.relative_to(folder) if path.parts[0] == folder else path
        for key in (path, path.with_suffix(""), within, within.with_suffix("")):
            index.setdefault(key.as_posix(), path.as_posix())
    return [index.get(_posix(name).as_posix(), "") for name in names]


def find_images(there: list[Path], names: pd.Series) -> list[str]:
    """As `find`; an image that is not there is the one file, in whatever folder, whose path ends as the table says.

    Never one of a folder of masks, and never one of several: images of different patients may have the same name.
    """
    found = find(there, names, "images")
    if all(found):
        return found
    index, elsewhere = _by_last_part(path for path in there if not _is_beside(path)), []
    for place, name in enumerate(names):
        if not found[place]:
            ending = [path for path in index.get(_posix(name).name, []) if _ends_with(path, _posix(name))]
            if len(ending) == 1:
                found[place] = ending[0].as_posix()
                elsewhere.append(f"{name} is {found[place]}")
    if elsewhere:
        print(f"{len(elsewhere)} of {len(names)} images lie in another folder and were found by name (first: {elsewhere[0]})")
    return found


def without_image(
    raw: Path, source: Path, names: pd.Series, paths: pd.Series, there: list[Path], layout: str, skip: bool
) -> dict[str, list[str]]:
    """The names that no file has, by problem. They stop the step, or with `skip` are told; without any image it always stops."""
    missing = names[paths == ""]
    if missing.empty:
        return {}
    refused = _passed_over(raw, missing)
    said = f"first: {', '.join(missing[:3])}"
    if refused:
        table = raw / conversion_tables.BAD
        said += f"; {len(refused)} of them were passed over by the conversion, for reasons that {table} tells"
    if len(missing) == len(names) or not skip:
        alike = _by_last_part(there).get(_posix(missing.iloc[0]).name, [])
        alike = [path for path in alike if not _is_beside(path)] or alike
        some = len(missing) < len(names)
        raise UserError(
            f"{source}: {len(missing)} of {len(names)} images are not in {raw} ({said}{_example(alike, there, some)}); "
            + _remedy(bool(alike), layout, some)
        )
    print(f"{len(missing)} of {len(names)} images not found and left out ({said})")
    return {
        "no file": [name for name in missing if name not in refused],
        f"passed over by the conversion, see {conversion_tables.BAD}": [name for name in missing if name in refused],
    }


def without_mask(raw: Path, source: Path, names: pd.Series, paths: list[str], skip: bool) -> list[str]:
    """The masks that are named and not there. They stop the step, or with `skip` are told. A row may name no mask at all."""
    missing = [name for name, path in zip(names, paths, strict=True) if name and not path]
    first = ", ".join(missing[:3])
    if missing and not skip:
        raise UserError(
            f"{source}: {len(missing)} of {len(names)} masks are not in {raw} or masks/ (first: {first}); "
            "add them, or go on without them with --skip-missing"
        )
    if missing:
        print(f"{len(missing)} of {len(names)} masks not found and left out (first: {first})")
    return missing


def _posix(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _by_last_part(there: Iterable[Path]) -> dict[str, list[Path]]:
    """The files by their name, with and without suffix."""
    index: dict[str, list[Path]] = {}
    for path in there:
        for key in (path.name, path.stem):
            index.setdefault(key, []).append(path)
    return index


def _is_beside(path: Path) -> bool:
    """Whether a file lies in a folder of masks or labels, not of images."""
    return bool(NO_IMAGE_FOLDERS & {part.lower() for part in path.parts[:-1]})


def _ends_with(path: Path, name: PurePosixPath) -> bool:
    return name.parts in (path.parts[-len(name.parts) :], path.with_suffix("").parts[-len(name.parts) :])


def _passed_over(raw: Path, names: pd.Series) -> set[str]:
    """The names of files that the conversion of DICOM passed over; none where nothing was converted."""
    table = raw / conversion_tables.BAD
    if not table.is_file():
        return set()
    refused = {_bare(file) for file in tables.read_csv(table, conversion_tables.COLUMNS[conversion_tables.BAD])["file"]}
    return {name for name in names if _bare(name) in refused}


def _bare(name: str) -> str:
    """A file's name without folder and suffix. What follows the last dot of 1.2.840.77 is no suffix."""
    path = _posix(name)
    return path.stem if path.suffix.lower() in {*files.IMAGE_SUFFIXES, ".dcm"} else path.name


def _example(alike: list[Path], there: list[Path], some: bool) -> str:
    """What lies there in place of the first missing image; without any image found, what the files there are called."""
    if alike:
        return f"; of this name there: {', '.join(path.as_posix() for path in alike[:3])}"
    if some:
        return ""
    return f"; a file there: {there[0].as_posix()}" if there else "; no image is there"


def _remedy(alike: bool, layout: str, some: bool) -> str:
    if alike:
        remedy = "write the path of the one that is the image into the table, or add it"
    elif some:
        remedy = "add them"
    else:
        remedy = "add them, or name the column of the images with --image-column" if layout == "csv" else "add them"
    return remedy + (", or go on without them with --skip-missing" if some else "")
