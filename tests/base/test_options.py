"""Options: a flag is written once, and from that one place it is parsed, named, recorded and compared."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from hemoct.base import cli, options, runs
from hemoct.base.errors import UserError
from hemoct.base.options import flag
from hemoct.training import checkpoints
from hemoct.training.options import Augmentation, Training


@dataclass(frozen=True, kw_only=True)
class Novel(Training):
    """A training with a flag that no list of flags knows."""

    mixup: float = flag(0.0, "mixup of two slices", type=float, named="mixup{:g}")
    shown: bool = flag(False, "draw what was predicted", trains=False)
    words: dict = flag({}, "words by label", named="{}")


@dataclass(frozen=True)
class Chosen:
    training: Novel
    augmentation: Augmentation


def made(*words: str) -> tuple[cli.Parser, object]:
    parser = cli.parser("A step.")
    cli.add_experiment_flags(parser)
    options.add(parser, Novel, "training", without=("ema",), epochs=3, lr={"default": None, "help": "that of the model"})
    return parser, cli.parse(parser, list(words), __file__)


def run_of(folder, *words: str) -> runs.Run:
    return runs.Run(__file__, made("--root", str(folder), *words)[1], folder, [])


def test_options_are_read_once_and_never_changed():
    _, args = made("--batch-size", "4", "--resume")
    read = options.read(args, Novel)
    assert (read.epochs, read.batch_size, read.lr, read.resume, read.ema, read.seed) == (3, 4, None, True, 0.0, 42)
    with pytest.raises(FrozenInstanceError):
        read.epochs = 5
    assert not hasattr(args, "ema")
    assert options.read(args, Chosen) == Chosen(read, Augmentation()), "options of options are read alike"


def test_a_new_flag_names_the_experiment_and_is_compared_when_a_training_is_resumed(tmp_path):
    parser, args = made("--mixup", "0.2", "--epochs", "4", "--shown")
    assert cli.experiment_name(parser, args, "net") == "net-4ep-mixup0.2"
    before = {"arguments": run_of(tmp_path).arguments, "inputs": {}}
    assert checkpoints.may_resume(tmp_path / "last.pt", before, run_of(tmp_path, "--shown"))
    with pytest.raises(UserError, match=r"trained with --mixup 0\.0"):
        checkpoints.may_resume(tmp_path / "last.pt", before, run_of(tmp_path, "--mixup", "0.2"))
    older = {"arguments": {key: value for key, value in before["arguments"].items() if key != "mixup"}, "inputs": {}}
    assert checkpoints.may_resume(tmp_path / "last.pt", older, run_of(tmp_path)), "a flag that came later had its default"
    assert "--shown" in run_of(tmp_path, "--shown").changed(before["arguments"])[0], "but a finished run is not the same"


def test_settings_of_an_older_version_are_compared_where_they_can_be(tmp_path):
    """Version 0.1 kept some of the flags, in which `auto` had become an axis and the model's own rate a number."""
    run = run_of(tmp_path)
    old = {"settings": {"seed": 42, "epochs": 3, "lr": 3e-4, "mirror": "vertical", "batch_size": 32}, "inputs": {}, "model": {}}
    assert checkpoints.may_resume(tmp_path / "last.pt", checkpoints.mended(dict(old), run), run)
    old["settings"]["batch_size"] = 8
    with pytest.raises(UserError, match="trained with --batch-size 8"):
        checkpoints.may_resume(tmp_path / "last.pt", checkpoints.mended(old, run), run)


def test_a_dictionary_of_words_may_hold_a_format_for_all_others():
    parser = cli.parser("A step.")
    cli.add_experiment_flags(parser)
    options.add(parser, Augmentation, "augmentation")
    names = {word: cli.experiment_name(parser, cli.parse(parser, ["--augment", word], __file__), "net")
             for word in ("none", "affine", "strong")}  # fmt: skip
    assert names == {"none": "net", "affine": "net-augment", "strong": "net-augment-strong"}


def test_a_flag_that_is_nearly_one_of_ours_is_named(capsys):
    with pytest.raises(SystemExit):
        made("--epoch", "3")
    assert "did you mean --epochs?" in capsys.readouterr().err
