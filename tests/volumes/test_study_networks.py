"""Volumes made from slices, 3D networks and their weights, pooled slices; memory that does not grow with the studies."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hemoct.base.errors import UserError
from hemoct.training.options import Initial
from hemoct.volumes import networks3d, scans, study_networks
from hemoct.volumes.arrays import Sequences, Volumes
from hemoct.volumes.study_networks import StudySpec
from hemoct.volumes.study_options import POOLED, Study

CPU = torch.device("cpu")


def spec(network: str, **changed: object) -> StudySpec:
    usual = {
        "image_size": 32, "mean": 0.2, "std": 0.2, "protocol": "patient", "split": "folds", "fold": 0, "splits_sha256": "",
        "classes": ["study_side_left"], "exclusive": False, "label": "side", "network": network, "depth": 8,
        "sampling": "stretch", "slice_mm": None, "hidden": 16, "dropout": 0.0, "transfer": "frozen", "backbone": None, "cells": 1,
        "width": 6, "made_by": "a test", "made_of": [],
    }  # fmt: skip
    return StudySpec(**usual | changed)


def placed(numbers: list[int], spacing: list[float] | None = None, **study: object) -> list[int]:
    table = pd.DataFrame({"patient": "a", "slice": numbers, **({"spacing_z": spacing} if spacing else {})})
    return scans.placed(np.arange(len(numbers))[None], table, Study(**study))[0].tolist()


@pytest.mark.parametrize(("numbers", "study", "rows"), [
    ([0, 1, 2, 3], {"depth": 4}, [0, 1, 2, 3]),
    ([0, 1, 2, 3], {"depth": 2}, [0, 3]),
    ([0, 1], {"depth": 4}, [0, 0, 1, 1]),
    ([7], {"depth": 3}, [0, 0, 0]),
    ([0, 1, 2, 9], {"depth": 10}, [0, 1, 2, 2, 2, 2, 3, 3, 3, 3]),  # a gap keeps its height
    ([0, 1, 2, 3, 4], {"depth": 3, "sampling": "crop"}, [1, 2, 3]),
    ([0, 1, 2, 3], {"depth": 2, "sampling": "crop"}, [1, 2]),
    ([5, 6], {"depth": 6, "sampling": "crop"}, [-1, -1, 0, 1, -1, -1]),
    ([0, 1, 2], {"depth": 1}, [1]),
])  # fmt: skip
def test_slices_stand_where_they_lie_in_the_head(numbers, study, rows):
    assert placed(numbers, **study) == rows


def test_distances_are_millimetres_where_they_are_asked_for():
    thin = placed(list(range(11)), [2.5] * 11, depth=5, sampling="crop", slice_mm=5.0)
    thick = placed(list(range(6)), [5.0] * 6, depth=5, sampling="crop", slice_mm=5.0)
    assert thin == [1, 3, 5, 7, 9] and thick[0] in (0, 1) and -1 not in thick
    with pytest.raises(UserError, match=r"--slice-mm: labels.csv does not know the spacing \(spacing_z\) of patient a"):
        placed([0, 1], depth=4, sampling="crop", slice_mm=5.0)


def test_volumes_of_unequal_depth_are_black_beyond_their_slices():
    pixels = np.full((5, 4, 4), 255, np.uint8)
    volumes = Volumes.of(pixels, np.array([[0, 1, 2], [3, 4, -1]]), CPU)
    ((which, seen, inside),) = volumes.batches(torch.tensor([1, 0]), 2)
    assert which.tolist() == [1, 0] and seen.shape == (2, 3, 4, 4)
    assert seen.mean(dim=(2, 3)).tolist() == [[1, 1, 0], [1, 1, 1]] and inside.tolist() == [[True, True, False], [True] * 3]


def memory() -> int:
    """Bytes of this process that are no file's."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", text)[1])


@pytest.mark.parametrize("kind", ["volumes", "features"])
def test_five_hundred_volumes_take_no_more_memory_than_fifty(tmp_path, kind):
    studies, depth, shape = 500, 64, (64, 64) if kind == "volumes" else (1024,)
    path = tmp_path / "kept.npy"
    dtype = np.uint8 if kind == "volumes" else np.float32
    kept = np.lib.format.open_memmap(path, "w+", dtype, (studies * depth, *shape))
    kept[:] = 1
    del kept
    kept, rows = np.load(path, mmap_mode="r"), np.arange(studies * depth).reshape(studies, depth)
    source = Volumes.of(kept, rows, CPU) if kind == "volumes" else Sequences(kept, torch.as_tensor(rows), CPU)

    def peak(count: int) -> int:
        seen = 0
        for _, batch, _ in source.batches(torch.arange(count), 2):
            assert batch.shape[:2] == (2, depth)
            seen = max(seen, memory())
        return seen

    few = max(peak(50), peak(50))
    assert peak(studies) - few < 24e6 < kept.nbytes / 5


@pytest.mark.parametrize("name", ["resnet10-3d", "resnet18-3d", "resnet50-3d"])
def test_resnets_see_volumes(name):
    network = study_networks.build(spec(name)).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 8, 32, 32), torch.ones(2, 8, dtype=torch.bool)).shape == (2, 1)


def test_a_densenet_needs_larger_volumes():
    with pytest.raises(UserError, match="--network densenet121-3d cannot take 8 x 32 x 32"):
        study_networks.build(spec("densenet121-3d"))


