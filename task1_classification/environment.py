"""Imported first by every numbered step of this folder; see scripts/environment.py."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "environment.py"))
