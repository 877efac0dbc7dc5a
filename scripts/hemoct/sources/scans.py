"""A folder of scans, with or without masks and tables, becomes a data set of slices with the labels and boxes that are known."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hemoct.base import experiments
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.ct.windows import Window
from hemoct.ingest import conversion, conversion_tables, label_columns, layouts, table_text
from hemoct.ingest.conversion_tables import Summary
from hemoct.sources import known, labels, naming
from hemoct.sources.folder import Contents
from hemoct.sources.known import Known

OF_SCANS = "a row for each scan: slices of a scan with a label are unknown; to train, write a row for each slice of slices.csv"


@dataclass
class Made:
    """What a conversion has made, for the record and for people."""

    summary: Summary
    source: Known | None
    told: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        if self.source:
            yield from self.source.lines()
        yield from self.summary.lines()
        yield from self.told


@dataclass(frozen=True)
class Conversion:
    """How the scans of a folder are converted, with the masks of volumes."""

    contents: Contents
    settings: conversion.Settings
    pairs: naming.Pairs
    told_by: str
    """what says the patients of volumes"""

    @classmethod
    def of(
        cls, contents: Contents, target: Path, windows: tuple[Window | None, ...], intercept: float | None = None
    ) -> "Conversion":
        pairs = naming.pair(contents.folder, contents.volumes, contents.tables)
        left_out = contents.left_out() | pairs.more | _masks_of_dicom(contents, pairs)
        patients, told_by = naming.patients([name for name in contents.volumes if name not in {*pairs.masks.values(), *left_out}])
        settings = conversion.Settings(contents.folder, target, windows, intercept, pairs.masks, patients, left_out)
        return cls(contents, settings, pairs, told_by)


def convert(planned: Conversion, workers: int) -> Made:
    """Convert all scans of a folder, or end what shards have done, and add the labels and boxes that are known."""
    contents, pairs, patients = planned.contents, planned.pairs, planned.settings.patients
    source = known.recognise(contents)
    made = Made(conversion.convert(planned.settings, workers), source)
    if patients:
        people = len({*patients.values()})
        first = next(iter(patients))
        made.told.append(
            f"{len(patients)} volumes are scans of {people} patients by {planned.told_by} (first: {first} of {patients[first]})"
        )
    added = labels.add(planned.settings.target, contents, source)
    made.told += added.told
    read = {*added.used, *pairs.tables}
    if not read & {*contents.tables}:
        copied = _copy_tables(contents, planned.settings.target)
        read |= copied
        of_scans = [path for path in sorted(copied) if naming.names_scans(contents.folder, path, contents.volumes)]
        made.told += [f"{path} has {OF_SCANS}" for path in of_scans]
    made.told += contents.texts(read)
    return made


def _masks_of_dicom(contents: Contents, pairs: naming.Pairs) -> dict[str, str]:
    """NIfTI masks that belong to no NIfTI volume where there are DICOM files, and why they are not read."""
    if len(contents.volumes) == len(contents.scans):
        return {}
    reason = "is a mask beside DICOM files, which is not read; convert their series to NIfTI and name it like them"
    alone = [name for name in contents.volumes if naming.is_mask(name) and name not in {*pairs.masks.values(), *pairs.more}]
    return dict.fromkeys(alone, reason)


def _copy_tables(contents: Contents, target: Path) -> set[Path]:
    """Copy the tables that lie directly in the folder, for their labels; none in the place of slices.csv."""
    copied = {table for table in contents.tables if len(table.parts) == 1 and table.name != conversion_tables.TABLE}
    for table in copied:
        shutil.copyfile(contents.folder / table, target / table.name)
    return copied


def registered(raw: Path) -> Iterator[str]:
    """In words, of a folder of pictures that was registered: which public data set it is, and the scans that are not read."""
    contents = Contents.of(raw)
    source = known.recognise(contents)
    if source:
        yield from source.lines()
    if contents.scans and contents.pictures and not (raw / layouts.ORIGIN).is_file():
        count = len(contents.scans)
        yield f"  {count} DICOM or NIfTI files in it are not read; --convert, with another --dataset NAME, converts them"


def has_labels(raw: Path) -> bool:
    """Whether a converted data set has a table of labels, or columns of labels in slices.csv."""
    tables = [path for path in raw.glob("*.csv") if path.name != conversion_tables.TABLE]
    return bool(tables or label_columns.may_be_labels(table_text.header(raw / conversion_tables.TABLE)))


def predict_commands(work: Workspace, slices: Path) -> list[str]:
    """How to predict converted slices with the newest models of tasks 1 and 4; without any, how to get data to train them."""
    commands = []
    for task in (1, 4):
        models = sorted(work.root.glob(f"outputs/*/task{task}/*/fold*/best.pt"), key=lambda path: path.stat().st_mtime_ns)
        if models:
            experiment = models[-1].parents[1]
            trained = Workspace(work.root, experiment.parents[1].name)
            path = work.show(slices) if work.root == REPOSITORY else str(slices)
            commands.append(trained.command(experiments.predict_step(task), path, "--experiment", experiment.name))
    if not commands:
        print("to predict, first train a model on other data, for example on PHE-SICH-CT-IDS")
        commands.append(Workspace(work.root, "phe-sich").command("scripts/01_get_data.py", "--figshare"))
    return commands
