"""scripts/81_view.py as a person runs it."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from helpers import viewed
from hemoct.base.workspace import REPOSITORY

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process there")
@pytest.mark.parametrize("words", [("outputs/toy",), ("--dataset", "toy")])
def test_the_page_is_there_until_ctrl_c(work, words) -> None:
    viewed.make(work)
    command = [sys.executable, "-u", str(REPOSITORY / "scripts/81_view.py"), *words, "--root", str(work.root), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work.root,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it for what runs in the background
    ) as process:  # fmt: skip
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", process.stdout.readline())[0]
            assert process.stdout.readline().startswith("from another machine first: ssh -L")
            assert process.stdout.readline() == "Ctrl-C ends it\n"
            assert b'"toy"' in DIRECT.open(f"{address}index.json", timeout=120).read()
            with pytest.raises(urllib.error.HTTPError, match="404"):
                DIRECT.open(re.sub(r"/[\w-]+/$", "/", address), timeout=120)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
            assert (process.returncode, out, err) == (0, "\nclosed\n", "")
        finally:
            process.kill()
