"""Task 4, step 01: which images and labels are worked on, drawn equally per label, and where a label is missing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.refusals import refused
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import splits
from hemoct.multilabel import figures, working_set

STEP = "task4_multilabel/01_prepare_labels.py"
LABELS = ["IVH", "IPH", "SAH"]
PATIENTS, SLICES = 15, 8


def write(work: Workspace, truth: np.ndarray, patients: list[str] | None = None, labels: list[str] = LABELS) -> pd.DataFrame:
    """labels.csv, dataset.json and splits.csv from 0, 1, NaN (n, labels); no step here opens an image."""
    owners = patients or [f"P{row // SLICES:02d}" for row in range(len(truth))]
    frame = pd.DataFrame({"image_id": [f"{row:04d}" for row in range(len(truth))], "patient": owners})
    frame = frame.assign(slice=range(len(truth)), image=frame["image_id"] + ".png", mask="", annotation="")
    frame[labels] = pd.DataFrame(truth, columns=labels).astype("Int64")
    dataset = tables.Dataset(work.dataset, "csv", labels)
    tables.write_labels(work, frame, dataset)
    tables.write_dataset(work, dataset)
    tables.write_splits(work, splits.make(frame, labels, seed=42))
    return frame


def mixed() -> np.ndarray:
    """IVH on 30 %, IPH on 50 %, SAH on a third of the IVH slices alone: it never comes by itself."""
    random = np.random.default_rng(5)
    ivh, iph = random.random(PATIENTS * SLICES) < 0.3, random.random(PATIENTS * SLICES) < 0.5
    return np.stack([ivh, iph, ivh & (random.random(len(ivh)) < 0.33)], axis=1).astype(float)


@pytest.fixture
def prepare(work: Workspace, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", work.dataset, *words)


def test_without_flags_every_image_with_a_known_label_is_there(work: Workspace, prepare):
    truth = mixed()
    truth[0, 1], truth[1] = np.nan, np.nan
    frame = write(work, truth)
    result = prepare()
    assert result.code == 0, result.err
    assert "1 of 120 images are left out: none of these labels is known" in result.out
    chosen = working_set.read(work)
    assert chosen.labels == LABELS and len(chosen.table) == 119 and "0001" not in set(chosen.table["image_id"])
    kept = frame["image_id"].isin(chosen.table["image_id"]).to_numpy()
    np.testing.assert_array_equal(chosen.truth, truth[kept])
    assert not (working_set.folder(work) / "drawn.csv").exists()


def test_labels_chooses_columns(work: Workspace, prepare):
    write(work, mixed())
    assert prepare("--labels", "SAH,IVH").code == 0
    assert working_set.read(work).labels == ["SAH", "IVH"]
    result = prepare("--labels", "SAH")
    assert result.code == 0 and "has one label here: task 1 is made for that" in result.out
    assert refused(prepare("--labels", "IVH,EDH"), "labels.csv has no label EDH", "it has IVH, IPH, SAH")
    assert refused(prepare("--labels", "IVH,IVH"), "--labels", "'IVH,IVH' is not a list of different names")
    assert refused(prepare("--labels", ","), "--labels", "is not a list of different names")


def test_balance_draws_as_many_of_each_label(work: Workspace, prepare):
    truth = mixed()
    write(work, truth)
    assert prepare("--balance", 8).code == 0
    chosen = working_set.read(work)
    drawn = pd.read_csv(working_set.folder(work) / "drawn.csv").set_index("label")
    there, positive = (truth == 1).sum(axis=0), (chosen.truth == 1).sum(axis=0)
    assert drawn.loc[LABELS, "there"].tolist() == there.tolist() and there[2] > 8
    assert drawn.loc[LABELS, "positive"].tolist() == positive.tolist()
    assert positive[2] == positive[0] == 8, "SAH is drawn first, and each of its images shows IVH too: none is drawn anew"
    assert drawn.loc["IVH", "drawn"] == 0 and positive[1] == 8
    assert drawn.loc["no label", "drawn"] == (chosen.truth == 0).all(axis=1).sum() == 8
    assert len(chosen.table) == drawn["drawn"].sum()
    first = (working_set.folder(work) / "working_set.csv").read_bytes()
    prepare("--balance", 8)
    assert (working_set.folder(work) / "working_set.csv").read_bytes() == first, "the same seed, the same images"
    prepare("--balance", 8, "--seed", 1)
    assert (working_set.folder(work) / "working_set.csv").read_bytes() != first


def test_balance_takes_all_of_a_label_that_has_too_few(work: Workspace, prepare):
    truth = np.zeros((40, 3))
    truth[:20, 1], truth[3, 2] = 1, 1
    write(work, truth)
    result = prepare("--balance", 5)
    drawn = pd.read_csv(working_set.folder(work) / "drawn.csv").set_index("label")
    assert drawn["positive"].to_dict() == {"IVH": 0, "IPH": 5, "SAH": 1, "no label": 5}
    assert "IVH: no positive image at all" in result.out


def test_a_patient_with_many_slices_does_not_fill_the_draw():
    """One patient holds 90 of 100 positive images; ten others hold one each."""
    owners = ["big"] * 90 + [f"P{number}" for number in range(10)] + ["none"] * 20
    table = pd.DataFrame({"image_id": [f"{row:03d}" for row in range(120)], "patient": owners})
    table["A"] = pd.array([1] * 100 + [0] * 20, dtype="Int64")
    drawn, _ = working_set.balance(working_set.WorkingSet(table, ["A"]), 11, seed=3)
    positive = drawn.table[drawn.table["A"] == 1]
    assert len(positive) == 11 and positive["patient"].nunique() == 11


def test_unknown_labels_are_never_drawn_as_negative():
    table = pd.DataFrame({"image_id": list("abcd"), "patient": list("abcd")})
    table["A"], table["B"] = pd.array([1, 0, 0, None], dtype="Int64"), pd.array([0, None, 0, 1], dtype="Int64")
    drawn, counts = working_set.balance(working_set.WorkingSet(table, ["A", "B"]), 4, seed=0)
    assert drawn.table["image_id"].tolist() == ["a", "c", "d"], "b may show B"
    assert counts.set_index("label")["there"].to_dict() == {"A": 1, "B": 1, "no label": 1}


def test_counts_per_fold_and_part_name_what_is_missing(work: Workspace, prepare):
    truth = mixed()
    truth[:, 2] = 0
    truth[:SLICES, 2] = 1  # SAH on every slice of the first patient alone
    truth[20, 2] = np.nan
    write(work, truth)
    result = prepare()
    counts = pd.read_csv(working_set.folder(work) / "label_counts.csv", dtype={"fold": str})
    whole = counts[counts["fold"] == "all"].set_index("label").loc["SAH"]
    assert whole[["images", "positive", "negative", "unknown", "positive_patients"]].tolist() == [120, SLICES, 111, 1, 1]
    home = tables.read_splits(work).set_index("image_id").loc["0000", "fold"]
    sah = counts[(counts["label"] == "SAH") & (counts["fold"] != "all")].set_index(["fold", "part"])["positive"]
    for fold in range(splits.FOLDS):
        part = "test" if fold == home else "val" if (fold + 1) % splits.FOLDS == home else "train"
        assert sah[str(fold)].to_dict() == {name: SLICES * (name == part) for name in tables.PARTS}
    others = ", ".join(str(fold) for fold in range(splits.FOLDS) if fold != home)
    assert f"SAH: no positive image in train of folds {', '.join(sorted(str((home - k) % 5) for k in (0, 1)))};" in result.out
    assert f"test of folds {others}" in result.out
    assert "IPH: no positive" not in result.out
    sums = counts[counts["fold"] != "all"].groupby(["label", "fold"])[["images", "positive", "negative", "unknown"]].sum()
    assert (sums["images"] == 120).all() and (sums.drop(columns="images").sum(axis=1) == 120).all()


def test_cooccurrence_counts_pairs_and_shares():
    truth = np.array([[1, 1, 0], [1, 0, np.nan], [1, 1, np.nan], [0, 0, 1], [0, 1, 0]], dtype=float)
    assert working_set.cooccurrence(truth).tolist() == [[3, 2, 0], [2, 3, 0], [0, 0, 1]]
    table = pd.DataFrame({"image_id": list("abcde"), "patient": list("abcde")})
    table[LABELS] = pd.DataFrame(truth).astype("Int64").to_numpy()
    chosen = working_set.WorkingSet(table.astype(dict.fromkeys(LABELS, "Int64")), LABELS)
    share = working_set.cooccurrence_table(chosen).set_index(["label", "beside"])["share"]
    assert share["IVH", "IPH"] == pytest.approx(2 / 3) and share["IPH", "IVH"] == pytest.approx(2 / 3)
    assert share["IVH", "SAH"] == 0, "of three images with IVH one has a known SAH"
    assert working_set.combinations(chosen).to_dict() == {"IVH + IPH": 2, "IVH": 1, "SAH": 1, "IPH": 1}


def test_the_share_beside_a_label_that_is_never_known_is_empty():
    table = pd.DataFrame({"image_id": ["a"], "patient": ["a"], "A": [1], "B": [None]}).astype({"A": "Int64", "B": "Int64"})
    made = working_set.cooccurrence_table(working_set.WorkingSet(table, ["A", "B"])).set_index(["label", "beside"])
    assert made.loc[("A", "B"), "images"] == 0 and made["share"].isna().tolist() == [False, True, True, True]


def test_the_figure_marks_parts_without_a_positive(work: Workspace):
    truth = mixed()
    truth[:, 2] = 0
    truth[:SLICES, 2] = 1
    write(work, truth)
    chosen = working_set.choose(work, None)
    counts = working_set.count_parts(chosen, working_set.load_splits(work))
    shown = figures.overview(working_set.cooccurrence_table(chosen), working_set.combinations(chosen), counts, "toy")
    left, middle, right = shown.axes
    assert sum(text.get_text() == "none" for text in right.texts) == 2 + 4 + 4, "training twice, validation and test four times"
    assert left.texts[0].get_text().startswith(str(int(truth[:, 0].sum())))
    assert len(middle.patches) == len(working_set.combinations(chosen))
    plt.close(shown)


def test_no_positive_at_all_and_missing_files_stop(work: Workspace, prepare):
    assert refused(prepare(), "dataset.json is missing", "03_make_labels.py")
    write(work, np.zeros((20, 3)), patients=[f"P{row}" for row in range(20)])
    assert refused(prepare(), "labels.csv: no image has any of the labels IVH, IPH, SAH")
    assert refused(prepare("--balance", 0), "--balance", "'0' is not a whole number above 0")
    (work.work / "splits.csv").unlink()
    assert refused(prepare(), "splits.csv is missing", "05_make_splits.py")


def test_a_working_set_of_other_labels_stops(work: Workspace, prepare):
    assert prepare().code == 2
    write(work, mixed())
    with pytest.raises(UserError, match=r"working_set\.csv is missing; make it with: python task4_multilabel/01_prepare"):
        working_set.read(work)
    assert prepare().code == 0 and "up to date" in prepare("--skip-if-done").out
    write(work, mixed()[: 5 * SLICES])
    with pytest.raises(UserError, match=r"80 image\(s\) are not in labels\.csv \(first: 0040\)"):
        working_set.read(work)
    assert "up to date" not in prepare("--skip-if-done").out
    assert len(working_set.read(work).table) == 5 * SLICES


def test_a_working_set_of_other_truths_or_patients_stops(work: Workspace, prepare):
    frame = write(work, mixed())
    assert prepare().code == 0
    corrected, unknown = mixed(), mixed()
    corrected[7, 2], unknown[7, 0] = 1 - corrected[7, 2], np.nan
    others = ["P99" if row == 7 else patient for row, patient in enumerate(frame["patient"])]
    for truth, patients in ((corrected, None), (unknown, None), (mixed(), others)):
        write(work, truth, patients)
        with pytest.raises(UserError, match=r"labels\.csv has changed \(first: 0007\); run: python .*01_prepare_labels"):
            working_set.read(work)
    write(work, mixed())
    assert len(working_set.read(work).table) == len(frame)
