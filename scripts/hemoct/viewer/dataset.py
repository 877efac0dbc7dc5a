"""A data set with its experiments as the viewer shows it: patients by error, mistakes, and what lies over each slice.

Everything comes from files on disk: tables of the data set, predictions of test slices (out of fold), and metrics.json with the
threshold that each fold chose on validation. Numbers in addresses and lists count patients, and experiments of a task, from 0.
"""

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from hemoct.base import experiments, label_meaning, tables
from hemoct.base.workspace import Workspace
from hemoct.data import images, prepared, volumes
from hemoct.detection import predictions as detection_predictions
from hemoct.evaluation import protocol
from hemoct.report import results
from hemoct.report.results import Experiment
from hemoct.segmentation import data as segmentation_data
from hemoct.viewer import outcomes
from hemoct.viewer.server import Content, as_json
from hemoct.viewer.volumes import Frame, layer

RESEARCH = "Research use only. No diagnosis."
TITLES = {1: "slices", 2: "boxes", 3: "masks", 4: "types"}
MOST = 1000  # mistakes that are listed, the worst first
NONE = "x"
"""in an address, in the place of an experiment's number"""


class DatasetView:
    """A data set; `content` is what the server hands out."""

    def __init__(self, work: Workspace) -> None:
        self.work, self.dataset = work, tables.read_dataset(work)
        labels = tables.read_labels(work, self.dataset).sort_values(["patient", "slice", "image_id"], kind="stable")
        self.patients = {str(patient): rows.reset_index(drop=True) for patient, rows in labels.groupby("patient", sort=True)}
        self.names = list(self.patients)
        self.labels = labels.set_index("image_id")
        self.tasks: dict[int, list[Experiment]] = {}
        self.damaged: dict[str, str] = {}
        for task in experiments.STEPS:
            found = [one for one in results.evaluated(work.task(task), self.damaged) if "/" not in one.name]
            if found := [one for one in found if experiments.folds(one.folder, "predictions.csv")]:
                self.tasks[task] = found
        self.result = lru_cache(maxsize=16)(self._result)

    def _result(self, task: int, number: int) -> outcomes.Outcome:
        return outcomes.read(self.work, self.tasks[task][number], set(self.labels.index), self.boxes)

    @cached_property
    def boxes(self) -> pd.DataFrame:
        return (
            tables.read_boxes(self.work) if (self.work.work / "boxes.csv").exists() else pd.DataFrame(columns=tables.BOX_COLUMNS)
        )

    @cached_property
    def orientation(self) -> str:
        return prepared.orientation_of(self.work)

    @property
    def has_truth(self) -> bool:
        return not self.boxes.empty or any((rows["mask"] != "").any() for rows in self.patients.values())

    def content(self) -> Content:
        numbers = {task: [*map(str, range(len(found)))] for task, found in self.tasks.items()}
        files = {f"results/{task}/{number}.json": partial(self._lists, task, int(number))
                 for task, each in numbers.items() for number in each}  # fmt: skip
        of_case: dict[str, Callable[[int], bytes]] = {"grey.nii.gz": self._grey, "slices.json": self._slices}
        if self.has_truth:
            of_case["truth.nii.gz"] = self._truth
        of_case |= {f"{task}/{number}.json": partial(self._predicted, task, int(number))
                    for task, each in numbers.items() for number in each}  # fmt: skip
        for of_boxes in [*numbers.get(2, []), NONE]:
            for of_masks in [*numbers.get(3, []), NONE]:
                of_case[f"prediction-{of_boxes}-{of_masks}.nii.gz"] = partial(self._prediction, of_boxes, of_masks)
        return Content({"index.json": self._index, **files}, of_case, len(self.names))

    # ---- lists

    def _index(self) -> bytes:
        meaning = label_meaning.REPORT.get(self.dataset.layout, "")
        notes = [meaning, self.dataset.licence and f"Licence of the data: {self.dataset.licence}"]
        notes += [f"not shown: {name}: {why}" for name, why in self.damaged.items()]
        tasks = [
            {"task": task, "title": TITLES[task], "experiments": [one.name for one in found]}
            for task, found in self.tasks.items()
        ]
        return as_json({
            "title": self.work.dataset, "research": RESEARCH, "kind": "dataset", "notes": [note for note in notes if note],
            "cases": self.names, "counts": [len(rows) for rows in self.patients.values()], "tasks": tasks, "hu": False,
            "truth": self.has_truth,
        })  # fmt: skip

    def _lists(self, task: int, number: int) -> bytes:
        found, of_case = self.result(task, number), {name: case for case, name in enumerate(self.names)}
        place = {image_id: (of_case[patient], row) for patient, rows in self.patients.items()
                 for row, image_id in enumerate(rows["image_id"])}  # fmt: skip
        worst = sorted(found.mistakes, key=lambda mistake: -mistake[0])[:MOST]
        return as_json({
            "about": protocol.headline(self.tasks[task][number].content), "measure": found.measure, "rising": found.rising,
            "errors": [[of_case[name], value, words] for name, (value, words) in found.errors.items()],
            "mistakes": [[*place[image_id], kind, words] for _, image_id, kind, words in worst], "of": len(found.mistakes),
        })  # fmt: skip

    def _slices(self, case: int) -> bytes:
        rows, frame = self.patients[self.names[case]], self._frame(case)
        known = rows[self.dataset.labels].eq(1).fillna(False).to_numpy(dtype=bool)
        truth = [[name for name, there in zip(self.dataset.labels, row, strict=True) if there] for row in known]
        axis, turned = frame.along()
        size = f"{len(rows)} slices" + (
            "" if self._spacing(case) else "; px, spacing unknown: other planes in assumed proportions"
        )
        return as_json({"names": rows["image_id"].tolist(), "truth": truth, "axis": axis, "turned": turned,
                      "sides": frame.known_sides, "about": size})  # fmt: skip

    def _predicted(self, task: int, number: int, case: int) -> bytes:
        slices = self.result(task, number).slices
        return as_json([slices.get(image_id) for image_id in self.patients[self.names[case]]["image_id"]])

    # ---- volumes

    def _spacing(self, case: int) -> tuple[float, float, float] | None:
        """mm between columns, rows and slices, where all slices of a patient know it and agree."""
        rows = self.patients[self.names[case]]
        known = rows.reindex(columns=volumes.SPACINGS).apply(pd.to_numeric, errors="coerce")
        if known.isna().any(axis=None) or not (known > 0).all(axis=None) or len(known.drop_duplicates()) > 1:
            return None
        row, column, step = known.iloc[0]
        return float(column), float(row), float(step)

    def _frame(self, case: int) -> Frame:
        return Frame.of_images(self._shape(case)[2], self._spacing(case), self.orientation)

    @lru_cache(maxsize=64)  # noqa: B019 (a view lives as long as its process)
    def _shape(self, case: int) -> tuple[int, int, int]:
        sizes = np.array([images.size_of(self.work.raw / name) for name in self.patients[self.names[case]]["image"]])
        width, height = sizes.max(axis=0).tolist()
        return len(sizes), height, width

    def _filled(self, case: int, slices: Iterable[np.ndarray | None]) -> np.ndarray:
        """Slices, some of which may be smaller or missing, as one array, uint8."""
        drawn = np.zeros(self._shape(case), dtype=np.uint8)
        for place, one in zip(drawn, slices, strict=True):
            if one is not None:
                place[: one.shape[0], : one.shape[1]] = one
        return drawn

    def _grey(self, case: int) -> bytes:
        names = self.patients[self.names[case]]["image"]
        return self._frame(case).nifti(self._filled(case, (images.read_grey(self.work.raw / name) for name in names)))

    def _truth(self, case: int) -> bytes:
        rows = self.patients[self.names[case]]
        read = (
            segmentation_data.read_mask(self.work.raw / mask, images.size_of(self.work.raw / image)) if mask else None
            for image, mask in zip(rows["image"], rows["mask"], strict=True)
        )
        return self._layer(
            case, self._filled(case, read) > 0, dict(iter(self.boxes.groupby("image_id")[detection_predictions.CORNERS]))
        )

    def _prediction(self, of_boxes: str, of_masks: str, case: int) -> bytes:
        boxes = {} if of_boxes == NONE else self.result(2, int(of_boxes)).boxes
        if of_masks == NONE:
            return self._layer(case, None, boxes)
        maps = [self.result(3, int(of_masks)).maps.get(name) for name in self.patients[self.names[case]]["image_id"]]
        probability = self._filled(case, (images.read_grey(one[0]) if one else None for one in maps))
        levels = np.array([one[1] if one else 256 for one in maps])
        return self._layer(case, probability >= levels[:, None, None], boxes, probability)

    def _layer(self, case: int, masks: np.ndarray | None, boxes: dict[str, Any], probability: np.ndarray | None = None) -> bytes:
        of_slices = [np.asarray(boxes.get(name, np.zeros((0, 4)))) for name in self.patients[self.names[case]]["image_id"]]
        return self._frame(case).nifti(layer(masks, of_slices, self._shape(case), probability))

    # ---- results
