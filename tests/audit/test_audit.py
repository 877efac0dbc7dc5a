"""The checks on a data set: each defect is found under its own name, and a clean set has none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import toy
from hemoct.audit import checks, reading, summary
from hemoct.base import tables
from hemoct.base.workspace import Workspace


@pytest.fixture
def marked(work: Workspace) -> Workspace:
    """A clean toy set of 5 patients x 4 slices; the odd slices have a mask and a box around their bright disk."""
    labels = toy.make(work, patients=5, slices=4)
    boxes = []
    for row in labels.itertuples():
        disk = np.asarray(Image.open(work.raw / row.image)) > 200
        Image.fromarray(disk.astype(np.uint8) * 255).save(work.raw / f"mask_{row.image}")
        if disk.any():
            y, x = np.nonzero(disk)
            boxes.append((row.image_id, "a", x.min(), y.min(), x.max() + 1, y.max() + 1))
    tables.write_labels(work, labels.assign(mask="mask_" + labels["image"]), tables.read_dataset(work))
    tables.write_boxes(work, pd.DataFrame(boxes, columns=tables.BOX_COLUMNS))
    return work


def inspect(work: Workspace) -> dict[str, list[str]]:
    """check -> what it names, image or patient."""
    found = checks.check(reading.read(work))
    assert found["check"].isin(list(checks.CHECKS)).all()
    assert found["fatal"].tolist() == [checks.CHECKS[check].fatal for check in found["check"]]
    subject = found["image_id"].where(found["image_id"] != "", found["patient"])
    return subject.groupby(found["check"]).agg(list).to_dict()


def relabel(work: Workspace, rows: dict[str, dict[str, object]]) -> None:
    """Change cells of labels.csv: image_id -> column -> value."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset).set_index("image_id")
    for image_id, cells in rows.items():
        for column, value in cells.items():
            labels.loc[image_id, column] = value
    tables.write_labels(work, labels.reset_index(), dataset)


def rename_patient(work: Workspace, old: str, new: str) -> None:
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    tables.write_labels(work, labels.assign(patient=labels["patient"].replace(old, new)), dataset)


def move_box(work: Workspace, **cells: object) -> None:
    """Change the first box, which is that of 0001_01."""
    boxes = tables.read_boxes(work)
    for column, value in cells.items():
        boxes.loc[0, column] = value
    tables.write_boxes(work, boxes)


def paint(path: Path, grey: np.ndarray | int, size: tuple[int, int] = (32, 32)) -> None:
    Image.fromarray(np.broadcast_to(np.asarray(grey, dtype=np.uint8), size)).save(path)


def remask(work: Workspace, make: Callable[[np.ndarray], Image.Image], only: str = "") -> None:
    """Write masks anew (or that of one image), from what they are: bool (32, 32)."""
    for path in sorted(work.raw.glob(f"mask_{only}*.png")):
        make(np.asarray(Image.open(path)) > 0).save(path)


def coloured(mask: np.ndarray, lesion: tuple[int, ...], other: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.where(mask[..., None], lesion, other).astype(np.uint8))


def in_alpha(mask: np.ndarray) -> Image.Image:
    return coloured(mask, (0, 0, 0, 255), (0, 0, 0, 0))


def indexed(mask: np.ndarray, palette: list[int]) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette(palette)
    return image


def one_pixel(work: Workspace, name: str) -> None:
    grey = np.zeros((32, 32), dtype=np.uint8)
    grey[3, 3] = 255
    paint(work.raw / name, grey)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def as_jpeg(work: Workspace, name: str) -> None:
    """Name a PNG `.jpg`, content unchanged."""
    (work.raw / f"{name}.png").rename(work.raw / f"{name}.jpg")
    relabel(work, {name: {"image": f"{name}.jpg"}})


def copy(work: Workspace, *pairs: tuple[str, str]) -> None:
    for source, target in pairs:
        shutil.copy(work.raw / f"{source}.png", work.raw / f"{target}.png")


