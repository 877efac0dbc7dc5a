"""Slices as scans, and heads on their features: order, padding, what only a head that sees the whole scan can learn."""

import numpy as np
import pandas as pd
import pytest
import torch

from hemoct.base.errors import UserError
from hemoct.volumes import networks, scans, train
from hemoct.volumes.networks import HeadSpec, SeriesHead
from hemoct.volumes.options import HEADS


def table(patients: list[str], numbers: list[float | None], **more: list[str]) -> pd.DataFrame:
    names = [f"i{place}" for place in range(len(patients))]
    return pd.DataFrame({"image_id": names, "patient": patients, "slice": pd.array(numbers, dtype="Int64"), **more})


def spec(head: str, width: int = 6, classes: int = 1, dropout: float = 0.0) -> HeadSpec:
    return HeadSpec(
        task=1, image_size=8, mean=0.5, std=0.5, protocol="patient", split="folds", fold=0, splits_sha256="", backbone="b",
        label=None, classes=[str(place) for place in range(classes)], exclusive=False, head=head, hidden=16, dropout=dropout,
        width=width, made_by="a test", made_of=[],
    )  # fmt: skip


def test_the_slices_of_a_scan_stand_in_their_order():
    rows = scans.scans(table(["b", "a", "a", "b", "b"], [7, 2, 1, 3, 5]))
    assert rows.tolist() == [[2, 1, -1], [3, 4, 0]]


def test_studies_of_a_patient_are_scans_of_their_own():
    rows = scans.scans(table(["a"] * 4, [1, 2, 1, 2], group=["x", "x", "y", "y"]))
    assert rows.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(("patients", "numbers", "words"), [
    (["a", "a"], [1, None], "1 slices have no number (first: i1)"),
    (["a", "a", "b"], [1, 1, 2], "patient a has slice 1 twice"),
    (["a", "b"], [1, 1], "no patient has two slices"),
])  # fmt: skip
def test_without_an_order_only_a_linear_head_goes_on(patients, numbers, words):
    with pytest.raises(UserError) as stopped:
        scans.scans(table(patients, numbers))
    assert words in str(stopped.value) and "--head linear" in str(stopped.value)
    assert sorted(scans.scans(table(patients, numbers), ordered=False).ravel())[-1] == len(patients) - 1


def test_scans_of_one_slice_are_said(capsys):
    scans.scans(table(["a", "b", "b"], [1, 1, 2]))
    assert capsys.readouterr().out == "1 of 2 scans have a single slice\n"


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head):
    torch.manual_seed(0)
    model = SeriesHead(spec(head, classes=2)).eval()
    features = torch.randn(2, 5, 6)
    inside = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    with torch.inference_mode():
        together, alone = model(features, inside), model(features[1:, :3], inside[1:, :3])
        other = model(torch.where(inside[:, :, None], features, 99.0), inside)
    assert torch.allclose(together[1, :3], alone[0], atol=1e-6) and torch.allclose(together[inside], other[inside], atol=1e-6)


def test_positions_are_those_of_the_paper():
    found = networks.positions(4, 6)
    assert torch.allclose(found[:, 0], torch.arange(4).sin()) and torch.allclose(found[:, 1], torch.arange(4).cos())
    assert torch.allclose(found[3, 2], torch.tensor(3 / 10_000 ** (2 / 6)).sin())


def of_slice_before(features: np.ndarray) -> np.ndarray:
    return np.insert(features[:, :-1, 0], 0, -1, axis=1)


def of_whole_scan(features: np.ndarray) -> np.ndarray:
    return features[:, :, 0].mean(axis=1, keepdims=True).repeat(features.shape[1], axis=1)


@pytest.mark.parametrize(("head", "told_by", "learns"), [
    ("linear", of_slice_before, False), ("gru", of_slice_before, True),
    ("linear", of_whole_scan, False), ("transformer", of_whole_scan, True),
])  # fmt: skip
def test_what_other_slices_tell_is_learned_along_the_scan_alone(head, told_by, learns):
    torch.manual_seed(0)
    features = np.random.default_rng(0).normal(size=(48, 5, 6)).astype(np.float32)
    targets = (told_by(features) > 0).astype(np.float32).reshape(-1, 1)
    found = train.Scans(features.reshape(-1, 6), targets, np.arange(240).reshape(48, 5), torch.device("cpu"))
    model = SeriesHead(spec(head))
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(100):
        batch, inside, places = found.batch(torch.arange(36))
        optimizer.zero_grad()
        train.loss(model(batch, inside)[inside], found.targets[places[inside]], exclusive=False).backward()
        optimizer.step()
    logits = train.logits_of(model, found, torch.arange(36, 48))
    assert torch.isnan(logits[:180]).all(), "other scans were not asked for"
    right = ((logits[180:] > 0).numpy() == targets[180:]).mean()
    assert right > 0.8 if learns else right < 0.75


def test_unknown_cells_teach_nothing():
    targets = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    logits = torch.zeros(2, 2)
    assert torch.allclose(train.loss(logits, targets, exclusive=False), torch.tensor(2.0).log())
    logits[0, 1] = 50.0
    assert torch.allclose(train.loss(logits, targets, exclusive=False), torch.tensor(2.0).log())
