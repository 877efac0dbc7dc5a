"""What JSON between steps may hold: kinds of fields by the name of the file, and fields that are missing."""

import copy
import pickle
from pathlib import Path

import pytest

from hemoct.base import files, schemas
from hemoct.base.errors import UserError


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("metrics.json", {"folds": [{"fold": 0, "threshold": "a"}]}, "folds[0].threshold is 'a'"),
        ("metrics.json", {"metrics": {"auroc": {"value": 0.5, "ci95": ["a"]}}}, "metrics.auroc.ci95[0] is 'a'"),
        ("metrics.json", {"n": True}, "n is True"),
        ("01_train.run.json", {"inputs": []}, "inputs is []"),
        ("model.json", {"initial_weights": {"name": 5}}, "initial_weights.name is 5"),
        ("audit.json", {"checks": {"slice_gap": 7}}, "checks.slice_gap is 7"),
        ("metrics.json", {"n": 5, "positives": None, "metrics": {"auroc": {"value": 1, "ci95": None}}, "new": object}, ""),
        ("any.json", {"n": "text"}, ""),
    ],
)
def test_fields_have_their_kind(name: str, content: dict, why: str) -> None:
    assert schemas.wrong(name, content) == why


def test_a_field_that_is_missing_is_told_with_its_file_wherever_it_is_looked_up(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "metrics.json", {"folds": [{"fold": 0}], "metrics": {}})
    content = files.read_json(path)
    with pytest.raises(UserError, match=r"metrics\.json is damaged \(it lacks threshold\)"):
        content["folds"][0]["threshold"]
    assert content.get("n") is None and "n" not in content
    for twin in (copy.deepcopy(content), pickle.loads(pickle.dumps(content)), schemas.plain(content)):
        assert twin == content and type(twin) is dict and type(twin["folds"][0]) is dict
