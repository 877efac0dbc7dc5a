"""scan.html in a real browser: keys, clicks, layers and windows do what they say; nothing overflows, nothing is asked for."""

import numpy as np
import pytest

from helpers import browser, scans
from helpers.browser import Page, needs_browser
from hemoct.scan import page

pytestmark = needs_browser
PEN = "document.getElementById('slice').getContext('2d')"
PIXELS = f"{PEN}.getImageData(0, 0, {PEN}.canvas.width, {PEN}.canvas.height).data"
COLOURED = f"(data => data.filter((value, at) => at % 4 == 0 && Math.abs(value - data[at + 2]) > 40).length)({PIXELS})"
"""how many pixels of the slice are"""


@pytest.fixture(scope="module")
def tab():
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def shown(tab, tmp_path):
    """The page of a scan in HU, or another one."""

    def show(width: int = 1280, dark: bool = False, **changed) -> Page:
        hu = np.full((6, 40, 32), 80, np.int16)
        source = scans.source(tmp_path, kind="dicom", hu=hu, window="brain", spacing=(0.5, 0.5, 5.0), stands_for=np.full(6, 5.0))
        path = page.write(scans.scan(tmp_path, **{"source": source} | changed), tmp_path / "scan.html")
        tab.errors.clear()
        tab.show(path.as_uri(), width, dark=dark)
        tab.wait("document.getElementById('slice').width > 100")
        return tab

    return show


def caption(tab: Page) -> str:
    return tab.run("document.getElementById('caption').textContent")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_opens_at_the_most_probable_slice_and_fits(shown, width, dark):
    tab = shown(width, dark)
    assert caption(tab).startswith("slice 3 of 6") and tab.overflow == 0 and tab.errors == []
    assert tab.run("document.querySelectorAll('#strip button').length") == 6
    assert tab.run("document.querySelectorAll('#key canvas').length") == 6
    assert tab.run("document.querySelector('.said').textContent") == "yes, on 2 of 6 slices"


def test_keys_and_clicks_lead_to_slices(shown):
    tab = shown()
    for key, number in (("ArrowRight", 4), ("ArrowLeft", 3), ("End", 6), ("ArrowRight", 6), ("Home", 1)):
        tab.press(key)
        assert caption(tab).startswith(f"slice {number} of 6"), key
    tab.click("#strip button:nth-child(5)")
    assert caption(tab).startswith("slice 5 of 6")
    tab.click("#curve")
    assert caption(tab).startswith("slice 4 of 6"), "the middle"
    tab.run("document.querySelectorAll('details')[0].open = true")
    tab.click("[data-slice='1']:is(a)")
    assert caption(tab).startswith("slice 2 of 6") and tab.errors == []


def test_layers_are_drawn_and_hidden_and_windows_change(shown):
    tab = shown()
    tab.wait(f"{COLOURED} > 50")
    for key in "123":
        tab.press(key)
    tab.wait(f"{COLOURED} === 0")
    tab.press("4")
    tab.wait(f"{COLOURED} > 50")
    assert tab.run("document.getElementById('show-heat').checked")
    tab.press("4")
    grey = f"{PEN}.getImageData(50, 50, 1, 1).data[0]"
    tab.wait(f"{grey} > 250")
    tab.press("o")
    tab.wait(f"{grey} < 100")
    assert tab.run("document.querySelector('[value=bone]').checked") and tab.errors == []


def test_no_name_runs_as_a_script(shown, tmp_path):
    evil = '<img src=x onerror="window.broken=1"></script><script>window.broken=1</script>'
    tab = shown(types=[scans.Label(4, evil, np.full(6, 0.9), 0.5, evil)])
    assert tab.run("window.broken") is None and "onerror" in caption(tab)
