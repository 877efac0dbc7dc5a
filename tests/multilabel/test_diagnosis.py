"""What the diagnosis says of made-up networks whose weakness is known: one rule at a time, and none where nothing is wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from hemoct.multilabel import diagnosis, evaluate, tables

FOLDS, PATIENTS, SLICES = 2, 60, 4
HIGH, LOW = 0.9, 0.1


def frame(**labels: tuple[np.ndarray, np.ndarray]) -> pd.DataFrame:
    """Predictions of labels, (truth, probability) of PATIENTS x SLICES images each; validation is like test, in both folds."""
    patient = np.repeat(np.arange(PATIENTS), SLICES)
    pieces = []
    for fold in range(FOLDS):
        for part, prefix in (("val", "v"), ("test", "t")):
            rows = patient % FOLDS == fold
            table = pd.DataFrame({"patient": [f"{prefix}{number}" for number in patient[rows]], "fold": fold, "part": part})
            table.insert(0, "image_id", [f"{prefix}{row}" for row in np.flatnonzero(rows)])
            for name, (y, p) in labels.items():
                table[f"y_{name}"], table[f"p_{name}"] = y[rows], p[rows]
            pieces.append(table)
    return pd.concat(pieces, ignore_index=True)


def slices(*shown: int) -> np.ndarray:
    """Truth of a label that every patient's slices of these numbers show: float (PATIENTS * SLICES,)."""
    return np.tile(np.isin(np.arange(SLICES), shown).astype(float), PATIENTS)


def perfect(y: np.ndarray) -> np.ndarray:
    return np.where(y == 1, HIGH, LOW)


def history(train: list[float], val: list[float], loss: list[float] | None = None, label: str = "SAH") -> dict[str, pd.DataFrame]:
    """The same training in both folds: F1 of a label by epoch. By default the first epoch has the lowest validation loss."""
    epoch = np.arange(1, len(train) + 1)
    table = pd.DataFrame({"epoch": epoch, "val_loss": loss or list(0.1 * epoch)})
    for part, values in (("train", train), ("val", val)):
        for score in ("precision", "recall", "f1"):
            table[f"{part}_{score}_{label}"] = values
    return {f"fold{fold}": table for fold in range(FOLDS)}


def diagnosed(predicted: pd.DataFrame, histories: dict[str, pd.DataFrame] | None = None, **options) -> dict:
    evaluation = evaluate.evaluate(predicted)
    content = evaluate.report(evaluation, {"experiment": "e"}, resamples=60, seed=42)
    result = diagnosis.diagnose(evaluation, content, histories or {}, **options)
    json.dumps(result, allow_nan=False)
    return result


def of(result: dict, name: str) -> dict:
    return next(it for it in result["labels"] if it["label"] == name)


def cells(text: str, heading: str, label: str) -> dict[str, str]:
    """The row of a label in one of the tables of diagnosis.md."""
    lines = text[text.index(f"### {heading}") :].split("\n\n")[1].splitlines()
    columns, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line)
    return next(dict(zip(columns, row, strict=True)) for row in rows if row[0] == label)


def commands(result: dict) -> list[str]:
    return [one["command"].replace("`", "") for one in result["weakest"]["remedies"]]


IVH, SAH = slices(0), slices(1)
GOOD = {"IVH": (IVH, perfect(IVH)), "SAH": (SAH, perfect(SAH))}
LEARNT = history([0.3, 0.9, 0.95, 0.95, 0.96], [0.3, 0.9, 0.9, 0.92, 0.93])


def noisy(y: np.ndarray, spread: float, seed: int = 0) -> np.ndarray:
    """Probabilities that rank positives above negatives by 1 on a scale whose noise has this spread; many below 0.5."""
    return 1 / (1 + np.exp(-(y + np.random.default_rng(seed).normal(0, spread, len(y)))))


