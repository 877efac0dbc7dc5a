"""Which way heads lie in a data set, and how images are prepared for models: as their training did, turned to what they know."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from hemoct.base import files, pixels, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.data import images
from hemoct.ingest import layouts
from hemoct.prepare import methods, orientation as orientations
from hemoct.prepare.geometry import Geometry
from hemoct.prepare.options import UNKNOWN, View
from hemoct.prepare.orientation import Found
from hemoct.prepare.preparation import NOTHING, Preparation
from hemoct.training.specs import Spec

LOOKED_AT = 400  # images of a data set, evenly drawn from its patients
CLEAR = 0.9, 30  # share of the votes for one direction, and how many there are
OF_FOLDER = 40  # images of a folder
BONE_HU = 100  # Muschelli et al. 2015: brain is 0 to 100 HU


def bone(window: str | None) -> int:
    """The grey value from which on it is bone, in images of a CT window; of an unknown one the usual value."""
    first = ct_windows.parse_windows(window)[0] if window else None
    return methods.BONE if first is None else min(methods.BONE, int(hounsfield.window(np.array(BONE_HU), first)))


def for_training(work: Workspace, names: Iterable[str]) -> Preparation:
    """How the images of a data set are prepared for a training with --prepare."""
    return Preparation(tuple(names), bone=bone(layouts.recorded_window(work.raw)))


# ---- which way heads lie


def orientation_of(work: Workspace) -> str:
    """Where the nose points in a data set: as dataset.json says; an older one does not, and its images are looked at."""
    dataset = tables.read_dataset(work)
    return dataset.orientation or _seen(work, files.stamp(work.work / "labels.csv"))


@lru_cache
def _seen(work: Workspace, stamp: str) -> str:
    found = look(work, tables.read_labels(work, tables.read_dataset(work)))
    print(f"{work.dataset}: {found}; {work.command('scripts/03_make_labels.py')} keeps it")
    return found.orientation


def look(work: Workspace, labels: pd.DataFrame) -> Found:
    """The orientation of a data set from the grey values of LOOKED_AT of its images, evenly over patients and their slices.

    A third of them is enough where nearly all of many votes agree.
    """
    patients = list(labels.sort_values(["patient", "slice", "image_id"]).groupby("patient")["image"])
    patients = patients[:: -(-len(patients) // LOOKED_AT)]
    each = -(-LOOKED_AT // len(patients))
    pairs = [(name, work.raw / own.iloc[place]) for name, own in patients for place in _spread(len(own), each)]
    found = orientations.vote(_weighed(pairs[1::3]))
    return found if found.share >= CLEAR[0] and found.votes >= CLEAR[1] else orientations.vote(_weighed(pairs))


def _spread(n: int, most: int) -> np.ndarray:
    """At most so many of `n` places, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _weighed(pairs: Iterable[tuple[str, Path]]) -> Iterable[tuple[str, np.ndarray | None]]:
    def weigh(pair: tuple[str, Path]) -> tuple[str, np.ndarray | None]:
        patient, path = pair
        try:
            return patient, orientations.weights(pixels.read(path, "L"))
        except UserError:  # what is broken is told by the steps that need it
            return patient, None

    return images.decode(pairs, "orientation", weigh)


def of_dataset(work: Workspace, labels: pd.DataFrame, given: str) -> tuple[str, str]:
    """What dataset.json keeps, and a line that says where it comes from. `given`: --orientation, or `auto`.

    What a conversion from DICOM or NIfTI records holds, unless the images clearly show something else.
    """
    if given != "auto":
        return given, f"orientation: {orientations.words(given)} (given)"
    found, recorded = look(work, labels), layouts.recorded_orientation(work.raw)
    if recorded is None or found.orientation == recorded:
        return found.orientation, str(found)
    if found.orientation == UNKNOWN:
        return recorded, f"orientation: {orientations.words(recorded)}, as converted"
    return found.orientation, f"mind: {found}, though a conversion writes the nose {recorded}; --orientation settles it"


# ---- what models are shown