def medicalnet(depth: int) -> dict[str, torch.Tensor]:
    """The tensors of MedicalNet's resnet_DEPTH.pth, by their names there; shortcuts of type A have none."""
    blocks, wide = networks3d.DEPTH[depth], 4 if depth == 50 else 1
    state = {"conv1.weight": torch.randn(64, 1, 7, 7, 7), **norm("bn1", 64)}
    before = 64
    for number, count in enumerate(blocks):
        planes = 64 * 2**number
        for block in range(count):
            name = f"layer{number + 1}.{block}"
            sides = [(before, planes, 3), (planes, planes, 3)] if wide == 1 else [(before, planes, 1), (planes, planes, 3),
                                                                                  (planes, planes * 4, 1)]  # fmt: skip
            for place, (given, made, side) in enumerate(sides, 1):
                state |= {
                    f"{name}.conv{place}.weight": torch.randn(made, given, side, side, side),
                    **norm(f"{name}.bn{place}", made),
                }
            if depth not in networks3d.PLAIN_SHORTCUT and before != planes * wide:
                state |= {f"{name}.downsample.0.weight": torch.randn(planes * wide, before, 1, 1, 1),
                          **norm(f"{name}.downsample.1", planes * wide)}  # fmt: skip
            before = planes * wide
    return {f"module.{name}": value for name, value in state.items()}


def norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.{part}": torch.rand(width) for part in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize("depth", [10, 18, 50])
def test_weights_of_medicalnet(tmp_path, depth):
    state, path = medicalnet(depth), tmp_path / f"resnet_{depth}.pth"
    torch.save({"state_dict": state}, path)
    network = networks3d.build(f"resnet{depth}-3d", 2)
    assert networks3d.load(network, f"resnet{depth}-3d", Initial(weights=str(path)))
    own = network.state_dict()
    assert all(torch.equal(own[name.removeprefix("module.")], value) for name, value in state.items())
    left = {name for name in own if f"module.{name}" not in state and not name.endswith("num_batches_tracked")}
    assert left == {"fc.1.weight", "fc.1.bias"}


@pytest.mark.parametrize(("content", "network", "words"), [
    ("34", "resnet18-3d", "is of a ResNet-34, not of resnet18-3d; choose --network resnet34-3d"),
    ("10", "resnet18-3d", "is of a ResNet-10, not of resnet18-3d; choose --network resnet10-3d"),
    ("18", "densenet121-3d", "is of another network than densenet121-3d"),
    ("nothing", "resnet18-3d", "is of another network than resnet18-3d"),
])  # fmt: skip
def test_weights_of_another_network_stop(tmp_path, content, network, words):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": medicalnet(int(content)) if content.isdigit() else {"a": torch.zeros(1)}}, path)
    with pytest.raises(UserError) as stopped:
        networks3d.load(networks3d.build(network, 1), network, Initial(weights=str(path)))
    assert words in str(stopped.value)


def test_a_bundle_of_monai(tmp_path):
    torch.manual_seed(1)
    of_bundle = networks3d.build("densenet121-3d", 5)
    (tmp_path / "models").mkdir()
    torch.save(of_bundle.state_dict(), tmp_path / "models" / "model.pt")
    network = networks3d.build("densenet121-3d", 1)
    networks3d.load(network, "densenet121-3d", Initial(weights=str(tmp_path / "models" / "model.pt")))
    name = "features.conv0.weight"
    assert torch.equal(network.state_dict()[name], of_bundle.state_dict()[name])


@pytest.mark.parametrize("network", POOLED)
def test_padding_changes_nothing_and_slices_make_the_study(network):
    torch.manual_seed(0)
    model = study_networks.build(spec(network)).eval()
    features, inside = torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    with torch.inference_mode():
        together, alone = model(features, inside), model(features[1:, :3], inside[1:, :3])
        other = model(torch.where(inside[:, :, None], features, 99.0), inside)
        logits, attention = model.of_slices(features, inside)
    assert torch.allclose(together[1], alone[0], atol=1e-5) and torch.allclose(together, other, atol=1e-5)
    assert torch.allclose((logits * attention[:, :, None]).sum(dim=1), together, atol=1e-5)
    assert torch.allclose(attention.sum(dim=1), torch.ones(2)) and (attention[1, 3:] == 0).all()


def test_a_backbone_learns_with_the_pool():
    model = study_networks.build(spec("attention", transfer="finetune", backbone="resnet18", width=2048, cells=2))
    logits = model(torch.rand(2, 8, 32, 32), torch.tensor([[True] * 8, [True] * 5 + [False] * 3]))
    logits.sum().backward()
    assert logits.shape == (2, 1) and model.body.body.conv1.weight.grad.abs().sum() > 0


def test_attention_finds_the_slices_that_tell():
    """Bags of eight, one of whose features says 1 for one slice in the positive ones."""
    torch.manual_seed(0)
    model = study_networks.build(spec("attention"))
    random = torch.Generator().manual_seed(0)
    features = torch.randn(160, 8, 6, generator=random)
    label = torch.arange(160) % 2
    place = torch.randint(8, (160,), generator=random)
    features[:, :, 0] = 0
    features[torch.arange(160), place, 0] = 4.0 * label
    inside = torch.ones(160, 8, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(
            model(features[:120], inside[:120])[:, 0], label[:120].float()
        ).backward()
        optimizer.step()
    with torch.inference_mode():
        right = ((model(features[120:], inside[120:])[:, 0] > 0) == label[120:].bool()).float().mean()
        attention = model.of_slices(features[121::2], inside[121::2])[1]
    assert right > 0.95 and (attention.argmax(dim=1) == place[121::2]).float().mean() > 0.95
