"""Masks and patients of NIfTI files, told by names, folders and tables."""

from pathlib import Path

import pytest

from hemoct.sources import naming

CASES = {
    "folders": ("images/007", "masks/007"),
    "other case": ("Images/007", "Masks/007"),
    "a folder in a folder": ("x/data/007", "x/label/007"),
    "scans": ("ct_scans/049", "masks/049"),
    "a blank": ("label_192/images/ID_1", "label_192/ground truths/ID_1"),
    "nnU-Net": ("imagesTr/head_007_0000", "labelsTr/head_007"),
    "a split": ("train/images/7", "train/masks/7"),
    "a split below": ("images/train/7", "masks/train/7"),
    "suffix": ("007", "007_mask"),
    "dash": ("p7", "p7-seg"),
    "dot": ("p7", "p7.label"),
    "one word": ("p7", "p7_groundTruth"),
    "both have one": ("p7_ct", "p7_segmentation"),
    "prefix": ("volume-7", "segmentation-7"),
    "numbered": ("set/image7", "label/label7"),
    "a folder each": ("p7/ct", "p7/seg"),
    "a deeper folder": ("p7/ct", "p7/masks/lesion"),
    "BIDS": ("sub-07/anat/sub-07_ct", "derivatives/me/sub-07/anat/sub-07_ct_mask"),
    "elsewhere": ("scans/a/p7", "rois/p7"),
    "a folder called label": ("label_set/image/7", "label_set/mask/7"),
    "masks in a folder of volumes": ("masks/7/image", "masks/7/label"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize(("scan", "mask"), CASES.values(), ids=CASES)
def test_a_mask_belongs_to_its_volume(scan, mask, suffix):
    other = scan.replace("7", "8").replace("049", "050").replace("ID_1", "ID_2")
    names = [f"{name}{suffix}" for name in (mask, scan, other)]
    found = naming.pair(Path("/none"), names, [])
    assert found.masks == {names[1]: names[0]} and found.more == {} == dict(found.tables)


def test_what_says_nothing_pairs_nothing():
    for names in (["label/1.nii", "label/2.nii"], ["a/7.nii", "b/7.nii"], ["images/7.nii", "masks/8.nii"]):
        assert naming.pair(Path("/none"), names, []).masks == {}
    twins = ["a/images/7.nii", "b/images/7.nii", "c/masks/7.nii"]
    assert naming.pair(Path("/none"), twins, []).masks == {}, "it could be of either"


def test_of_several_masks_the_first_by_name_is_read():
    names = ["c/image.nii.gz", "c/label_annot_10.nii.gz", "c/label_annot_2.nii.gz"]
    found = naming.pair(Path("/none"), names, [])
    assert found.masks == {names[0]: names[2]} and list(found.more) == [names[1]] and names[2] in found.more[names[1]]


@pytest.mark.parametrize("sep", [",", ";"])
@pytest.mark.parametrize("path", ["", "./", "C:\\data\\"])
def test_a_table_pairs_what_names_do_not(tmp_path, sep, path):
    rows = [
        "patient,CT_fn,mask_fn,sex",
        f"1,{path}a.nii.gz,{path}x.nii.gz,f",
        f"2,{path}b.nii.gz,{path}y.nii.gz,m",
        "3,c.nii.gz,,f",
    ]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "info.csv").write_text("\n".join(rows).replace(",", sep) + "\n")
    (tmp_path / "t" / "age.csv").write_text("a,b\n1,2\n")
    names = [f"t/{letter}.nii.gz" for letter in "abcxy"]
    found = naming.pair(tmp_path, names, [Path("t/info.csv"), Path("t/age.csv")])
    assert found.masks == {"t/a.nii.gz": "t/x.nii.gz", "t/b.nii.gz": "t/y.nii.gz"} and found.tables == [Path("t/info.csv")]


PEOPLE = {
    "folders": (["sub-00/baseline", "sub-00/followup", "sub-01/baseline"], ["sub-00", "sub-00", "sub-01"]),
    "BIDS": (["sub-00_ses-1_ct", "sub-00_ses-2_ct", "sub-01_ses-1_ct"], ["sub-00", "sub-00", "sub-01"]),
    "BIDS in folders": (["sub-A1/ses-1/anat/sub-A1_ses-1_ct", "sub-B/anat/sub-B_ct"], ["sub-A1", "sub-B"]),
    "RSNA": (["images/ID_0123abcd_ID_00000000aa", "images/ID_0123abcd_ID_00000000ab"], ["ID_0123abcd"] * 2),
    "CQ500": (["CQ500CT12 CQ500CT12/x", "CQ500-CT-12_b", "cq500_ct_3"], ["CQ500-CT-12", "CQ500-CT-12", "CQ500-CT-3"]),
    "numbered folders": (["1/a", "1/b", "2/a"], ["1", "1", "2"]),
    "folders of dates": (["p1/20200101/head", "p1/20200301/head", "p2/20200101/head"], ["p1", "p1", "p2"]),
    "below images": (["data/p1/images/a", "data/p1/images/b", "data/p2/images/a"], ["p1", "p1", "p2"]),
    "called by name": (["anna/first", "anna/second", "bert/first"], ["anna", "anna", "bert"]),
    "suffixes": (["P01_baseline", "P01_followup", "P02_baseline"], ["P01", "P01", "P02"]),
    "short suffixes": (["P01-t0", "P01-t1", "P02-t0"], ["P01", "P01", "P02"]),
    "hours": (["7_0h", "7_24h", "8_0h"], ["7", "7", "8"]),
    "dates": (["7_2020-01-01", "7_20200301", "8_20200101"], ["7", "7", "8"]),
    "one folder": (["ct/001", "ct/002"], []),
    "a split": (["train_2/data/001", "train_2/data/002", "test/data/003"], []),
    "hospitals": (["north/001", "north/002", "south/003"], []),
    "many in a folder": ([f"site{s}/{n}" for s in (1, 2) for n in range(9)], []),
    "only scans": (["scan_1", "scan_2", "scan_3"], []),
}


@pytest.mark.parametrize(("names", "people"), PEOPLE.values(), ids=PEOPLE)
def test_several_scans_of_one_person_are_one_patient(names, people):
    volumes = [f"{name}.nii.gz" for name in names]
    found, told = naming.patients(volumes)
    assert [found[name] for name in volumes if name in found] == people and bool(told) == bool(people)