def test_where_nothing_is_wrong_no_remedy_is_named():
    result = diagnosed(frame(**GOOD), LEARNT)
    assert result["unmeasured"] == {} and result["weakest"]["remedies"] == []
    assert result["weakest"]["not_surely_weaker_than"] == ["SAH"], "both are perfect: neither is surely the weaker one"
    assert of(result, "SAH")["learning"]["state"] == tables.LEARNS
    assert "No number speaks for a remedy" in diagnosis.as_markdown(result)


def test_the_facts_of_a_label_are_those_of_its_images():
    p_ivh, p_sah = perfect(IVH), perfect(SAH)
    p_sah[1], p_ivh[1] = 0.0, HIGH  # a missed SAH is called IVH
    p_sah[5] = 0.0  # a missed SAH with no label called
    p_sah[[8, 11]] = HIGH  # two false alarms: an image that shows IVH, and one of nothing
    both = frame(IVH=(IVH, p_ivh), SAH=(SAH, p_sah))
    result = diagnosed(both, training=pd.DataFrame({"fold": [0, 0, 1], "y_IVH": [0, 0, 0.0], "y_SAH": [1, 1, np.nan]}))
    it = of(result, "SAH")
    assert (it["images"], it["positives"], it["patients"], it["train_positives"]) == (240, 60, 60, 1.0)
    assert (it["missed"], it["missed_without_call"], it["called_instead"]) == (2, 1, {"IVH": 1, "none": 1})
    assert (it["false_alarms"], it["truly"]) == (2, {"IVH": 1, "none": 1})
    assert it["missed_beside_found"] == 0, "those patients have no other image of SAH"
    assert set(it["thresholds"]) == {"0", "1"} and it["recall_at_half"] == pytest.approx(58 / 60)
    text = diagnosis.as_markdown(result)
    any_bleeding = np.maximum(IVH, SAH)
    beside_any = frame(any=(any_bleeding, perfect(any_bleeding)), IVH=(IVH, p_ivh), SAH=(SAH, p_sah))
    assert of(diagnosed(beside_any), "SAH")["truly"] == it["truly"], "any goes along with every type"
    assert cells(text, "What it is taken for", "SAH") == {
        "label": "SAH", "missed": "2", "wrongly called there": "IVH 1, no other 1", "no label called there": "1",
        "false alarms": "2", "these images show": "IVH 1, none of the labels 1",
    }  # fmt: skip
    assert cells(text, "How well it is found", "SAH")["positive images"] == "60 of 60 patients"
    assert cells(text, "How it is learned", "SAH")["positive training images, mean of the folds"] == "1.00"


def test_the_weakest_label_has_the_lowest_f1_and_of_equal_ones_the_lowest_ap():
    assert diagnosed(frame(IVH=GOOD["IVH"], SAH=(SAH, noisy(SAH, 1))))["weakest"]["label"] == "SAH"
    assert diagnosed(frame(IVH=(IVH, noisy(IVH, 1)), SAH=GOOD["SAH"]))["weakest"]["label"] == "IVH"
    evaluation = evaluate.evaluate(frame(**GOOD))
    content = evaluate.report(evaluation, {}, 20, 42)
    content["metrics"]["ap_SAH"]["value"] = 0.9
    assert diagnosis.diagnose(evaluation, content, {})["weakest"]["label"] == "SAH", "same F1, lower average precision"


def test_a_label_without_a_positive_is_not_called_weak_but_named_with_the_reason():
    nothing, alarms = np.zeros(240), np.full(240, LOW)
    alarms[:3] = 0.99
    for p in (np.full(240, LOW), alarms):  # F1 is null, and 0
        result = diagnosed(frame(**GOOD, EDH=(nothing, p)))
        assert result["unmeasured"] == {"EDH": "no positive test image"} and result["weakest"]["label"] == "IVH"
        assert diagnosis.as_markdown(result).splitlines()[2] == "EDH is not measured: no positive test image."
    unknown = diagnosed(frame(EDH=(np.full(240, np.nan), nothing)))
    assert unknown["weakest"] is None and unknown["unmeasured"] == {"EDH": "it is known on no test image"}
    assert "No label could be measured" in diagnosis.as_markdown(unknown)


