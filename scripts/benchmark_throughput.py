"""Measure how much of the time our loops are arithmetic: training and prediction of tasks 1, 3 and 4 against the bare network.

Bare are a loop of forward, loss, backward and step, and one of forwards alone, on batches that lie ready on the device: no
augmentation, no gathering, no normalising, no check. A ratio of 1.0 says that ours never waits for anything.

Reads   nothing: noise of the right shape is drawn in memory
Writes  --out FILE: the table as JSON; prints images a second of both, in alternation, and the ratio of the best
Next    task1_classification/01_train.py

Ways of computing (--ways) are compared as loops of training on ready batches: bf16, channels last, torch.compile, larger batches.
"""

import argparse
import collections
import contextlib
import copy
import functools
import io
import itertools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmarking
import environment  # noqa: F401 (without the environment it says how to activate it)
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hemoct.base import cli, options
from hemoct.base.errors import one_line
from hemoct.base.runs import Run
from hemoct.classification import networks as classifiers, train as classification
from hemoct.multilabel import networks as multilabel_networks, train as multilabel
from hemoct.multilabel.options import Augmentation as LabelAugmentation, Balance
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.segmentation import networks as segmenters, train as segmentation, windows
from hemoct.segmentation.options import STRENGTHS as SEGMENTER_STRENGTHS
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import device, fit, inference
from hemoct.training.batches import Stacks, Store
from hemoct.training.options import PRECISIONS, STRENGTHS, Hardware, Training

TRAINING_AIM, ON_GPU, PREDICTION_AIM = 0.97, 0.9, 0.9
SOURCE, WINDOW = 512, 128  # px: task 3 cuts windows of this side out of squares of that
TYPES = ["any", "EDH", "IPH", "IVH", "SAH", "SDH"]
Batches = list[tuple[torch.Tensor, torch.Tensor]]