@dataclass(frozen=True)
class Shown:
    """How images are prepared for models that learned from images of one orientation."""

    preparation: Preparation
    """without turns"""
    wanted: str
    """where the nose points in what the models know"""
    given: str = "auto"
    """that of all images, or `auto`: found for each folder"""
    _of_folder: dict[Path, Found] = field(default_factory=dict)

    def of(self, present: str) -> Preparation:
        """That for images of an orientation."""
        if self.wanted == UNKNOWN:
            return self.preparation
        return Preparation(self.preparation.names, orientations.turns(present, self.wanted), self.preparation.bone)

    @property
    def of_all(self) -> Preparation:
        """That for images whose orientation is given."""
        return self.of(self.given)

    def also_for(self, spec: Spec) -> Shown:
        """The same images for models of another `spec`."""
        made = Preparation(tuple(spec.prepare), bone=bone(spec.window))
        return replace(self, preparation=made, wanted=spec.orientation or self.wanted)

    def of_file(self, path: Path) -> Preparation:
        """That for an image file: its orientation is that of the images beside it that were named too, see `look_at`."""
        if self.given != "auto":
            return self.of(self.given)
        found = self._of_folder.get(path.parent)
        return self.of(found.orientation if found else UNKNOWN)

    def of_scan(self, present: str) -> Preparation:
        """That for a slice of a scan whose header says its orientation."""
        return self.of(present if self.given == "auto" else self.given)

    def image(self, path: Path, grey: np.ndarray) -> tuple[np.ndarray, Geometry]:
        """The grey values of a file as the models see them, and how they were turned."""
        done = self.of_file(path).apply(grey[None])
        return done.planes[0], done.geometry

    def look_at(self, paths: Iterable[Path]) -> Shown:
        """Find the orientation of image files, a vote in each folder, and say what follows from it; returns itself."""
        if self.given != "auto" or self.wanted == UNKNOWN:
            return self
        folders: dict[Path, list[Path]] = {}
        for path in paths:
            if path.parent not in self._of_folder:
                folders.setdefault(path.parent, []).append(path)
        chosen = [path for inside in folders.values() for path in inside[:: max(1, -(-len(inside) // OF_FOLDER))]]
        weighed = zip(chosen, _weighed((str(path), path) for path in chosen), strict=True)
        for folder, of_folder in itertools.groupby(weighed, key=lambda pair: pair[0].parent):
            self._of_folder[folder] = orientations.vote(votes for _, votes in of_folder)
        self._say(list(folders))
        return self

    def know(self, folders: dict[Path, str]) -> None:
        """The orientation of the images of folders, which their headers told."""
        self._of_folder.update({folder: Found(orientation, 1.0, 1) for folder, orientation in folders.items()})
        for present in sorted({*folders.values()}):
            if orientations.turns(present, self.wanted):
                print(f"scans with the nose {present}, by their headers; turned, as the models know the nose {self.wanted}")

    def _say(self, folders: list[Path]) -> None:
        told = {folder: self._of_folder[folder] for folder in folders}
        for folder, found in told.items():
            turns = orientations.turns(found.orientation, self.wanted)
            if turns:
                print(f"{folder}: {found}; turned, as the models know the nose {self.wanted}")
        unsure = [folder for folder, found in told.items() if found.orientation == UNKNOWN]
        if unsure:
            print(f"{len(unsure)} folder(s) of unknown orientation (first: {unsure[0]}): taken as the models know it, with the "
                  f"nose {self.wanted}; --orientation says otherwise")  # fmt: skip


AS_THEY_ARE = Shown(NOTHING, UNKNOWN)
"""nothing is done with images"""


def for_models(work: Workspace, spec: Spec, view: View) -> Shown:
    """How images are prepared for models of a `spec`, which were trained in `work`. Stops at another --prepare than theirs.

    Older models do not tell the orientation; the data set of today has to do so for them.
    """
    if view.prepare is not None and view.prepare != spec.prepare:
        raise UserError(
            f"--prepare {','.join(view.prepare) or 'none'}: these models learned from images prepared by "
            f"{','.join(spec.prepare) or 'none'} (model.json), and new images are prepared alike; leave it out, or train anew"
        )
    wanted = spec.orientation
    if wanted is None:
        wanted = orientation_of(work) if (work.work / "dataset.json").exists() else UNKNOWN
    return Shown(Preparation(tuple(spec.prepare), bone=bone(spec.window)), wanted, view.orientation)


def for_other(work: Workspace, spec: Spec, other: Workspace, view: View) -> Shown:
    """How the images of another data set are prepared for models; says so where they are turned, or where nothing is known."""
    shown = for_models(work, spec, view)
    present = orientation_of(other) if view.orientation == "auto" else view.orientation
    shown = replace(shown, given=present)
    if shown.of_all.turns:
        print(f"{other.dataset}: {orientations.words(present)}; turned, as the models know the nose {shown.wanted}")
    elif present == UNKNOWN and shown.wanted != UNKNOWN:
        print(f"{other.dataset}: orientation unknown; taken as the models know it, with the nose {shown.wanted}; --orientation "
              "says otherwise")  # fmt: skip
    return shown