Spoil = Callable[[Workspace], object]
POSITIVE = [f"{patient:04d}_{number:02d}" for patient in range(1, 6) for number in (1, 3)]
DEFECTS: list[tuple[str, Spoil, dict[str, list[str]]]] = [
    ("nothing", lambda w: None, {}),
    ("image deleted", lambda w: (w.raw / "0002_00.png").unlink(), {"missing_image": ["0002_00"]}),
    ("image cut short", lambda w: truncate(w.raw / "0002_00.png"), {"unreadable_image": ["0002_00"]}),
    ("mask not listed", lambda w: relabel(w, {"0002_00": {"mask": ""}}), {"missing_mask": ["0002_00"]}),
    ("mask deleted", lambda w: (w.raw / "mask_0002_00.png").unlink(), {"missing_mask": ["0002_00"]}),
    ("mask cut short", lambda w: (w.raw / "mask_0002_00.png").write_bytes(b"\x89PNG"), {"unreadable_mask": ["0002_00"]}),
    ("mask of another size", lambda w: paint(w.raw / "mask_0002_00.png", 0, (32, 30)), {"mask_size": ["0002_00"]}),
    ("masks of 0 and 1", lambda w: remask(w, lambda mask: Image.fromarray(mask.astype(np.uint8))), {}),
    ("one mask of 0 and 1", lambda w: remask(w, lambda mask: Image.fromarray(mask.astype(np.uint8)), "0002_01"), {}),
    ("masks of 16 bit", lambda w: remask(w, lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535)), {}),
    ("red mask", lambda w: remask(w, lambda mask: coloured(mask, (255, 0, 0), (0, 0, 0))), {}),
    (
        "masks of two colours",
        lambda w: remask(w, lambda mask: coloured(mask, (255, 0, 0), (0, 0, 0)), "0002_01"),
        {"mask_classes": [""]},
    ),
    (
        "one mask of 0 and 2",
        lambda w: remask(w, lambda mask: Image.fromarray(mask * np.uint8(2)), "0002_01"),
        {"mask_classes": [""]},
    ),
    (
        "mask of 0, 1 and 2",
        lambda w: remask(w, lambda mask: Image.fromarray(np.where(mask, 2, np.eye(32)).astype(np.uint8)), "0002_01"),
        {"mask_values": ["0002_01"]},
    ),
    (
        "class and border",
        lambda w: remask(w, lambda mask: Image.fromarray(np.where(np.eye(32), 255, mask).astype(np.uint8)), "0002_01"),
        {"mask_values": ["0002_01"]},
    ),
    ("mask in the alpha channel", lambda w: remask(w, in_alpha, "0002_01"), {"mask_reading": ["0002_01"]}),
    (
        "palette all black",
        lambda w: remask(w, lambda mask: indexed(mask, [0] * 768), "0002_01"),
        {"mask_reading": ["0002_01"]},
    ),
    ("palettes all black", lambda w: remask(w, lambda mask: indexed(mask, [0] * 768)), {"mask_reading": POSITIVE}),
    (
        "mask inverted",
        lambda w: remask(w, lambda mask: Image.fromarray(~mask * np.uint8(255)), "0002_01"),
        {"mask_inverted": ["0002_01"]},
    ),
    (
        "empty mask inverted",
        lambda w: paint(w.raw / "mask_0002_00.png", 255),
        {"mask_inverted": ["0002_00"], "mask_without_box": ["0002_00"]},
    ),
    (
        "lesion all over",
        lambda w: paint(w.raw / "mask_0002_01.png", np.pad(np.full((28, 28), 255), 2)),
        {"mask_large": ["0002_01"]},
    ),
    ("mask of one pixel", lambda w: one_pixel(w, "mask_0002_01.png"), {"tiny_mask": ["0002_01"]}),
    ("box reversed", lambda w: move_box(w, xmin=20, xmax=10), {"box_invalid": ["0001_01"]}),
    ("box without area", lambda w: move_box(w, ymin=7, ymax=7), {"box_invalid": ["0001_01"]}),
    ("box without a corner", lambda w: move_box(w, ymin=None), {"box_invalid": ["0001_01"]}),
    ("box beyond the right", lambda w: move_box(w, xmax=33), {"box_outside": ["0001_01"]}),
    ("box beyond the top", lambda w: move_box(w, ymin=-1), {"box_outside": ["0001_01"]}),
    ("box touches the border", lambda w: move_box(w, xmin=0, xmax=32, ymin=0, ymax=32), {}),
    ("box of a stranger", lambda w: move_box(w, image_id="9"), {"box_of_no_image": ["9"], "mask_without_box": ["0001_01"]}),
    ("black slice", lambda w: paint(w.raw / "0002_00.png", 5), {"near_black": ["0002_00"]}),
    ("PNG named jpg", lambda w: as_jpeg(w, "0002_00"), {"wrong_extension": ["0002_00"]}),
    ("slice number jumps", lambda w: relabel(w, {"0003_03": {"slice": 9}}), {"slice_gap": ["0003_03"]}),
    ("slice number twice", lambda w: relabel(w, {"0003_03": {"slice": 2}}), {"slice_repeat": ["0003_03"]}),
    ("label unknown", lambda w: relabel(w, {"0003_03": {"hemorrhage": pd.NA}}), {"unknown_label": ["0003_03"]}),
    ("prefix in the name", lambda w: rename_patient(w, "0005", "P-3"), {"patient_two_names": ["0003"]}),
    (
        "copy in one patient",
        lambda w: copy(w, ("0001_00", "0001_02")),
        {"identical_within_patient": ["0001_02"]},
    ),
    (
        "copies across patients",
        lambda w: copy(w, ("0001_00", "0004_00"), ("0001_02", "0004_02")),
        {"identical_across_patients": ["0001_00", "0001_02", "0004_00", "0004_02"], "patient_two_names": ["0001"]},
    ),
    (
        "one copy is no second name",
        lambda w: copy(w, ("0001_00", "0004_00")),
        {"identical_across_patients": ["0001_00", "0004_00"]},
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), [case[1:] for case in DEFECTS], ids=[case[0] for case in DEFECTS])
def test_defect_is_found_and_nothing_else(marked: Workspace, spoil: Spoil, expected: dict[str, list[str]]) -> None:
    spoil(marked)
    assert inspect(marked) == expected


