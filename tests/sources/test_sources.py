"""Public head-CT data in their exact layout: recognised, converted and labelled without a flag, with the right values."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.fake_sources import BLOOD, FAKES, TYPES, rsna, scan
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.sources import known
from hemoct.sources.folder import Contents

TYPE_NAMES = ["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]


class Made:
    """The tables of a fake that went through steps 01 and 03, and what was printed."""

    def __init__(self, run_step, root: Path, name: str, fake=None) -> None:
        (fake or FAKES[name])(root / "in")
        words = ("--root", root, "--dataset", "x")
        got = run_step("scripts/01_get_data.py", "--from", root / "in", *words)
        assert got.code == 0, got.err
        made = run_step("scripts/03_make_labels.py", *words)
        assert made.code == 0, made.err
        self.told, self.raw, work = got.out + made.out, root / "data/raw/x", root / "data/work/x"
        self.labels = pd.read_csv(work / "labels.csv", dtype={"patient": str, "image_id": str}, keep_default_na=False)
        self.slices = pd.read_csv(self.raw / "slices.csv", keep_default_na=False) if (self.raw / "slices.csv").exists() else None
        boxes = pd.read_csv(work / "boxes.csv")
        self.boxes = boxes.merge(self.labels[["image_id", "image"]]).drop(columns="image_id")
        self.dataset = json.loads((work / "dataset.json").read_text())
        bad = self.raw / "conversion/bad_files.csv"
        self.bad = pd.read_csv(bad).set_index("file")["problem"].to_dict() if bad.exists() else {}

    def of(self, image: str, *names: str) -> list[str]:
        """Cells of labels.csv of the only image whose path ends so."""
        (row,) = self.labels[self.labels["image"].str.endswith(image)].to_dict("records")
        return [str(row[name]) for name in names]

    def masks_are(self, image: str, expected: np.ndarray) -> bool:
        """Whether the masks of a volume, by the beginning of its slices' names, are these."""
        names = self.labels.loc[self.labels["image"].str.contains(image), "mask"].sort_values()
        found = np.stack([np.asarray(Image.open(self.raw / name)) for name in names])
        return found.dtype == np.uint8 and np.array_equal(found, expected)

    def boxes_of(self, image: str) -> list[tuple]:
        rows = self.boxes[self.boxes["image"].str.endswith(image)]
        return sorted(rows[["class", "xmin", "ymin", "xmax", "ymax"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", FAKES)
def test_each_source_is_known_by_its_layout_and_by_nothing_less(name, tmp_path):
    FAKES[name](tmp_path)
    assert known.recognise(Contents.of(tmp_path)).name == name
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        moved = tmp_path.parent / f"flat-{name}" / path.name
        moved.parent.mkdir(exist_ok=True)
        moved.write_bytes(path.read_bytes())
    flat = known.recognise(Contents.of(tmp_path.parent / f"flat-{name}"))
    assert (flat.name if flat else "") in {"bhsd": {"rsna-volumes"}, "seg-cq500": {"seg-cq500"}, "bhx": {"bhx"}}.get(
        name, {"", "mbh-seg", "cq500"}
    )


def test_bhsd(run_step, tmp_path):
    made = Made(run_step, tmp_path, "bhsd")
    assert "this is BHSD" in made.told and made.dataset["source"] == "bhsd"
    assert sorted(set(made.labels["patient"])) == [f"ID_0000000{number}" for number in range(3)]
    assert made.dataset["labels"] == [*TYPE_NAMES, "any"] and made.dataset["classes"] == [
        *sorted({*TYPE_NAMES} - {TYPE_NAMES[2]})
    ]
    first = "ID_00000000_ID_0000000000_{:03d}.png"
    expected = ["100001", "000000", "000111", "010001"]
    for number, row in enumerate(expected):
        assert made.of(first.format(number), *TYPE_NAMES, "any") == [*row]
    assert made.boxes_of(first.format(2)) == [("subarachnoid", 8, 8, 12, 12), ("subdural", 1, 9, 3, 12)]
    assert made.boxes_of(first.format(1)) == [] and made.masks_are("ID_00000000_", TYPES) and made.bad == {}
    shown = np.asarray(Image.open(made.raw / made.labels["image"].iloc[0]))
    np.testing.assert_array_equal(shown, hounsfield.window(scan(0)[0], ct_windows.WINDOWS["brain"]))


@pytest.mark.parametrize(("name", "label"), [("instance22", "any"), ("phe-sich-nifti", "edema")])
def test_volumes_with_masks_of_one_kind(run_step, tmp_path, name, label):
    made = Made(run_step, tmp_path, name)
    assert made.dataset["source"] == name and made.dataset["labels"] == [label] and made.labels["patient"].nunique() == 3
    stem = "001" if name == "instance22" else "image1"
    assert [made.of(f"{stem}_{number:03d}.png", label) for number in range(4)] == [["1"], ["0"], ["1"], ["0"]]
    assert made.masks_are(f"/{stem}_", BLOOD) and made.boxes_of(f"{stem}_002.png") == [(label, 8, 8, 12, 12)]


def test_ct_ich_numbers_slices_as_its_files_do(run_step, tmp_path):
    made = Made(run_step, tmp_path, "ct-ich")
    names = ("intraparenchymal", "intraventricular", "any", "fracture")
    for patient in ("049", "050"):  # the same head in both, though one is stored upside down
        found = [made.of(f"{patient}_{number:03d}.png", *names) for number in range(4)]
        assert found == [[*"1011"], [*"0000"], [*"0110"], [*"0000"]], patient
        assert made.masks_are(f"/{patient}_", BLOOD * 255)
    assert "0 slices have no row" in made.told and "1 of its rows have no slice" in made.told
    assert "not read: 1 .csv" in made.told and made.dataset["classes"] == ["any"] and "disagree" not in made.told
    assert sorted(set(made.labels["patient"])) == ["ct_scans/049", "ct_scans/050"]


def test_mbh_seg_takes_one_rater_and_says_so(run_step, tmp_path):
    made = Made(run_step, tmp_path, "mbh-seg")
    case, only_case = "ID_00000000_ID_0000000000/image_{:03d}.png", "ID_00000002_ID_0000000002_000.png"
    assert made.of(case.format(2), *TYPE_NAMES, "any") == [*"000111"] and made.masks_are("ID_00000000_", TYPES)
    assert made.of(only_case, *TYPE_NAMES, "any") == ["", "0", "0", "0", "0", ""], "the case has an epidural: where, nobody says"
    raters = [name for name, problem in made.bad.items() if "another mask of" in problem]
    assert len(raters) == len(made.bad) == 2 and all(name.endswith("label_annot_5.nii.gz") for name in raters)
    assert set(made.labels["patient"]) == {f"ID_0000000{number}" for number in range(3)}


def test_seg_cq500_pairs_by_its_table(run_step, tmp_path):
    made = Made(run_step, tmp_path, "seg-cq500")
    assert set(made.labels["patient"]) == {"CQ500-CT-7", "CQ500-CT-8"} and made.dataset["labels"] == ["any"]
    assert made.masks_are("/a7_", BLOOD) and made.masks_are("/a8_", BLOOD), "also of the sheared one"


def test_cq500_is_what_two_of_three_say_of_the_study(run_step, tmp_path):
    made = Made(run_step, tmp_path, "cq500")
    assert made.labels["patient"].value_counts().to_dict() == {"CQ500-CT-1": 7, "CQ500-CT-2": 4, "CQ500-CT-3": 4}
    by_patient = made.labels.groupby("patient")[["any", "intraparenchymal", "subdural"]].agg(
        lambda cells: "|".join({*map(str, cells)})
    )
    assert by_patient.to_numpy().tolist() == [["", "", "0"], ["0", "0", "0"], ["", "", ""]]
    assert (
        "1 positive (their slices are unknown), 1 negative, 1 without a row" in made.told
        and "3 slices are post contrast" in made.told
    )
    assert made.slices.groupby("patient")["series"].nunique().tolist() == [2, 1, 1]


def test_bhx_finds_its_slices_by_their_identifier(run_step, tmp_path):
    made = Made(run_step, tmp_path, "bhx")
    place = "CQ500CT1 CQ500CT1/Unknown Study/CT PLAIN THIN/CT{:06d}.png"
    assert made.boxes_of(place.format(1)) == [("chronic", 9, 9, 11, 12), ("intraparenchymal", 3.5, 4, 8.5, 6)]
    names = ("any", "chronic", "intraparenchymal", "subdural")
    assert [made.of(place.format(n), *names) for n in range(3)] == [["", "", "", "0"], [*"1110"], [*"1001"]]
    assert set(made.labels.loc[made.labels["patient"] == "CQ500-CT-2", [*names]].to_numpy().ravel()) == {"0"}, "a negative study"
    assert "3 boxes of 2_Extrapolation_to_All_Series.csv on 2 slices" in made.told
    assert (
        "1 boxes cannot be read" in made.told
        and "1 boxes stand there twice" in made.told
        and "1 boxes are of slices that are not here" in made.told
    )


def head_ct(folder: Path) -> None:
    (folder / "head_ct/head_ct").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"head_ct/head_ct/{number:03d}.png")
    (folder / "labels.csv").write_text("id, hemorrhage\n" + "".join(f"{n},{int(n < 6)}\n" for n in range(12)))


def test_head_ct_hemorrhage_loses_no_positive_and_knows_no_patient(run_step, tmp_path):
    made = Made(run_step, tmp_path, "head-ct-hemorrhage", head_ct)
    assert made.dataset["source"] == "head-ct-hemorrhage" and made.dataset["patient_source"].startswith("none")
    assert made.labels.set_index("image_id")["hemorrhage"].astype(int).to_dict() == {
        **{f"{n:03d}": 1 for n in range(6)},
        **{f"{n:03d}": 0 for n in range(6, 12)},
    }


def test_who_shares_people_with_whom():
    assert known.shared_people("bhsd", "rsna-2019") == known.shared_people("mbh-seg", "rsna-volumes") == "rsna-2019"
    assert known.shared_people("bhx", "seg-cq500") == "cq500" and known.shared_people("phe-sich", "phe-sich-nifti") == "phe-sich"
    assert known.shared_people("bhsd", "cq500") == known.shared_people("", "") == known.shared_people("ct-ich", "") == ""
    assert len({each.name for each in known.SOURCES}) == len(known.SOURCES)


def test_the_table_of_sources_in_the_documentation_is_that_of_the_code():
    readme = Path(__file__).resolve().parents[2] / "data/README.md"
    assert known.table() in readme.read_text(encoding="utf-8"), "print(hemoct.sources.known.table()) into data/README.md"


@pytest.mark.parametrize("wide", [False, True], ids=["a row a type", "a column a type"])
def test_rsna_2019_in_part_and_in_both_shapes_of_its_table(run_step, tmp_path, wide):
    rsna(tmp_path / "in", wide)
    words = ("--root", tmp_path, "--dataset", "x")
    got = run_step("scripts/01_get_data.py", "--from", tmp_path / "in", *words)
    assert got.code == 0 and "this is RSNA 2019" in got.out, got.err
    made = run_step("scripts/03_make_labels.py", *words, "--skip-missing")
    assert made.code == 0, made.err
    labels = pd.read_csv(tmp_path / "data/work/x/labels.csv").set_index("image_id")
    assert labels["patient"].value_counts().to_dict() == {"ID_00000000": 2, "ID_00000001": 2}
    for place, name in enumerate(("ID_000000000", "ID_000000001", "ID_100000000", "ID_100000001")):
        assert labels.loc[name, [*TYPE_NAMES, "any"]].tolist() == [int(each == TYPE_NAMES[place]) for each in TYPE_NAMES] + [1]
    assert json.loads((tmp_path / "data/work/x/dataset.json").read_text())["source"] == "rsna-2019"
