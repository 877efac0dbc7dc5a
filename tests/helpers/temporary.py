"""Folders for what several tests share, made once a process and gone with it."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def folder(prefix: str) -> Path:
    """A new folder; forks of the process leave it alone."""
    made, owner = Path(tempfile.mkdtemp(prefix=f"hemoct-{prefix}-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(made, ignore_errors=True))
    return made
