"""RSNA 2019: six rows to an image become one row of labels, however they lie in the file; what contradicts itself stops."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.refusals import refused
from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.ingest import rsna_reader

STEP = "scripts/03_make_labels.py"
TRUTH = {"ID_a": [0, 1, 0, 0, 0, 1], "ID_b": [0, 0, 0, 0, 0, 0], "ID_c": [1, 0, 0, 0, 1, 1]}


def rows_of(truth: dict[str, list[int]]) -> list[str]:
    return [
        f"{name}_{kind},{value}" for name, all_of in truth.items() for kind, value in zip(rsna_reader.LABELS, all_of, strict=True)
    ]


def write(folder: Path, rows: list[str], header: str = "ID,Label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stage_2_train.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def draw(work: Workspace, *names: str) -> None:
    for name in names:
        (work.raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(work.raw / name)


@pytest.fixture
def make(work: Workspace, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", work.dataset, *words)


def test_the_table_and_its_images_become_labels(work: Workspace, make):
    write(work.raw, rows_of(TRUTH))
    draw(work, "stage_2_train/ID_a.png", "stage_2_train/ID_b.png", "stage_2_train/ID_c.png", "stage_2_test/ID_z.png")
    result = make()
    assert result.code == 0, result.err
    assert "layout rsna" in result.out and "`any` agrees with the types on all 3 images" in result.out
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset).set_index("image_id")
    assert (dataset.layout, dataset.labels, dataset.exclusive) == ("rsna", rsna_reader.LABELS, False)
    assert {name: labels.loc[name, rsna_reader.LABELS].tolist() for name in labels.index} == TRUTH
    assert labels.loc["ID_a", "image"] == "stage_2_train/ID_a.png"
    problems = pd.read_csv(work.work / "label_problems.csv").to_numpy().tolist()
    assert problems == [["stage_2_test/ID_z.png", "no row in the table"]]


def test_rows_in_any_order_and_chunk_are_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = rows_of(TRUTH)
    np.random.default_rng(3).shuffle(rows)
    whole = rsna_reader.read_truth(write(tmp_path, rows + rows[:4]))
    monkeypatch.setattr(rsna_reader, "CHUNK", 5)
    chunked = rsna_reader.read_truth(write(tmp_path, rows + rows[:4]))
    for truth in (whole, chunked):
        assert dict(zip(truth.names, truth.values.tolist(), strict=True)) == TRUTH
        assert truth.repeats == 4


def test_what_the_table_does_not_say_is_unknown(work: Workspace, make):
    write(work.raw, [row for row in rows_of(TRUTH) if row not in ("ID_a_epidural,0", "ID_b_any,0")])
    draw(work, "ID_a.png", "ID_b.png", "ID_c.png")
    assert make().code == 0
    labels = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    assert labels["epidural"].fillna(9).tolist() == [9, 0, 1] and labels["any"].fillna(9).tolist() == [1, 9, 1]


def test_any_that_disagrees_is_told_and_listed(work: Workspace, make):
    write(work.raw, rows_of({**TRUTH, "ID_b": [0, 0, 0, 0, 0, 1], "ID_c": [1, 0, 0, 0, 1, 0]}))
    draw(work, "ID_a.png", "ID_b.png", "ID_c.png")
    assert "`any` disagrees with the types on 2 of 3 images (first: ID_b); left as it is" in make().out
    problems = pd.read_csv(work.work / "label_problems.csv")
    assert problems["name"].tolist() == ["ID_b", "ID_c"]
    labels = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    assert labels["any"].to_dict() == {"ID_a": 1, "ID_b": 1, "ID_c": 0}


def test_unknown_labels_contradict_nothing():
    values = np.array([[0, 0, 0, 0, -1, 1], [1, 0, 0, 0, 0, -1], [0, 0, 0, 0, -1, 0], [1, -1, -1, -1, -1, 0]])
    assert rsna_reader.any_disagrees(values).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["ID_a_any,1", "ID_b_any,0", "ID_a_any,0"], ["ID_a_any twice with different labels (rows 2 and 4; 1 such"]),
        (["ID_a_any,1", "ID_a_glioma,0"], ["row 3, ID is 'ID_a_glioma'", "ID_xxx_TYPE is expected"]),
        (["ID_a_any,1", "any,0"], ["row 3, ID is 'any'"]),
        (["ID_a_any,1", "ID_b_any,0.5"], ["column Label, row 3 is '0.5'", "(1 rows); correct it\n"]),
        ([], ["has no rows"]),
    ],
)
def test_a_broken_table_stops(work: Workspace, make, rows: list[str], words: list[str]):
    write(work.raw, rows)
    draw(work, "ID_a.png")
    assert refused(make(), "stage_2_train.csv", *words)
    assert not (work.work / "labels.csv").exists()


def test_mistakes_with_files_and_flags_stop(work: Workspace, make):
    write(work.raw, rows_of(TRUTH))
    draw(work, "ID_a.png")
    assert refused(make(), "2 of 3 images are not in", "ID_b, ID_c", "--skip-missing")
    assert refused(make("--labels", "any,glioma"), "has no label glioma")
    assert refused(make("--csv", "other.csv"), "other.csv is missing")
    assert make("--skip-missing", "--labels", "any,subdural").code == 0
    dataset = tables.read_dataset(work)
    assert (dataset.labels, len(tables.read_labels(work, dataset))) == (["any", "subdural"], 1)
    write(work.raw, rows_of(TRUTH), header="ID,Value")
    assert refused(make("--layout", "rsna"), "has no stage_2_train.csv with the columns ID and Label")


def test_ids_that_match_no_file_are_shown_beside_a_file(work: Workspace, make):
    write(work.raw, rows_of(TRUTH))
    draw(work, "images/slice_a.png")
    result = make("--skip-missing")
    assert refused(result, "3 of 3 images are not in", "(first: ID_a, ID_b, ID_c; a file there: images/slice_a.png); add them\n")
    assert refused(make("--patient-column", "who", "--skip-missing"), "3 of 3")
    draw(work, "images/ID_a.png")
    assert refused(make("--patient-column", "who", "--skip-missing"), "has no column who; beside the labels it has none")


def test_ids_that_the_conversion_passed_over_are_told(work: Workspace, make):
    write(work.raw, rows_of(TRUTH))
    draw(work, "images/ID_a.png", "images/ID_b.png")
    (work.raw / "conversion").mkdir()
    (work.raw / "conversion" / "bad_files.csv").write_text("file,problem\nstage_2_train/ID_c.dcm,cannot be read\n")
    assert refused(make(), "(first: ID_c; 1 of them were skipped by the conversion", "conversion/bad_files.csv")


def test_a_table_with_semicolons_is_read(tmp_path: Path):
    path = write(tmp_path, [row.replace(",", ";") for row in rows_of(TRUTH)], header="ID;Label")
    truth = rsna_reader.read_truth(path)
    assert dict(zip(truth.names, truth.values.tolist(), strict=True)) == TRUTH


def test_a_converted_slice_stands_for_its_dicom_file(work: Workspace, make):
    outside = write(work.root / "kaggle", rows_of(TRUTH))
    draw(work, "converted/ID_a.png", "converted/ID_b.png", "converted/ID_c.png")
    (work.raw / "stage_2_train").mkdir()
    (work.raw / "stage_2_train" / "ID_a.dcm").touch()
    (work.raw / "slices.csv").write_text(
        "image,patient,slice,group\n" + "".join(f"converted/ID_{one}.png,P1,{n},S1\n" for n, one in enumerate("abc"))
    )
    result = make("--layout", "rsna", "--csv", outside)
    assert result.code == 0, result.err
    labels = tables.read_labels(work, tables.read_dataset(work))
    assert labels["image"].tolist() == [f"converted/ID_{one}.png" for one in "abc"]
    assert labels["patient"].unique().tolist() == ["P1"] and labels["slice"].tolist() == [0, 1, 2]
    outside.write_text(outside.read_text().replace("ID_b_any,0", "ID_b_any,1"))
    assert "up to date" not in make("--layout", "rsna", "--csv", outside, "--skip-if-done").out