def test_numbering_that_starts_late(marked: Workspace) -> None:
    relabel(marked, {f"0003_0{number}": {"slice": number + 45} for number in range(4)})
    assert inspect(marked) == {"slice_gap": ["0003_00"]}


def test_patient_without_masks_is_named_as_such(marked: Workspace) -> None:
    relabel(marked, {**{f"0003_0{number}": {"mask": ""} for number in range(4)}, "0001_00": {"mask": ""}})
    found = checks.check(reading.read(marked))
    assert found["check"].unique().tolist() == ["missing_mask"]
    whole = found["detail"] == "no mask in the whole patient"
    assert found.loc[whole, "patient"].unique().tolist() == ["0003"]
    assert found.loc[~whole, "image_id"].tolist() == ["0001_00"]


def test_patients_of_one_kind(work: Workspace) -> None:
    toy.make(work)
    relabel(work, {f"0002_0{number}": {"hemorrhage": 0} for number in range(4)})
    relabel(work, {f"0003_0{number}": {"hemorrhage": 1} for number in range(4)})
    relabel(work, {f"0004_0{number}": {"hemorrhage": pd.NA} for number in (0, 2)})  # unknown is not negative
    found = inspect(work)
    assert found["patient_no_positive"] == ["0002"]
    assert found["patient_no_negative"] == ["0003", "0004"]


def test_sizes_one_by_one_while_most_agree_else_in_one_line(work: Workspace) -> None:
    toy.make(work, patients=5, slices=4)
    paint(work.raw / "0002_00.png", 90, (40, 20))
    assert inspect(work) == {"image_size": ["0002_00"]}
    for number, path in enumerate(sorted(work.raw.glob("*.png"))):
        paint(path, 20 + number, (32 + number, 32))
    assert inspect(work) == {"image_size": [""]}


