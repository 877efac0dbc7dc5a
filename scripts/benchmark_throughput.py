"""Measure how much of the time our loops are arithmetic: training and prediction of tasks 1, 3 and 4 against the bare network.

Bare are a loop of forward, loss, backward and step, and one of forwards alone, on batches that lie ready on the device: no
augmentation, no gathering, no normalising, no check. A ratio of 1.0 says that ours never waits for anything.

Reads   nothing: noise of the right shape is drawn in memory
Writes  --out FILE: the table as JSON; prints images a second of both, in alternation, and the ratio of the best
Next    task1_classification/01_train.py

Ways of computing (--ways) are compared as loops of training on ready batches: bf16, channels last, torch.compile, larger batches.
"""

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
import torch
from benchmarking_cases import CASES, Batches, Case
from torch import nn
from tqdm import tqdm

from hemoct.base import cli, options
from hemoct.base.errors import one_line
from hemoct.training import device, fit
from hemoct.training.options import PRECISIONS, Hardware

TRAINING_AIM, ON_GPU, PREDICTION_AIM = 0.97, 0.9, 0.9


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(make_parser(), argv, __file__)
    started = time.monotonic()
    where = device.pick(args.device, args.threads)
    rows, notes = [], {}
    cases = [(task, backbone) for task in args.tasks for backbone in args.backbones]
    for way, (task, backbone) in tqdm(list(itertools.product(["loops", *args.ways], cases)), disable=None):
        what = f"task {task}, {backbone}, batch {args.batch_size}"
        tqdm.write(f"{way}: {what}")  # in a log too, where there is no bar
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
                notes[f"{way}, {what}"] = failed = f"failed: {one_line(error)}"
                tqdm.write(failed)
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
    with_it = WAYS[way](case)
    count = len(case.rows)
    batches, usual = ready(case, with_it.get("batch_size", args.batch_size)), ready(case, args.batch_size)
    ways = {"ours": bare_training(case, batches, with_it.get("model"), with_it.get("autocast")),
            "bare": bare_training(case, usual)}  # fmt: skip
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