def test_few_patients_come_first_whatever_else_is_said():
    few = SAH * (np.arange(240) < 15 * SLICES)
    result = diagnosed(frame(SAH=(few, np.where(few == 1, 0.4, 0.1))), LEARNT)
    assert "01_prepare_labels.py" in commands(result)[0]
    assert "15 positive test images of 15 patients" in result["weakest"]["remedies"][0]["because"]


def test_many_patients_with_a_wide_interval_are_too_few_as_well():
    shown = SAH * (np.arange(240) < 24 * SLICES)
    half = np.where((shown == 1) & (np.arange(240) // SLICES % 4 < 2), HIGH, LOW)  # two of four patients are found
    result = diagnosed(frame(SAH=(shown, half)), LEARNT)
    low, high = result["weakest"]["f1"]["ci95"]
    assert of(result, "SAH")["patients"] == 24 and high - low > diagnosis.WIDE
    assert "01_prepare_labels.py" in commands(result)[0]


LOSSES = "--loss weighted-bce, --loss focal or --loss asymmetric"


def test_a_label_that_is_ranked_well_below_one_half_wants_another_loss():
    result = diagnosed(frame(SAH=(SAH, np.where(SAH == 1, 0.2, 0.02))), LEARNT)
    assert commands(result) == [LOSSES] and of(result, "SAH")["recall_at_half"] == 0
    assert commands(diagnosed(frame(SAH=(SAH, np.where(SAH == 1, 0.45, 0.2))), LEARNT)) == [LOSSES], (
        "the threshold is not far off"
    )
    most = np.where(SAH == 1, np.where(np.arange(240) % 3, 0.9, 0.2), 0.02)
    assert commands(diagnosed(frame(SAH=(SAH, most)), LEARNT)) == [LOSSES], "one third lies low, and so does the threshold"
    assert LOSSES not in commands(diagnosed(frame(SAH=(SAH, noisy(SAH, 3) / 3)), LEARNT)), "low, but ranked badly"
    assert "AUROC 1.000 (1.000-1.000)" in result["weakest"]["remedies"][0]["because"], "the interval goes along"


def test_a_rare_label_that_is_not_learnt_is_to_be_shown_more_often():
    rare = SAH * (np.arange(240) < 22 * SLICES)
    flat = history([0.1] * 5, [0.1] * 5)
    result = diagnosed(frame(SAH=(rare, perfect(rare))), flat)
    assert commands(result) == ["--sampler balanced or --oversample SAH=3"]
    assert of(result, "SAH")["learning"]["state"] == tables.NO_LEARNING
    assert commands(diagnosed(frame(SAH=(rare, perfect(rare))), LEARNT)) == [], "rare, but learnt"
    assert commands(diagnosed(frame(SAH=GOOD["SAH"]), flat)) == [], "a quarter of the images is not rare"


@pytest.mark.parametrize(
    ("train", "val", "state"),
    [
        ([0.5, 0.9, 0.95, 0.97, 0.98], [0.3, 0.5, 0.5, 0.5, 0.5], tables.OVERFITS),  # far apart
        ([0.6, 0.7, 0.8, 0.8, 0.8, 0.8], [0.8, 0.95, 0.95, 0.7, 0.65, 0.65], tables.OVERFITS),  # falls, and training does not
        ([0.8, 0.95, 0.95, 0.7, 0.65, 0.65], [0.8, 0.95, 0.95, 0.7, 0.65, 0.65], tables.LEARNS),  # both fall: not overfit
        ([0.5, 0.9, 0.9, 0.9, 0.9], [0.4, 0.8, 0.85, 0.8, 0.85], tables.LEARNS),
        ([0.1, 0.3, 0.4, 0.4, 0.4], [0.0, 0.1, 0.1, 0.1, 0.1], tables.NO_LEARNING),
        ([np.nan] * 3, [np.nan] * 3, tables.UNKNOWN),
    ],
)
def test_learning_states(train, val, state):
    assert tables.learning(history(train, val), "SAH").state == state
    result = diagnosed(frame(SAH=GOOD["SAH"]), history(train, val))
    assert commands(result) == ["--augment-label SAH=strong"] * (state == tables.OVERFITS)


def test_without_a_history_of_a_label_its_learning_is_unknown():
    assert tables.learning({}, "SAH").state == tables.learning(LEARNT, "IVH").state == tables.UNKNOWN
    assert commands(diagnosed(frame(SAH=(SAH, noisy(SAH, 3))), LEARNT)) != [], "else the next line says nothing"
    assert "--attention" not in commands(diagnosed(frame(SAH=(SAH, noisy(SAH, 3)))))


def test_the_numbers_of_folds_that_ended_at_different_epochs_are_those_of_their_ends():
    long, short = history([0.9] * 6, [0.9] * 3 + [0.6] * 3)["fold0"], history([0.7] * 3, [0.8] * 3)["fold0"]
    learning = tables.learning({"fold0": long, "fold1": short}, "SAH")
    assert learning.train_f1 == pytest.approx(0.8) and learning.val_f1 == pytest.approx(0.7)
    assert learning.val_f1_folds == pytest.approx([0.6, 0.8]) and learning.epochs == 6 and learning.val_fall == 0


def test_a_validation_loss_that_still_falls_wants_longer_training():
    falling = history([0.9] * 5, [0.9] * 5, loss=[5, 4, 3, 2, 1])
    assert commands(diagnosed(frame(SAH=GOOD["SAH"]), falling)) == ["--epochs 10"]
    one_of_two = {"fold0": falling["fold0"], "fold1": LEARNT["fold1"]}
    assert "in 1 of 2 folds" in diagnosed(frame(SAH=GOOD["SAH"]), one_of_two)["weakest"]["remedies"][0]["because"]
    assert tables.learning(history([0.9], [0.9], loss=[1.0]), "SAH").best_is_last == 0, "one epoch is not a trend"
    assert tables.learning(history([0.9] * 3, [0.9] * 3, loss=[np.nan] * 3), "SAH").best_is_last == 0


def test_bad_ranking_suggests_attention_only_where_the_label_does_not_overfit_and_says_what_it_cannot_tell():
    bad = frame(SAH=(SAH, noisy(SAH, 3)))
    result = diagnosed(bad, LEARNT)
    assert of(result, "SAH")["metrics"]["auroc"]["value"] < diagnosis.RANKS_BADLY
    reasons = {one["command"]: one["because"] for one in result["weakest"]["remedies"]}
    assert "these numbers cannot tell" in reasons["`--attention`"]
    assert "--attention" not in commands(diagnosed(bad, history([0.9] * 5, [0.3] * 5)))


def test_missed_images_without_any_call_suggest_a_head_for_any_bleeding():
    silent, taken = perfect(SAH), perfect(IVH)
    silent[(SAH == 1) & (np.arange(240) < 10 * SLICES)] = 0.01
    taken[(SAH == 1) & (np.arange(240) < 10 * SLICES)] = HIGH
    assert commands(diagnosed(frame(IVH=GOOD["IVH"], SAH=(SAH, silent)), LEARNT)) == ["--heads any,types"]
    confused = diagnosed(frame(IVH=(IVH, taken), SAH=(SAH, silent)), LEARNT)
    assert of(confused, "SAH")["called_instead"] == {"IVH": 10}
    assert not any("--heads" in command for command in commands(confused))
    assert commands(diagnosed(frame(SAH=(SAH, silent)), LEARNT)) == [], "with one label there is no other that could be called"


def test_missed_images_beside_found_ones_of_the_same_patient_suggest_neighbouring_slices():
    wide = slices(1, 2)
    silent = perfect(wide)
    silent[1 : 10 * SLICES : SLICES] = 0.01  # the first of two slices, in ten patients
    assert commands(diagnosed(frame(SAH=(wide, silent)), LEARNT)) == ["--context 1"]


def test_a_remedy_that_the_training_already_had_is_marked():
    low = frame(SAH=(SAH, np.where(SAH == 1, 0.2, 0.02)))
    overfit = history([0.9] * 5, [0.3] * 5)
    for flags, had in (
        (None, [None, None]),
        ({"loss": "bce", "augment_label": {"IVH": "strong"}, "augment": "affine"}, [False, False]),
        ({"loss": "focal", "augment_label": {"SAH": "strong"}}, [True, True]),
        ({"loss": "asymmetric", "augment": "strong"}, [True, True]),
    ):
        result = diagnosed(low, overfit, flags=flags)
        assert [one["had"] for one in result["weakest"]["remedies"]] == had
        text = diagnosis.as_markdown(result)
        assert text.count("Tried: this training had it") == had.count(True) and text.count(". Try `") == 2 - had.count(True)
        assert ("flags of this training are not known" in text) == (flags is None)


def test_overlapping_intervals_are_told_and_separate_ones_are_not():
    low = frame(IVH=GOOD["IVH"], SAH=(SAH, noisy(SAH, 1)))
    assert diagnosed(low)["weakest"]["not_surely_weaker_than"] == []
    near = diagnosed(frame(IVH=(IVH, noisy(IVH, 1, seed=1)), SAH=(SAH, noisy(SAH, 1))))
    assert len(near["weakest"]["not_surely_weaker_than"]) == 1 and "another sample could" in diagnosis.as_markdown(near)


def test_commands_are_set_as_such_and_prose_as_prose():
    few = SAH * (np.arange(240) < 15 * SLICES)
    text = diagnosis.as_markdown(diagnosed(frame(SAH=(few, np.where(few == 1, 0.4, 0.1))), LEARNT))
    assert "`scripts/05_make_splits.py` with more data, then `task4_multilabel/01_prepare_labels.py`" in text
    low = diagnosed(frame(SAH=(SAH, np.where(SAH == 1, 0.2, 0.02))), LEARNT)
    assert "Try `--loss weighted-bce`, `--loss focal` or `--loss asymmetric`\n" in diagnosis.as_markdown(low)


def test_the_first_line_says_that_no_label_was_learned():
    chance, flat = frame(SAH=(SAH, noisy(SAH, 9))), history([0.02, 0.06, 0.04, 0.05], [0.0] * 4)
    result = diagnosed(chance, flat)
    line = "No label was learned (training F1 0.05 at most): train longer first; all numbers below are near chance."
    assert diagnosis.headline(result) == line == diagnosis.as_markdown(result).splitlines()[0]
    half = diagnosed(frame(SAH=(SAH, noisy(SAH, 1.2))), flat)
    assert diagnosis.NEAR_CHANCE < of(half, "SAH")["metrics"]["auroc"]["value"] < diagnosis.RANKS_WELL
    assert "No label was learned" in diagnosis.headline(half) and "chance" not in diagnosis.headline(half)
    two = frame(IVH=(IVH, noisy(IVH, 9)), SAH=(SAH, noisy(SAH, 9)))
    of_ivh = history([0.9] * 4, [0.9] * 4, label="IVH")["fold0"].filter(like="IVH")
    both = {fold: pd.concat([flat[fold], of_ivh], axis=1) for fold in flat}
    for predicted, histories in ((chance, LEARNT), (chance, {}), (frame(SAH=GOOD["SAH"]), flat), (two, both)):
        result = diagnosed(predicted, histories)
        assert diagnosis.headline(result).startswith("Weakest label: ") and "\n" not in diagnosis.headline(result)
        assert diagnosis.as_markdown(result).startswith("# Diagnosis of e\n")
    assert diagnosis.headline(diagnosed(frame(EDH=(np.zeros(240), noisy(SAH, 1))))) == "No label could be measured."


def test_a_temperature_at_its_bound_is_no_calibration():
    text = diagnosis.as_markdown(diagnosed(frame(SAH=(SAH, perfect(1 - SAH)), IVH=(IVH, noisy(IVH, 1))), LEARNT))
    at_bound = {name: cells(text, "Calibration", name)["folds with a temperature at its bound"] for name in ("SAH", "IVH")}
    assert at_bound == {"SAH": "2 of 2", "IVH": "0 of 2"}
    assert "A temperature at a bound of its search is no calibration" in text
