"""Folders as people have them: scans with previews, archives, notes, masks that do not fit; nothing is lost without a word."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.dicom_files import head, write_series
from helpers.fake_sources import BLOOD, save, scan
from hemoct.ct import hounsfield, windows as ct_windows

STEP = "scripts/01_get_data.py"


def get(run_step, source: Path, root: Path, *words: object):
    return run_step(STEP, "--from", source, "--root", root, "--dataset", "x", "--workers", 1, *words)


def tables(root: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    raw = root / "data/raw/x"
    bad = pd.read_csv(raw / "conversion/bad_files.csv")
    return pd.read_csv(raw / "slices.csv", keep_default_na=False), bad.set_index("file")["problem"].to_dict()


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)


def patients(folder: Path, count: int = 6) -> None:
    for number in range(count):

        def edit(header, index, number=number):
            header.PatientID, header.SOPInstanceUID = f"P{number}", f"1.3.{number}.{index}"

        for path in write_series(folder / f"P{number}", head(2, 16, number), edit=edit):
            path.rename(folder / f"P{number}" / f"P{number}_{path.name}")
        (folder / f"P{number}" / "dicom").rmdir()


@pytest.mark.parametrize(
    "pictures",
    [
        ["preview.png"],
        ["P0/key_image.jpg"],
        ["P0/a.jpg", "P1/a.jpg"],
        [f"P{number}/key.JPG" for number in range(6)],
        ["train/a.png", "test/b.png"],
    ],
    ids=["one", "in a folder", "in two", "in each", "as if classes"],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_a_few_pictures_do_not_make_a_data_set_of_pictures(run_step, tmp_path, pictures, labelled):
    patients(tmp_path / "in")
    for name in pictures:
        picture(tmp_path / "in" / name)
    if labelled:
        rows = [f"P{number}_{place:02d},{number % 2}" for number in range(6) for place in (1, 2)]
        (tmp_path / "in" / "labels.csv").write_text("image,any\n" + "\n".join(rows) + "\n")
    done = get(run_step, tmp_path / "in", tmp_path)
    assert done.code == 0, done.err
    slices, bad = tables(tmp_path)
    assert len(slices) == 12 and sorted(bad) == sorted(pictures) and all("is a picture" in problem for problem in bad.values())
    if labelled:
        made = run_step("scripts/03_make_labels.py", "--root", tmp_path, "--dataset", "x")
        assert made.code == 0, made.err
        labels = pd.read_csv(tmp_path / "data/work/x/labels.csv")
        assert labels.groupby("patient")["any"].max().to_dict() == {f"P{number}": number % 2 for number in range(6)}


def test_pictures_that_a_table_names_are_the_data_and_scans_beside_them_are_told_of(run_step, tmp_path):
    patients(tmp_path / "in")
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/labels.csv").write_text("image,any\na.png,1\n")
    done = get(run_step, tmp_path / "in", tmp_path)
    assert done.code == 0 and (tmp_path / "data/raw/x").is_symlink()
    assert "12 DICOM or NIfTI files in it are not read; --convert" in done.out
    assert get(run_step, tmp_path / "in", tmp_path / "other", "--convert").code == 0
    assert len(tables(tmp_path / "other")[0]) == 12


def test_every_file_is_read_listed_or_counted(run_step, tmp_path):
    patients(tmp_path / "in", 1)
    for name in ("more.zip", "old.tar.gz", "head.nrrd", "IM99", "t1.mgz"):
        (tmp_path / "in" / name).write_bytes(b"something")
    for name in ("README.txt", "notes.txt", "P0/report.pdf", "DICOMDIR", "P0/deep.csv", ".DS_Store"):
        (tmp_path / "in" / name).write_text("a,b\n1,2\n")
    done = get(run_step, tmp_path / "in", tmp_path)
    assert done.code == 0, done.err
    _, bad = tables(tmp_path)
    assert bad == {
        "IM99": "is no DICOM file and no NIfTI volume",
        "head.nrrd": "is in a format that is not read; convert it to NIfTI",
        "more.zip": "is an archive; unpack it",
        "old.tar.gz": "is an archive; unpack it",
        "t1.mgz": "is in a format that is not read; convert it to NIfTI",
    }
    assert "5 files were skipped" in done.out
    line = next(line for line in done.out.splitlines() if line.startswith("not read: "))
    assert sorted(line.removeprefix("not read: ").split(", ")) == ["1 .csv", "1 .pdf", "1 DICOMDIR", "2 .txt"]


def test_a_mask_that_does_not_fit_is_left_out_with_a_word_and_its_volume_stays(run_step, tmp_path):
    for number in range(4):
        save(tmp_path / f"in/{number}.nii.gz", scan(number))
    save(tmp_path / "in/0_mask.nii.gz", BLOOD)
    save(tmp_path / "in/1_mask.nii.gz", BLOOD, spacing=0.9)
    save(tmp_path / "in/2_mask.nii.gz", BLOOD[:3])
    save(tmp_path / "in/lost_mask.nii.gz", BLOOD)
    (tmp_path / "in/3.nii.gz").write_bytes(b"broken")
    save(tmp_path / "in/3_mask.nii.gz", BLOOD)
    done = get(run_step, tmp_path / "in", tmp_path)
    slices, bad = tables(tmp_path)
    assert done.code == 0 and len(slices) == 12 and (slices["mask"] != "").sum() == 4
    assert sorted(bad) == ["1_mask.nii.gz", "2_mask.nii.gz", "3.nii.gz", "3_mask.nii.gz", "lost_mask.nii.gz"]
    assert "apart from its volume" in bad["1_mask.nii.gz"] and "16 x 16 x 3 voxels" in bad["2_mask.nii.gz"]
    assert bad["3_mask.nii.gz"] == "belongs to a volume that is skipped" and "a mask, no CT" in bad["lost_mask.nii.gz"]
    assert slices["lesion"].astype(str).tolist() == ["1", "0", "1", "0", *[""] * 8], "no mask: unknown, never 0"


def test_unequal_sides_of_pixels_become_equal_with_masks_and_boxes(run_step, tmp_path):
    """16 x 16 pixels of 1.0 x 0.5 mm: 32 x 16 of 0.5 mm, each row twice in the mask."""
    path = save(tmp_path / "in/a.nii.gz", scan(1))
    save(tmp_path / "in/a_seg.nii.gz", BLOOD)
    for name in (path, path.with_name("a_seg.nii.gz")):
        image = nib_with(name, (0.5, 1.0, 5.0))
        image.to_filename(name)
    done = get(run_step, tmp_path / "in", tmp_path)
    assert done.code == 0 and "4 slices had pixels longer one way than the other and were stretched" in done.out
    slices, _ = tables(tmp_path)
    assert set(slices["spacing_row"]) == set(slices["spacing_col"]) == {0.5}
    raw = tmp_path / "data/raw/x"
    shown, mask = (np.asarray(Image.open(raw / slices[column][2])) for column in ("image", "mask"))
    assert shown.shape == mask.shape == (32, 16)
    np.testing.assert_array_equal(mask, np.repeat(BLOOD[2], 2, axis=0))
    expected = hounsfield.window(np.repeat(scan(1)[2], 2, axis=0), ct_windows.WINDOWS["brain"])
    assert (np.abs(shown.astype(int) - expected) > 40).mean() < 0.1, "but for the rows between two others the same"
    boxes = pd.read_csv(raw / "conversion/boxes.csv")
    assert boxes.iloc[-1, 1:].tolist() == ["lesion", 8, 16, 12, 24]


def nib_with(path: Path, lengths: tuple[float, float, float]):
    import nibabel as nib

    image = nib.load(path)
    return nib.Nifti1Image(np.asanyarray(image.dataobj), np.diag([*lengths, 1]))


def test_oblong_pixels_of_dicom_too(run_step, tmp_path):
    write_series(tmp_path, head(2), edit=lambda header, _: setattr(header, "PixelSpacing", [1.0, 0.5]))
    assert get(run_step, tmp_path / "dicom", tmp_path).code == 0
    slices, _ = tables(tmp_path)
    assert Image.open(tmp_path / "data/raw/x" / slices["image"][0]).size == (64, 128) and set(slices["spacing_row"]) == {0.5}


def test_a_table_of_scans_is_told_apart_from_one_of_slices(run_step, tmp_path):
    """Beside masks it is not needed: the labels are those of the masks."""
    for number in range(2):
        save(tmp_path / f"in/{number:03d}.nii.gz", scan(number))
    (tmp_path / "in/labels.csv").write_text("image,any\n000.nii.gz,1\n001.nii.gz,0\n")
    done = get(run_step, tmp_path / "in", tmp_path / "a")
    assert done.code == 0 and "labels.csv has a row for each scan: slices of a scan with a label" in done.out
    made = run_step("scripts/03_make_labels.py", "--root", tmp_path / "a", "--dataset", "x")
    assert made.code == 0 and "2 row(s) are of whole scans" in made.out, made.err
    assert pd.read_csv(tmp_path / "a/data/work/x/labels.csv")["any"].fillna(9).tolist() == [9] * 4 + [0] * 4
    for number in range(2):
        save(tmp_path / f"in/{number:03d}_seg.nii.gz", BLOOD)
    (tmp_path / "in/labels.csv").write_text("id,age\n000,71\n001,54\n")
    assert get(run_step, tmp_path / "in", tmp_path / "b").code == 0
    made = run_step("scripts/03_make_labels.py", "--root", tmp_path / "b", "--dataset", "x")
    assert made.code == 0 and "slices.csv is the only table that names images; not used: labels.csv" in made.out, made.err
    labels = pd.read_csv(tmp_path / "b/data/work/x/labels.csv")
    assert labels["lesion"].tolist() == [1, 0, 1, 0] * 2 and len(pd.read_csv(tmp_path / "b/data/work/x/boxes.csv")) == 4


def test_masks_beside_dicom_are_named_with_what_to_do(run_step, tmp_path):
    patients(tmp_path / "in", 2)
    for number in range(2):
        save(tmp_path / f"in/P{number}/mask.nii.gz", BLOOD)
    done = get(run_step, tmp_path / "in", tmp_path)
    slices, bad = tables(tmp_path)
    assert done.code == 0 and len(slices) == 4 and sorted(bad) == ["P0/mask.nii.gz", "P1/mask.nii.gz"]
    assert all(
        "is a mask beside DICOM files" in problem and "convert their series to NIfTI" in problem for problem in bad.values()
    )
    assert "volumes are scans of" not in done.out