class Case:
    """A task's own loop over random slices, and what the bare loop needs to do the same arithmetic."""

    model: nn.Module
    criterion: fit.Criterion
    one_epoch: Callable[[], Any]
    validate: Callable[[], dict[str, float]]
    """on the first third of the slices"""
    predict: Callable[[], Any]
    batches: Callable[[int], Batches]
    """inputs as the network gets them, and targets, `size` a batch"""
    forward: Callable[[torch.Tensor], Any]
    """what prediction does with a batch"""

    def __init__(self, args: argparse.Namespace, backbone: str, where: torch.device, folder: Path) -> None:
        self.args, self.where, self.random = args, where, np.random.default_rng(args.seed)
        self.training = Training(epochs=1000, lr=1e-5, batch_size=args.batch_size, precision=args.precision, seed=args.seed)
        self.run, self.steps = Run(__file__, args, folder, []), -(-args.shown // args.batch_size)
        self.rows = self.random.permutation(args.slices)[: args.shown]

    def start(self, spec: Any, model: nn.Module) -> fit.Fit:
        """The model on the device, in training."""
        self.spec, self.model = spec, device.place(model, self.where, spec.image_size)
        fitting = fit.Fit(self.model, self.run, self.training, self.steps)
        next(fitting.epochs())
        self.autocast, self.fitting, self.validated = fitting.autocast, fitting, self.rows[: max(1, len(self.rows) // 3)]
        return fitting

    def noise(self, side: int) -> np.ndarray:
        return self.random.integers(0, 256, (self.args.slices, side, side), dtype=np.uint8)

    def common(self, size: int) -> dict[str, Any]:
        """Fields of model.json."""
        return {"image_size": size, "mean": 0.5, "std": 0.3, "protocol": "patient", "split": "folds", "fold": 0,
                "splits_sha256": ""}  # fmt: skip

    def labelled(self, fitting: fit.Fit, labelled: fit.Labelled) -> None:
        """Tasks 1 and 4: whole slices with targets."""
        self.criterion = labelled.criterion
        order = torch.as_tensor(self.rows)
        self.one_epoch = lambda: fit.one_epoch(fitting, labelled, order)
        self.validate = lambda: classification.validate(fitting, labelled, self.validated)
        self.predict = lambda: inference.logits(self.model, self.spec, labelled.source, self.rows, 4 * self.args.batch_size)
        self.forward = lambda batch: self.model(batch).float()
        self.batches = lambda size: [((batch - self.spec.mean) / self.spec.std, labelled.targets[order[position].to(self.where)])
                                     for position, batch in labelled.source.batches(order, size)]  # fmt: skip


class Task1(Case):
    """Whole slices, one label."""

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size = self.args.image_size
        spec = classifiers.ClassifierSpec(**self.common(size), backbone=of_case[1], classes=["noise"], exclusive=False)
        fitting = self.start(spec, classifiers.build(spec))
        targets = torch.as_tensor(self.random.integers(0, 2, (self.args.slices, 1)), dtype=torch.float32, device=self.where)
        loss = classification.criterion(targets, False, False)
        augment = fit.augmentation(STRENGTHS[self.args.augment], "horizontal", fitting.device_generator)
        self.labelled(fitting, fit.Labelled(spec, Store(self.noise(size), self.where), targets, loss, augment))


class Task4(Case):
    """Three neighbouring slices, several labels, a head of its own for any of them."""

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size, n = self.args.image_size, self.args.slices
        spec = MultiLabelSpec(**self.common(size), backbone=of_case[1], classes=TYPES, heads=["any", "types"], context=1)
        fitting = self.start(spec, multilabel_networks.build(spec))
        of_all = self.random.integers(0, 2, (n, len(TYPES))).astype(np.float32)
        targets = torch.as_tensor(of_all, device=self.where)
        loss = multilabel.criterion(Balance(), spec.heads, targets)
        chosen = LabelAugmentation(augment=self.args.augment)
        augment = multilabel.augmentation(chosen, "horizontal", of_all, TYPES, fitting.device_generator)
        planes = torch.as_tensor((np.arange(n)[:, None] + [-1, 0, 1]).clip(0, n - 1))
        source = Stacks(Store(self.noise(size), self.where), planes)
        self.labelled(fitting, fit.Labelled(spec, source, targets, loss, augment))


class Task3(Case):
    """Whole slices and their masks."""

    boxes = False

    def __init__(self, *of_case: Any) -> None:
        super().__init__(*of_case)
        size, side = (WINDOW, SOURCE) if self.boxes else (self.args.image_size, self.args.image_size)
        spec = SegmenterSpec(**self.common(size), model="unet", encoder=f"tu-{of_case[1]}", context=0, source_size=side,
                             region="slice", mirror="horizontal")  # fmt: skip
        fitting = self.start(spec, segmenters.build(spec))
        slices = segmentation.Squares(self.noise(side), np.arange(self.args.slices)[:, None], spec, self.where)
        slices.mask = Store(self.noise(side), self.where)
        self.criterion = segmenters.criterion("bce-dice")
        masked = segmentation.Masked(slices, self.criterion, SEGMENTER_STRENGTHS[self.args.augment], "horizontal")
        looked_at = windows.whole_slices(self.rows, side)
        if self.boxes:
            corners = self.random.integers(0, SOURCE - WINDOW, (len(self.rows), 2))
            places = np.column_stack([corners, np.full(len(corners), float(WINDOW))])
            looked_at = windows.Windows(self.rows, places, np.ones(len(self.rows)))
        self.one_epoch = lambda: segmentation.one_epoch(fitting, masked, looked_at)
        validation = segmentation.Validation.of(slices, self.validated, self.validated // 20)
        self.validate = lambda: segmentation.validate(fitting, masked, validation, looked_at.of(self.validated))
        self.predict = lambda: list(segmentation.patches(self.model, slices, looked_at, 4 * self.args.batch_size))
        self.forward = functools.partial(mirrored_mean, self.model)
        self.batches = lambda size: [
            (segmenters.normalised(batch, spec), mask) for batch, mask in slices.batches(looked_at, size)
        ]


class Task3Boxes(Task3):
    """Windows cut out of larger squares, as around boxes."""

    boxes = True


def mirrored_mean(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Probabilities of a segmenter as it predicts: of the image and its mirror image."""
    return (model(batch).sigmoid() + model(batch.flip(3)).sigmoid().flip(3)) / 2


CASES = {"1": Task1, "3": Task3, "3-boxes": Task3Boxes, "4": Task4}


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(make_parser(), argv, __file__)
    started = time.monotonic()
    where = device.pick(args.device, args.threads)
    rows, notes = [], {}
    cases = [(task, backbone) for task in args.tasks for backbone in args.backbones]
    for way, (task, backbone) in tqdm(list(itertools.product(["loops", *args.ways], cases)), disable=None):
        what = f"task {task}, {backbone}, batch {args.batch_size}"
        if way != "loops" and args.seconds and time.monotonic() - started > args.seconds:
            notes[f"{way}, {what}"] = "not measured: the time was over"
            continue
        with tempfile.TemporaryDirectory() as folder:
            case = CASES[task](args, backbone, where, Path(folder))
            if way == "loops":
                rows += loops(case, what)
                notes |= {what: synchronised(case)} if where.type == "cuda" else {}
                continue
            try:
                rows.append(compared(case, what, way))
            except Exception as error:  # a compiler may lack what it needs on this machine: the other ways are worth knowing
                notes[f"{way}, {what}"] = f"failed: {one_line(error)}"
    about = benchmarking.machine(torch.cuda.get_device_name() if where.type == "cuda" else where.type)
    about |= {"by": "by the clock" if where.type == "cuda" else "by processor time"}
    about |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "seconds": round(time.monotonic() - started)}
    benchmarking.publish(args.out, args.command, about, rows, notes)


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(CASES), choices=tuple(CASES), help="3-boxes: windows around boxes")
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "tf_efficientnet_lite0"], metavar="NAME")
    parser.add_argument("--image-size", type=cli.positive_int, default=224, metavar="PIXELS")
    parser.add_argument(
        "--slices", type=cli.positive_int, default=2947, help="in memory; default: as many as PHE-SICH-CT-IDS has"
    )
    parser.add_argument("--shown", type=cli.positive_int, default=256, metavar="N", help="slices that are shown in a measurement")
    parser.add_argument("--batch-size", type=cli.above_one, default=32)
    parser.add_argument("--augment", default="affine", choices=("none", "affine", "strong"), help="of our loop alone")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of training, as in its steps")
    parser.add_argument("--repeats", type=cli.positive_int, default=5)
    parser.add_argument("--ways", nargs="*", default=[], choices=tuple(WAYS), help="ways of computing to compare as well")
    parser.add_argument("--seconds", type=cli.positive_int, metavar="N", help="begin no comparison of --ways after so long")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    options.add(parser, Hardware, "device")
    return parser


def loops(case: Case, what: str) -> list[benchmarking.Row]:
    """Our training and prediction against the bare ones."""
    args, count = case.args, len(case.rows)
    wait, third = functools.partial(waited, case.where), -(-len(case.validated) // (4 * args.batch_size))
    batches, larger = ready(case, args.batch_size), [batch for batch, _ in ready(case, 4 * args.batch_size)]
    bare = bare_training(case, batches)
    clock = clock_of(case.where)
    trained = benchmarking.alternate({"ours": case.one_epoch, "bare": bare}, args.repeats, wait, clock)
    predicted = benchmarking.alternate({"ours": case.predict, "bare": lambda: forwards(case, larger)}, args.repeats, wait, clock)
    with contextlib.redirect_stdout(io.StringIO()):
        ways = {"ours": lambda: whole(case), "bare": lambda: (bare(), forwards(case, larger[:third]))}
        epochs = benchmarking.alternate(ways, 1, wait, clock)
    aim = ON_GPU if case.where.type == "cuda" else TRAINING_AIM
    return [benchmarking.speed(f"training, {what}", trained, count, "images/s", aim),
            benchmarking.speed(f"prediction, {what}", predicted, count, "images/s", PREDICTION_AIM),
            benchmarking.speed(f"whole epoch, {what}", epochs, count, "images/s")]  # fmt: skip


def ready(case: Case, size: int) -> Batches:
    """Batches in the memory format of the network."""
    form = device.memory_format(case.where, case.spec.image_size)
    return [(batch.contiguous(memory_format=form), targets) for batch, targets in case.batches(size)]


def whole(case: Case) -> None:
    """An epoch with all that belongs to it: validation, best.pt, last.pt and history.csv."""
    case.one_epoch()
    case.fitting.log(len(case.fitting.history) + 1, train_loss=1.0, **case.validate())


def clock_of(where: torch.device) -> Callable[[], float]:
    """By processor time on a CPU."""
    return time.perf_counter if where.type == "cuda" else time.process_time


def waited(where: torch.device) -> None:
    """Return when the device is idle."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def bare_training(case: Case, batches: Batches, model: nn.Module | None = None, autocast: Any = None) -> Callable[[], None]:
    """Forward, loss, backward and step of the same optimizer, for each batch that lies ready."""
    model, autocast = model or case.model, autocast or case.autocast
    optimizer = fit.optimizer(model, case.training)

    def epoch() -> None:
        model.train()
        for batch, targets in batches:
            with autocast():
                logits = model(batch)
            optimizer.zero_grad(set_to_none=True)
            case.criterion(logits.float(), targets).backward()
            optimizer.step()

    return epoch


@torch.inference_mode()
def forwards(case: Case, batches: list[torch.Tensor]) -> None:
    """What a network says of batches that lie ready; in full precision, as ours predicts."""
    case.model.eval()
    for batch in batches:
        case.forward(batch)


def synchronised(case: Case) -> dict[str, int]:
    """Where an epoch makes the host wait for the GPU, and how often: each time the queue of what the GPU has to do runs dry."""
    found: collections.Counter = collections.Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            case.one_epoch()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchroniz" in str(warning.message):
            found[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    return {"steps": case.steps, **dict(found.most_common())}


# ---- ways of computing


def compared(case: Case, what: str, way: str) -> benchmarking.Row:
    """Bare training in this way (`ours`) against the way without it."""
    args = case.args
    with_it, without = WAYS[way](case), {}
    count = len(case.rows)
    batches, usual = ready(case, with_it.get("batch_size", args.batch_size)), ready(case, args.batch_size)
    ways = {"ours": bare_training(case, batches, with_it.get("model"), with_it.get("autocast")),
            "bare": bare_training(case, usual, **without)}  # fmt: skip
    start = time.perf_counter()
    ways["ours"]()
    waited(case.where)
    first = time.perf_counter() - start
    seconds = benchmarking.alternate(ways, args.repeats, functools.partial(waited, case.where), clock_of(case.where))
    row = benchmarking.speed(f"{way}, {what}", seconds, count, "images/s")
    row.more["first_epoch_seconds"] = round(first, 2)
    return row


def compiled(case: Case, **of_compile: Any) -> dict[str, Any]:
    torch._dynamo.reset()
    model = copy.deepcopy(case.model)
    model.compile(dynamic=False, **of_compile)
    return {"model": model}


def other_format(case: Case) -> dict[str, Any]:
    return {"model": copy.deepcopy(case.model).to(memory_format=torch.contiguous_format)}


def full_precision(case: Case) -> dict[str, Any]:
    return {"autocast": lambda: torch.autocast(case.where.type, enabled=False)}


WAYS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "compile": compiled,
    "compile-graphs": functools.partial(compiled, mode="reduce-overhead"),
    "fp32": full_precision,
    "bf16": lambda case: {"autocast": lambda: torch.autocast(case.where.type, dtype=torch.bfloat16)},
    "contiguous": other_format,
    "batch-x8": lambda case: {"batch_size": 8 * case.args.batch_size},
}


if __name__ == "__main__":
    cli.exit_cleanly(main)