def test_without_patients_only_that_is_said(work: Workspace) -> None:
    toy.make(work)
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    dataset.patient_source = "none: each image is its own group"
    tables.write_dataset(work, dataset)
    tables.write_labels(work, labels.assign(patient=labels["image_id"]), dataset)
    assert inspect(work) == {"no_patient": [""]}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["013", "0013"], [("013", "0013")]),
        (["Pat_07", "pat-7"], [("Pat_07", "pat-7")]),
        (["12", "P012"], [("12", "P012")]),
        (["11", "101", "110"], []),
        (["A12", "B12"], []),
        (["IM-0029-0001", "IM-0029-0002"], []),
    ],
)
def test_names_of_one_patient(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert list(checks._same_name(names)) == pairs


def test_ceiling_leaves_out_missing_masks(marked: Workspace) -> None:
    paint(marked.raw / "mask_0002_01.png", 0)  # empty
    relabel(marked, {"0003_01": {"mask": ""}})  # missing
    ceiling = summary.ceiling(reading.read(marked))
    assert (ceiling["boxed_slices"], ceiling["without_mask_file"], ceiling["value"]) == (10, 1, 8 / 9)


def test_sums_give_mean_and_variance_of_the_images(work: Workspace) -> None:
    toy.make(work, patients=5, slices=2, size=reading.SIZE)
    relabel(work, {"0001_01": {"hemorrhage": pd.NA}})
    measured = reading.read(work)
    positive = [work.raw / f"000{patient}_01.png" for patient in (2, 3, 4, 5)]
    stack = np.stack([np.asarray(Image.open(path), dtype=float) for path in positive])
    mean = measured.total[0, 1] / measured.count[0, 1]
    assert measured.count.tolist() == [[5, 4]]
    np.testing.assert_allclose(mean, stack.mean(0))
    np.testing.assert_allclose(measured.squares[0, 1] / 4 - mean**2, stack.var(0), atol=1e-6)


def test_areas_in_mm2_only_where_every_spacing_is_known(marked: Workspace) -> None:
    dataset = tables.read_dataset(marked)
    labels = tables.read_labels(marked, dataset).assign(spacing_row=0.5, spacing_col=0.4)
    tables.write_labels(marked, labels, dataset)
    box, mask = summary.lesion_areas(reading.read(marked))
    np.testing.assert_allclose(box["mm2"], box["px"] * 0.2)
    np.testing.assert_allclose(mask["mm2"], mask["px"] * 0.2)
    relabel(marked, {"0001_01": {"spacing_row": np.nan}})
    assert [list(areas.columns) for areas in summary.lesion_areas(reading.read(marked))] == [["px"], ["px"]]


def test_known_defects_of_the_real_data(real_data: Path, tmp_path: Path, run_step: Callable) -> None:
    """Those that the data's own README lists. The masks are edema, so a box without mask pixels is common."""
    raw = tmp_path / "data" / "raw" / "phe-sich"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(real_data / "PHE-SICH-CT-IDS")
    assert run_step("scripts/02_merge_annotations.py", "--root", tmp_path).code == 0
    assert run_step("scripts/03_make_labels.py", "--root", tmp_path).code == 0
    data = reading.read(Workspace(tmp_path, "phe-sich"))
    found = checks.check(data)
    names = found.groupby("check")["image_id"].agg(list).to_dict()

    assert not found["fatal"].any()
    whole_patient = found["detail"] == "no mask in the whole patient"
    assert set(found.loc[whole_patient, "patient"]) == {"0070"}
    assert found.loc[(found["check"] == "missing_mask") & ~whole_patient, "image_id"].tolist() == ["0071_05"]
    assert "0115_20" in names["tiny_mask"]
    assert "0115_20" in names["mask_without_box"]
    assert len(names["box_without_mask"]) == 39
    assert {"0024_14", "0046_10"} <= set(names["box_without_mask"])
    assert 25 <= len(names["identical_across_patients"]) <= 35
    assert {"0012_29", "0163_68"} <= set(names["identical_across_patients"]) & set(names["near_black"])
    assert found.loc[found["check"] == "slice_gap", "patient"].tolist() == ["0038"]
    assert "patient_two_names" not in names
    assert summary.ceiling(data)["value"] == pytest.approx(0.935, abs=0.001)
    assert sum(summary.summarise(data, found)["repairs"].values()) > 2000
