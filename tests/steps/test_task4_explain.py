"""06_explain_bce.py: its figures by default, the loss against PyTorch's, numbers of one's own from lists and CSV, wrong input."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from PIL import Image

from helpers.refusals import refused
from hemoct.base.workspace import Workspace
from hemoct.multilabel import explain_bce

STEP = "task4_multilabel/06_explain_bce.py"
TABLES = """
probability = 1 / (1 + exp(-logit))
         IVH  IPH  SAH
image 1 0.88 0.23 0.62
image 2 0.38 0.69 0.82

BCE = -log(p) for truth 1, -log(1 - p) for truth 0
         IVH  IPH  SAH
image 1 0.13 0.26 0.47
image 2 0.47 0.37 0.20
"""


@pytest.fixture
def explain(work, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def table(work, name: str = "bce.csv") -> pd.DataFrame:
    return pd.read_csv(work.task(4) / "explain_bce" / name, keep_default_na=False)


def put(work, name: str, text: str):
    path = work.root / name
    path.write_text(text)
    return path


def test_without_data_the_published_example_is_printed_drawn_and_written(work, explain):
    result = explain()
    assert result.code == 0 and result.err == "" and TABLES.strip() in result.out
    assert "mean BCE 0.32, sum 1.91, of 6 cells\n" in result.out
    found = table(work)
    assert list(found) == ["image_id", "label", "logit", "truth", "probability", "bce", "verdict"]
    assert found["truth"].tolist() == [1, 0, 1, 0, 1, 1] and found["label"].tolist() == ["IVH", "IPH", "SAH"] * 2
    confident = found["verdict"] == "confident and right"
    assert found["logit"][confident].tolist() == [2.0, 1.5] and (found["verdict"][~confident] == "right but unsure").all()
    sums = table(work, "bce_sums.csv").set_index(["of", "name"])
    assert sums.loc[("all", ""), "sum"] == pytest.approx(found["bce"].sum(), rel=1e-6)
    assert sums.loc[("label", "SAH"), "mean"] == pytest.approx(found["bce"][[2, 5]].mean(), rel=1e-6)
    assert sums.loc[("image", "image 2"), "sum"] == pytest.approx(found["bce"][3:].sum(), rel=1e-6)
    for name in ("sigmoid.png", "bce.png"):
        drawn = np.asarray(Image.open(work.task(4) / "explain_bce" / name).convert("L"))
        assert drawn.std() > 10, "an empty figure"
    assert "up to date" in explain("--skip-if-done").out


def test_the_loss_is_that_of_pytorch_also_where_probabilities_are_0_or_1():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    logits = np.concatenate([generator.normal(0, 4, 500), [-1e6, -800, -40, 0, 40, 800, 1e6]]).repeat(2)
    truths = np.tile([0, 1], len(logits) // 2)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(truths).double(), reduction="none"
    ).numpy()
    ours = explain_bce.losses(logits, truths)
    assert np.isfinite(ours).all() and np.allclose(ours, theirs, rtol=1e-12, atol=1e-12)  # theirs subtracts close numbers
    assert ours[logits == -40].tolist() == pytest.approx([np.exp(-40), 40], rel=1e-12, abs=0)
    assert ours[-1] == 0 and ours[-2] == 1e6


@pytest.mark.parametrize(
    ("logit", "truth", "verdict"),
    [
        (1.5, 1, "confident and right"),
        (-1.5, 0, "confident and right"),
        (1.0, 1, "right but unsure"),
        (-1.0, 0, "right but unsure"),
        (0.0, 1, "undecided"),
        (1.0, 0, "wrong but unsure"),
        (-1.0, 1, "wrong but unsure"),
        (1.5, 0, "confident and wrong"),
        (-1.5, 1, "confident and wrong"),
    ],
)
def test_each_cell_gets_the_word_that_fits(logit, truth, verdict):
    cells = pd.DataFrame({"image_id": ["a"], "label": ["IPH"], "logit": [logit], "truth": [truth]})
    assert explain_bce.explain(cells)["verdict"].tolist() == [verdict]


def test_lists_of_any_shape_with_names(work, explain):
    assert explain("--logits", "[-3, 2.5]", "--truths", "[1, 0]", "--labels", "EDH, SDH").code == 0  # one image
    found = table(work)
    assert found["label"].tolist() == ["EDH", "SDH"] and found["image_id"].tolist() == ["image 1"] * 2
    assert (found["verdict"] == "confident and wrong").all()


def test_csv_files_of_many_images_and_labels_are_written_whole_and_shown_in_part(work, explain):
    names, ids = list("ABCDEFGH"), [f"00{number:02}" for number in range(12)]
    generator = np.random.default_rng(1)
    logits = pd.DataFrame(generator.normal(0, 3, (12, 8)), ids, names).rename_axis("image_id")
    truths = pd.DataFrame(generator.integers(0, 2, (12, 8)), ids, names).rename_axis("image_id")
    logits.to_csv(work.root / "z.csv")
    truths[names[::-1]].to_csv(work.root / "y.csv")  # columns are found by their names
    result = explain("--logits", work.root / "z.csv", "--truths", work.root / "y.csv")
    assert result.code == 0 and "0003" in result.out and "0004" not in result.out and "at most 4 images" in result.out
    found = pd.read_csv(work.task(4) / "explain_bce" / "bce.csv", dtype={"image_id": str})
    expected = explain_bce.losses(logits.to_numpy(), truths.to_numpy())
    assert np.allclose(explain_bce.grid(found, "bce").to_numpy(), expected, rtol=1e-6)
    assert explain_bce.grid(found, "bce").index.tolist() == ids
    logits.assign(A=0.0).to_csv(work.root / "z.csv")
    assert "up to date" not in explain("--logits", work.root / "z.csv", "--truths", work.root / "y.csv", "--skip-if-done").out
    assert explain("--logits", work.root / "z.csv", "--truths", work.root / "y.csv", "--labels", "C,A").code == 0
    assert table(work)["label"].tolist() == ["C", "A"] * 12


def test_values_in_a_crowded_figure_do_not_lie_on_each_other():
    generator = np.random.default_rng(2)
    cells = {"image_id": np.repeat(list("abcd"), 3), "label": ["A", "B", "C"] * 4}
    cells |= {"logit": generator.normal(0, 1, 12), "truth": generator.integers(0, 2, 12)}
    drawn = explain_bce.curves(explain_bce.explain(pd.DataFrame(cells)), "crowded")
    assert [axis.get_ylabel() for axis in drawn.axes] == ["p = sigmoid(z)", "", "", "BCE", "", ""]
    drawn.canvas.draw()
    written = 0
    for axis in drawn.axes:
        boxes = [text.get_window_extent() for text in axis.texts]
        written += len(boxes)
        assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert written > 6


@pytest.mark.parametrize(
    ("logits", "truths", "words"),
    [
        ("[[1,2,3]]", "[[1,0,1],[0,1,1]]", ("1 x 3", "2 x 3", "same shape")),
        ("[[1,2],[3]]", "[[1,0],[0,1]]", ("--logits", "rows of one length")),
        ("[]", "[]", ("--logits", "rows of one length")),
        ("[[1,2,3]]", "[[1,0,2]]", ("--truths", "row 1, column 3 is 2", "0 or 1")),
        ("[[1,2,3]]", "[[1,0,0.5]]", ("column 3 is 0.5",)),
        ("[[1,2,3]]", "[[1,0,-1]]", ("column 3 is -1",)),
        ("[[1,2,3]]", '[[1,0,"x"]]', ("--truths", "column 3 is not a number")),
        ('[[1,"2",3]]', "[[1,0,1]]", ("--logits", "row 1, column 2 is not a number")),
        ("[[1,NaN,3]]", "[[1,0,1]]", ("column 2 is not a number",)),
        ("[[1,2,1e400]]", "[[1,0,1]]", ("column 3 is not a number",)),
        ("[[1,null,true]]", "[[1,0,1]]", ("column 2 is not a number",)),
        ("[[1,2,3]", "[[1,0,1]]", ("--logits", "not JSON")),
        ("[1,[2],3]", "[1,0,1]", ("column 2 is not a number",)),
        ("[[1,2]]", "[[1,0]]", ("3 label names", "2 columns", "--labels")),
        ("nowhere.csv", "[[1,0,1]]", ("nowhere.csv", "neither a CSV file nor a JSON list")),
    ],
)
def test_wrong_lists_stop_with_one_line(work, explain, logits, truths, words):
    assert refused(explain("--logits", logits, "--truths", truths), *words)
    assert not work.task(4).exists()


@pytest.mark.parametrize(
    ("logits", "truths", "words"),
    [
        ("image,A,B\na,1,\n", "image,A,B\na,1,0\n", ("z.csv", "row 1, column 2 is not a number")),
        ("image,A,B\na,1,2\n", "image,A,B\na,1,yes\n", ("y.csv", "row 1, column 2 is not a number")),
        ("image,A,B\na,1,2\n", "image,A\na,1\n", ("y.csv", "lacks the column(s) B")),
        ("image,A,B\na,1,2\nb,1,2\n", "image,A,B\nb,1,0\na,1,0\n", ("same images in the same order",)),
        ("image,A,B\na,1,2\na,1,2\n", "image,A,B\na,1,0\na,1,0\n", ("image names a, a", "different")),
        ("image,A,B\na,1,2,3\n", "image,A,B\na,1,0\n", ("z.csv", "more cells than its header")),
        ("image\na\n", "image,A\na,1\n", ("z.csv", "no column of a label")),
        ("image,A\n", "image,A\na,1\n", ("z.csv", "no rows")),
    ],
)
def test_wrong_csv_files_stop_with_one_line(work, explain, logits, truths, words):
    files = put(work, "z.csv", logits), put(work, "y.csv", truths)
    assert refused(explain("--logits", files[0], "--truths", files[1]), *words)


def test_wrong_flags_stop_with_one_line(explain):
    assert refused(explain("--logits", "[[1,2,3]]"), "--logits and --truths", "both or none")
    assert refused(explain("--labels", "A,B"), "2 label names (A, B) for 3 columns")
    assert refused(explain("--labels", "A,B,A"), "different names")
    assert refused(explain("--labels", "A,,B"), "2 label names (A, B) for 3 columns")


def test_the_step_does_without_torch(work):
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('step', sys.argv[1]); m = u.module_from_spec(s); "
        "s.loader.exec_module(m); m.main(['--root', sys.argv[2]]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, REPOSITORY / STEP, work.root], capture_output=True).returncode == 0
    assert (Workspace(work.root, "phe-sich").task(4) / "explain_bce" / "bce.csv").exists()
