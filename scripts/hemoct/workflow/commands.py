"""What scripts/run_all.sh asks: the commands of the chain, and how long it takes.

    python -m hemoct.workflow.commands list|time|steps --dataset NAME [--profile NAME] [--root DIR] [--mask-value V] [--force]
        [--all] [-- FLAGS of scripts/03_make_labels.py]

`list` is for people. `steps` is for the shell, a line a step with tabs between: `lanes` where folds may be trained side by side,
else `-`; why the data set cannot have the step, else `-`; the words of its command, quoted.
"""

import argparse
import shlex
import sys
from pathlib import Path

from hemoct.base.errors import UserError
from hemoct.base.workspace import REPOSITORY, Workspace
from hemoct.workflow import profiles
from hemoct.workflow.plan import NEEDS, Plan


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="run_all.sh", allow_abbrev=False)
    parser.add_argument("what", choices=("list", "time", "steps"))
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--profile", default="")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--mask-value", default="")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--all", action="store_true")
    own, label_flags = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    args = parser.parse_args(own)
    profile = profiles.read(args.profile or profiles.of_machine(args.dataset), args.all)
    plan = Plan(args.dataset, profile, args.root, args.mask_value, tuple(label_flags), resume=not args.force)
    if args.what == "time":
        print("\n".join(time_lines(plan)))
        return
    for number, step in enumerate(plan.steps, 1):
        command = shlex.join(plan.command(step))
        if args.what == "list":
            print(f"{number:2}  python {command}")
        else:
            lanes = profile.name == "laptop" and "fold" in step.by and "--fold" not in plan.command(step)
            print("lanes" if lanes else "-", plan.lacks(step.needs) or "-", command, sep="\t")


def time_lines(plan: Plan) -> list[str]:
    """What is trained under which name, and how many minutes that takes for as many slices as there are."""
    profile = plan.profile
    labels = Workspace(plan.root or REPOSITORY, plan.dataset).work / "labels.csv"
    slices = len(labels.read_bytes().splitlines()) - 1 if labels.is_file() else profile.slices
    shown, minutes = [], []
    for name, row in profile.rows.items():
        if not plan.lacks(NEEDS.get(name.split("-")[0], "")):
            minutes.append(profile.minutes(name, slices))
            told = "-" if minutes[-1] is None else minutes[-1]
            shown.append(f"  {name:<16} {told:>5} min  {row.name:<25} {' '.join(row.flags)}")
    known = [each for each in minutes if each is not None]
    if len(known) < len(minutes):
        told = "time not measured: a training says after its first epoch how long it takes"
    else:
        hours, rest = divmod(sum(known), 60)
        slower = ", perhaps twice that: this processor has no bfloat16" if profiles.is_slow(profile.name) else ""
        told = f"about {f'{hours} h ' if hours else ''}{rest} min on two CPU cores{slower}"
    return [f"Profile {profile.name}, {slices} slices: {told}", *shown]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        sys.exit(2)
