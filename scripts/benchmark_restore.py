"""Measure the published use of an autoencoder as a filter: does a classifier do better on slices that passed through one?

All slices of a fold are restored by the autoencoder that was pre-trained on the fold's training patients; a classifier learns
from them and is tested on them, another one, with the same flags and seed, on the slices as they are. Nothing of it is kept: both
are trained in a folder that is gone afterwards, since no other step restores images.

Reads   data/work/NAME/, outputs/NAME/pretrain/PRETRAINING/foldK/    scripts/07_pretrain.py --method autoencoder --image-size N
Writes  --out FILE: the table as JSON; prints each metric of both, mean over --seeds, and the paired difference with its interval
Next    none: --prepare has no such word where it does not pay

    python scripts/benchmark_restore.py autoencoder --backbone tf_efficientnet_lite0 --fold 0 --epochs 5 --seeds 42,43,44
"""

import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarking
import environment  # noqa: F401 (first: without the environment it says how to activate it)
import numpy as np
import torch

from hemoct.base import cli, options as base_options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import evaluate, label_curve, train
from hemoct.classification.options import Options
from hemoct.data import slices
from hemoct.data.slices import SliceData
from hemoct.evaluation import bootstrap, comparison, text
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.subjects import Subject
from hemoct.pretrain import networks
from hemoct.training import device, weights
from hemoct.training.batches import Store
from hemoct.training.options import Initial

SHOWN = ("auroc", "ap", "f1", "accuracy", "brier")
BATCH = 64


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("pretraining", metavar="PRETRAINING", help="an autoencoder of this data set")
    parser.add_argument("--seeds", type=lambda text: [cli.whole_number(word) for word in cli.names(text)], default=[42],
                        metavar="A,B", help="seeds, a pair of trainings each")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    base_options.add_all(parser, Options)
    args = cli.parse(parser, argv, __file__)
    if args.fold == "all":
        parser.error("name one fold: --fold 0")
    chosen, work = base_options.read(args, Options), Workspace.of(args)
    where = device.pick(args.device, args.threads)
    data = slices.load(work, args.image_size, args.label, args.limit_patients, known_only=False, prepare=args.prepare)
    other = replace(data, pixels=restored(work, data, args, where))
    pairs = [[trained(replace(chosen, training=replace(chosen.training, seed=seed)), one, args, where) for one in (data, other)]
             for seed in args.seeds]  # fmt: skip
    print_table(content := table(pairs, args.seed), args)
    if args.out:
        about = f"{args.dataset}, fold {args.fold}, {len(args.seeds)} seed(s), {args.epochs} epochs at {args.image_size} px"
        keep(content, args, about)


@torch.inference_mode()
def restored(work: Workspace, data: SliceData, args: Namespace, where: torch.device) -> np.ndarray:
    """All slices as the autoencoder of the fold restores them, uint8 (n, size, size). Stops where it may know test patients."""
    fold = data.fold(work.pretrained / args.pretraining / f"fold{args.fold}", base_options.read(args, Options).selection)
    initial = Initial(weights=args.pretraining).of_fold(work, fold.folder)
    model, spec = networks.load(fold.folder, where)
    learned = data.learned(fold, base_options.read(args, Options).selection)
    weights.stop_if_trained_elsewhere(initial, replace(spec, **learned))
    if spec.method != "autoencoder" or spec.image_size != args.image_size:
        raise UserError(f"{args.pretraining} is no autoencoder of {args.image_size} px ({spec.method}, {spec.image_size} px)")
    made = [(model((batch - spec.mean) / spec.std) * spec.std + spec.mean).clamp(0, 1)[:, 0].mul(255).round().byte().cpu().numpy()
            for _, batch in Store(data.pixels, where).batches(torch.arange(len(data.table)), BATCH)]  # fmt: skip
    return np.concatenate(made)


def trained(options: Options, data: SliceData, args: Namespace, where: torch.device) -> Evaluated:
    """A classifier of these slices, evaluated: trained in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "data").symlink_to(data.work.root / "data")
        if data.work.pretrained.exists():  # where --weights names a pre-training
            (root / "outputs" / data.work.dataset).mkdir(parents=True)
            (root / "outputs" / data.work.dataset / "pretrain").symlink_to(data.work.pretrained)
        work = Workspace(root, data.work.dataset)
        folder = work.task(1) / "e" / f"fold{args.fold}"
        with Run("task1_classification/01_train.py", Namespace(**vars(args) | {"root": root}), folder, []) as run:
            run.wrote(*train.train_fold(run, options, replace(data, work=work), Store(data.pixels, where)))
        evaluation, _ = evaluate.decide(Subject(1, "e", work, work, [folder], None))
    return Evaluated("e", {}, evaluation)


def table(pairs: list[list[Evaluated]], seed: int) -> dict[str, Any]:
    """Each metric of both, and the difference, as means over the pairs with their intervals: see label_curve."""
    order = np.sort(pairs[0][0].table["image_id"].to_numpy())
    first = pairs[0][0].at(order).table
    drawn = bootstrap.weights(first["patient"].to_numpy(), first["fold"].to_numpy(), bootstrap.RESAMPLES, seed)
    plain, filtered = ([label_curve.measured(pair[place].at(order), drawn) for pair in pairs] for place in (0, 1))
    names = [name for name in SHOWN if name in plain[0][0]]
    return {name: {"plain": label_curve.mean(name, plain), "restored": label_curve.mean(name, filtered),
                   "difference": label_curve.mean(name, filtered, plain)} for name in names}  # fmt: skip


def keep(content: dict[str, Any], args: Namespace, about: str) -> None:
    """Write the table as other benchmarks write theirs: ours is restored, other is plain."""
    rows, said = [], [f"**Slices that passed through an autoencoder against slices as they are** ({about}), differences:"]
    for name, of_both in content.items():
        restored, plain = (of_both[label]["value"] for label in ("restored", "plain"))
        if not restored or not plain:  # undefined, or 0: there is no ratio
            continue
        ratio = plain / restored if comparison.LOWER.fullmatch(name) else restored / plain
        rows.append(benchmarking.Row(text.metric_name(name), restored, plain, ratio, "", more=of_both))
        said.append(f"* {name}: {signed(of_both['difference'])}")
    benchmarking.keep(args.out, args.command, benchmarking.machine(), rows, {"said": said})


def signed(difference: dict[str, Any]) -> str:
    value = np.nan if difference["value"] is None else difference["value"]
    return text.interval(value, *(difference["ci95"] or (np.nan, np.nan)), "+", " to ")


def print_table(content: dict[str, Any], args: Namespace) -> None:
    print(f"{args.dataset}, fold {args.fold}, {len(args.seeds)} seed(s), restored by {args.pretraining}")
    for name, of_both in content.items():
        words = [f"{label} {text.metric(of_both[label])}" for label in ("plain", "restored")]
        words.append(f"difference {signed(of_both['difference'])}")
        print(f"  {name:10s} {'   '.join(words)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
