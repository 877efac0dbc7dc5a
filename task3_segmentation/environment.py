"""Imported first by every numbered step of this folder; see scripts/environment.py."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

spec = spec_from_file_location("asked", Path(__file__).resolve().parents[1] / "scripts" / "environment.py")
spec.loader.exec_module(module_from_spec(spec))
