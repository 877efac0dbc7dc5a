"""The commands behind a result: folds share one, times add up."""

from hemoct.report.commands import commands


def test_folds_trained_one_by_one_are_shown_as_one_command() -> None:
    def record(command: str) -> dict:
        return {"command": command, "status": "ok", "git_commit": "a" * 40, "wall_s": 60}

    folds = [record(f"python t.py --lr 1 --fold {fold} --threads 1 --resume") for fold in range(3)]
    assert commands([*folds, record("python other.py --fold 2")]) == [
        ("python t.py --lr 1", "commit aaaaaaaaa, 3 min"),
        ("python other.py --fold 2", "commit aaaaaaaaa, 60 s"),
    ]


def test_the_time_of_a_training_that_was_gone_on_with_is_all_of_it() -> None:
    earlier = [{"git_commit": "b" * 40, "wall_s": 540}, {"git_commit": "a" * 40, "wall_s": None}]
    now = {"command": "python t.py", "status": "ok", "git_commit": "a" * 40, "wall_s": 60, "earlier": earlier}
    assert commands([now]) == [("python t.py", "commits bbbbbbbbb and aaaaaaaaa, 10 min")]
