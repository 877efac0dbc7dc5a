"""The mean of segmentation experiments: pixel by pixel, evaluated like any other, refused where members do not fit together."""

import numpy as np
import pytest
from PIL import Image

from helpers import quick, simulated_masks
from helpers.refusals import refused
from helpers.simulated_masks import Network
from hemoct.base import files, tables
from hemoct.segmentation import predictions

STEP, EVALUATE = "task3_segmentation/07_ensemble.py", "task3_segmentation/03_evaluate.py"


@pytest.fixture
def join(work, run_step, monkeypatch):
    """Two experiments with maps of their own, and the step that joins them."""
    quick.evaluations(monkeypatch)
    simulated_masks.make(work, slices=6)
    simulated_masks.predict(work, "a")
    simulated_masks.predict(work, "b", network=Network(seed=2, shift=0))
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *(words or ("a", "b")), "--experiment", "both")


def maps(work, experiment: str, fold: int = 0) -> dict[str, np.ndarray]:
    folder = work.task(3) / experiment / f"fold{fold}" / "probability"
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_each_pixel_is_the_rounded_mean_of_the_members(work, join):
    assert join().code == 0
    for fold in range(5):
        of_a, of_b, mean = (maps(work, name, fold) for name in ("a", "b", "both"))
        assert list(mean) == list(of_a) and any((of_a[name] != of_b[name]).any() for name in mean)
        for name, found in mean.items():
            assert found.dtype == np.uint8 and np.array_equal(found, np.rint((of_a[name].astype(float) + of_b[name]) / 2))
    frame = tables.read_predictions(work.task(3) / "both" / "fold0", ["peak"])
    assert frame["peak"].tolist() == [maps(work, "both")[name].max() for name in frame["image_id"]]
    told = files.read_json(work.task(3) / "both" / "fold0" / "model.json")
    assert told["members"] == ["a", "b"] and predictions.members(work.task(3) / "both") == ["a", "b"]


def test_a_member_that_is_named_twice_counts_once(work, join, run_step):
    assert join("a", "b", "a").code == 0
    assert files.read_json(work.task(3) / "both" / "fold0" / "model.json")["members"] == ["a", "b"]
    twice = maps(work, "both")
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "both").code == 0
    assert join("a", "b", "--overwrite").code == 0
    assert all(np.array_equal(found, twice[name]) for name, found in maps(work, "both").items())


def test_an_ensemble_is_evaluated_like_any_experiment(work, join, run_step):
    assert join().code == 0
    result = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "a", "b", "both")
    assert result.code == 0 and result.err == ""
    of = {name: files.read_json(work.task(3) / name / "metrics.json") for name in ("a", "b", "both")}
    assert of["both"]["protocol"] == "patient" and of["both"]["n"] == of["a"]["n"]
    values = {name: content["metrics"]["dice_patient"]["value"] for name, content in of.items()}
    assert values["a"] < values["both"], "b lies where the lesions are, a beside them"


def test_a_member_with_other_validation_patients_speaks_of_test_alone(work, join, run_step):
    simulated_masks.predict(work, "c", network=Network(seed=3), validation=3)
    assert join("a", "c", "b").code == 0
    of = {name: maps(work, name) for name in ("a", "b", "c", "both")}
    frame = tables.read_predictions(work.task(3) / "both" / "fold0").set_index("image_id")["part"]
    assert set(of["both"]) == set(of["a"]) == set(frame.index) and set(of["c"]) != set(of["a"])
    for name, part in frame.items():
        speaking = ("a", "b", "c") if part == "test" else ("a", "b")  # c has learned from these
        mean = np.rint(sum(of[member][name].astype(float) for member in speaking) / len(speaking))
        assert np.array_equal(of["both"][name], mean), (name, part)
    assert run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "c", "both").code == 0
    notes = files.read_json(work.task(3) / "both" / "metrics.json")["notes"]
    assert "thresholds: from the maps of a, b alone; c learned from those slices" in notes
    assert join("c", "a", "--overwrite").code == 0  # the first member's patients validate
    assert set(maps(work, "both")) == set(of["c"])


def test_it_is_made_again_only_when_a_member_changed(work, join):
    assert join().code == 0
    assert "up to date" in join("a", "b", "--skip-if-done").out
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(next((work.task(3) / "b" / "fold0" / "probability").iterdir()))
    assert "up to date" not in join("a", "b", "--skip-if-done").out
    assert refused(join("b", "a"), "members", "--overwrite")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"protocol": "slice"}, ("differ in protocol", "slice")),
        ({"boxes": "truth"}, ("differ in boxes", "truth")),
        ({"splits_sha256": "0"}, ("differ in splits_sha256",)),
        ({"mask_value": 3}, ("differ in mask_value",)),
    ],
)
def test_members_that_do_not_fit_together_stop(work, join, told, words):
    for folder in (work.task(3) / "b").glob("fold*"):
        files.write_json(folder / "model.json", files.read_json(folder / "model.json") | told)
    assert refused(join(), "a, b", "fold0", *words)
    assert not (work.task(3) / "both").exists()


def test_wrong_members_stop_with_one_line(work, join):
    assert refused(join("a"), "two experiments or more")
    assert refused(join("a", "a"), "two experiments or more")
    assert refused(join("a", "c"), "task3/c", "no trained fold", "a, b")
    simulated_masks.predict(work, "c", folds=(0, 1))
    assert refused(join("a", "c"), "c has fold0, fold1", "train the missing folds")
    assert join().code == 0
    assert refused(join("a", "both"), "both is an ensemble itself", "a b")
    next((work.task(3) / "b" / "fold0" / "probability").iterdir()).unlink()
    assert refused(join("a", "b", "--overwrite"), "fold0", "probability/IMAGE_ID.png")


def test_members_that_were_trained_again_make_an_ensemble_stale(work, join, run_step):
    assert join().code == 0
    place = work.task(3) / "b" / "fold3"
    tables.write_predictions(place, tables.read_predictions(place).assign(peak=1))
    evaluated = run_step(EVALUATE, "--root", work.root, "--dataset", "toy", "--experiment", "both")
    assert refused(evaluated, "b/fold3/predictions.csv", "both", "07_ensemble.py")


def test_folds_that_the_members_no_longer_have_go(work, join):
    assert join().code == 0
    for name in ("c", "d"):
        simulated_masks.predict(work, name, folds=(1,))
    assert join("c", "d", "--overwrite").code == 0
    assert [path.name for path in (work.task(3) / "both").glob("fold*")] == ["fold1"]


def test_a_trained_experiment_is_not_written_over(work, join):
    simulated_masks.predict(work, "both")
    (work.task(3) / "both" / "fold0" / "best.pt").write_bytes(b"weights")
    assert refused(join(), "task3/both", "trained model")
