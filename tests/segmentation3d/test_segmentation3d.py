"""3D segmentation: networks and their losses, patches of scans, the step from training to evaluation, what is refused."""

import numpy as np
import pytest
import torch

from helpers import interrupted, quick, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.segmentation import data as segmentation_data, networks as networks2d
from hemoct.segmentation3d import networks, train
from hemoct.segmentation3d.networks import VolumeSpec
from hemoct.segmentation3d.options import Network, Options
from hemoct.training.options import SCRATCH, Initial

STEP = "task3_segmentation/09_train_volume.py"
TINY = ("--fold", 0, "--device", "cpu", "--threads", 1, "--image-size", 32, "--patch", 32, "--depth", 8, "--channels", 8,
        "--patches", 1, "--epochs", 1, "--experiment", "e")  # fmt: skip
CPU = torch.device("cpu")


def spec(model: str, deep: bool = False) -> VolumeSpec:
    return VolumeSpec(
        image_size=32, source_size=32, mean=0.2, std=0.2, protocol="patient", split="folds", fold=0, splits_sha256="",
        model=model, encoder="3d", context=0, region="slice", depth=8, channels=8,
        deep_supervision=deep, overlap=0.5, made_by="a test",
    )  # fmt: skip


@pytest.mark.parametrize(("model", "deep"), [("segresnet", False), ("segresnet", True), ("unet", False), ("dynunet", True)])
def test_networks_learn_and_slide_over_a_scan(model, deep):
    torch.manual_seed(0)
    network = networks.build(spec(model, deep), SCRATCH)
    output = network(torch.rand(2, 1, 8, 32, 32))
    assert len(networks.levels(output)) == (3 if deep else 1)
    masks = (torch.rand(2, 1, 8, 32, 32) > 0.9).float()
    masks[:, :, 0] = torch.nan
    loss = networks.loss(networks2d.criterion("bce-dice"), output, masks)
    loss.backward()
    assert torch.isfinite(loss)
    found = networks.predict(network.eval(), spec(model, deep), torch.rand(11, 32, 32))
    assert found.shape == (11, 32, 32) and found.dtype == torch.uint8
    assert networks.predict(network, spec(model, deep), torch.rand(3, 32, 32)).shape == (3, 32, 32), "fewer slices than a patch"


def test_what_is_not_known_has_no_say():
    criterion = networks2d.criterion("bce-dice")
    masks, logits = torch.zeros(1, 1, 4, 8, 8), torch.randn(1, 1, 4, 8, 8)
    masks[:, :, 1, 2:4] = 1
    masks[:, :, 3] = torch.nan
    other = logits.clone()
    other[:, :, 3] = 50.0
    assert torch.allclose(networks.loss(criterion, logits, masks), networks.loss(criterion, other, masks))


def test_patches_lie_in_scans_and_around_lesions(work: Workspace):
    toy.make(work, patients=5, slices=6, masks=True)
    frame = tables.read_labels(work, tables.read_dataset(work))
    frame.loc[frame["image_id"] == "0001_01", "mask"] = ""
    tables.write_labels(work, frame, tables.read_dataset(work))
    data = segmentation_data.load(work)
    found = train.Scans.of(work, data, 32, [], CPU)
    options = Options(Network(image_size=32, patch=16, depth=8, patches=20), Initial(weights="none"), None, None, None, None)
    drawn = train.draw(found, np.arange(5), options, np.random.default_rng(0))
    assert drawn.planes.shape == (100, 8) and (drawn.places[:, :2] >= 0).all() and (drawn.places[:, :2] <= 16).all()
    lesions = 0
    for (seen, masks), planes in zip(
        train.batches(found, drawn, 1, (None, "horizontal", torch.Generator())), drawn.planes, strict=True
    ):
        inside = planes >= 0
        assert len({data.table["patient"][row] for row in planes[inside]}) == 1 and (np.diff(planes[inside]) == 1).all()
        assert seen.shape == masks.shape == (1, 1, 8, 16, 16) and (seen[0, 0, ~inside] == 0).all()
        unknown = torch.isnan(masks[0, 0]).all(dim=(1, 2)).numpy()
        assert (unknown == (~inside | ~data.known[planes])).all()
        lesions += int(torch.nansum(masks) > 0)
    assert 60 < lesions <= 100


def test_from_training_to_evaluation(run_step, work, monkeypatch):
    quick.evaluations(monkeypatch)
    toy.make(work, patients=10, slices=4, masks=True, size=(40, 32))
    result = run_step(STEP, "--root", work.root, "--dataset", "toy", *TINY, "--deep-supervision")
    assert result.code == 0, result.err
    folder = work.task(3) / "e" / "fold0"
    frame = tables.read_predictions(folder)
    assert len(frame) == 16 and len(list((folder / "probability").glob("*.png"))) == 16
    assert run_step("task3_segmentation/03_evaluate.py", "--root", work.root, "--dataset", "toy").code == 0
    assert "dice_patient" in files.read_json(folder.parent / "metrics.json")["metrics"]
    other = run_step("task3_segmentation/05_predict.py", work.raw, "--experiment", "e", "--root", work.root, "--dataset", "toy")
    assert refused(other, "describes no single network (it was made by task3_segmentation/09_train_volume.py")


def test_stopped_and_resumed_equals_uninterrupted_to_the_bit(run_step, work):
    toy.make(work, patients=10, slices=4, masks=True, size=(40, 32))
    words = (STEP, "--root", work.root, "--dataset", "toy", *TINY, "--ema", 0.9)
    assert run_step(*words, "--epochs", 3, "--experiment", "whole").code == 0
    with interrupted.after_epoch(2):
        assert run_step(*words, "--epochs", 3).code == 130
    resumed = run_step(*words, "--epochs", 3, "--resume")
    assert resumed.code == 0 and "goes on after epoch 2" in resumed.out, resumed.err
    whole, again = (torch.load(work.task(3) / name / "fold0" / "last.pt", weights_only=True)["model"] for name in ("whole", "e"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize(("flags", "words"), [
    (("--patch", 20), ("--patch 20 --depth 8: both have to be multiples of 8",)),
    (("--patch", 64), ("--patch 64 is larger than --image-size 32",)),
    (("--model", "unet", "--deep-supervision"), ("--deep-supervision goes with --model segresnet or dynunet",)),
    (("--weights", "nowhere.pt"), ("nowhere.pt", "no such file")),
])  # fmt: skip
def test_flags_that_do_not_go(run_step, work, flags, words):
    toy.make(work, patients=5, slices=2, masks=True)
    assert refused(run_step(STEP, "--root", work.root, "--dataset", "toy", *TINY, *flags), *words)


def test_weights_of_another_network_stop(tmp_path):
    torch.save(networks.build(spec("unet"), SCRATCH).state_dict(), tmp_path / "model.pt")
    with pytest.raises(Exception, match="is of another network"):
        networks.build(spec("segresnet"), Initial(weights=str(tmp_path / "model.pt")))
    same = networks.build(spec("unet"), Initial(weights=str(tmp_path / "model.pt"))).state_dict()
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(same[name], saved[name]) for name in saved)
