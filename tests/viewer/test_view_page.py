"""The viewer in a real browser: what a person sees, clicks and presses."""

import threading
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers import browser, viewed
from helpers.browser import Page, needs_browser
from hemoct.base.workspace import Workspace
from hemoct.viewer import scan, server
from hemoct.viewer.dataset import DatasetView
from hemoct.viewer.server import Content

pytestmark = needs_browser
SETTLED = "window.hemoct && (hemoct.state.settled === hemoct.state.asked || !document.getElementById('trouble').hidden)"
LOOKS = [(1280, False), (1280, True), (390, False), (390, True)]


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser.opened() as page:
        yield page


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Content:
    work = Workspace(tmp_path_factory.mktemp("viewed"), "toy")
    viewed.make(work)
    return DatasetView(work).content()


@pytest.fixture
def show(tab):
    """Open content in the tab and wait until the first scan is drawn; returns the tab."""
    with_server = []

    def shown(content: Content, width: int = 1280, dark: bool = False) -> Page:
        made = server.Server(content)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        with_server.append((made, thread))
        tab.errors.clear()
        tab.show(made.address, width, dark=dark)
        tab.wait(SETTLED)
        assert tab.run("document.getElementById('trouble').hidden"), text(tab, "#trouble")
        return tab

    yield shown
    tab.show("about:blank#")
    for made, thread in with_server:
        made.shutdown()
        thread.join()
        made.server_close()


def text(page: Page, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r}).textContent")


def state(page: Page) -> tuple[int, int]:
    """Case and slice."""
    return tuple(page.run("[hemoct.state.case, hemoct.state.slice]"))


def coloured(page: Page) -> dict[str, float]:
    """Of the canvas as it is drawn now: pixels in the colours of truth and of prediction, mean of all values."""
    page.run("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    return page.run("""(() => {
      const nv = hemoct.viewer(), gl = nv.gl, found = { truth: 0, prediction: 0, mean: 0 };
      nv.drawScene();
      const values = new Uint8Array(gl.drawingBufferWidth * gl.drawingBufferHeight * 4);
      gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, values);
      for (let at = 0; at < values.length; at += 4) {
        const [red, green, blue] = values.subarray(at, at + 3);
        found.truth += green > red + 60 && green > 100;
        found.prediction += red > blue + 80 && red > 120;
        found.mean += (red + green + blue) / values.length;
      }
      return found;
    })()""")


def change(page: Page, name: str, value: object) -> None:
    """Set a field as a person does."""
    events = "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind))"
    page.run(f"(() => {{ const field = document.getElementById({name!r}); field.value = {str(value)!r}; {events} }})()")


def test_the_worst_patient_comes_first_and_a_mistake_leads_to_its_slice(show, dataset):
    page = show(dataset)
    assert text(page, "#case-list li") == "00022 wrong" and state(page)[0] == 1
    page.click("#tab-mistakes")
    assert page.run("[...document.querySelectorAll('#mistake-list li')].length") == 6
    page.click("#mistake-list li:nth-child(1) button")
    page.wait("hemoct.state.case === 0 && hemoct.state.slice === 0 && " + SETTLED)
    assert "0001_00" in text(page, "#caption") and text(page, "#caption .wrong") == "hemorrhage 0.90 yes"
    change(page, "kind", "2 false box")
    assert page.run("[...document.querySelectorAll('#mistake-list li')].map(e => e.querySelector('span').textContent)") == [
        "0003, slice 1"
    ]
    page.press("n")
    page.wait("hemoct.state.case === 2 && hemoct.state.slice === 0 && " + SETTLED)
    assert page.errors == []


def test_slices_are_scrolled_by_wheel_keys_and_the_rail(show, dataset):
    page = show(dataset)
    page.press("Home")
    assert state(page)[1] == 0
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert state(page)[1] == 2 and "slice 3 of 4" in text(page, "#caption")
    page.press("ArrowDown")
    assert state(page)[1] == 1
    page.wheel(640, 300, -100)
    page.wait("hemoct.state.slice === 2")
    page.wheel(640, 300, 100)
    page.wait("hemoct.state.slice === 1")
    page.press("End")
    page.press("ArrowUp")
    assert state(page)[1] == 3
    page.click("#before")
    assert state(page)[1] == 2
    change(page, "slider", 0)
    assert state(page)[1] == 0


def test_planes_and_windows_change_what_is_seen(show, dataset):
    page = show(dataset)
    bright = coloured(page)["mean"]
    change(page, "level", 220)
    assert coloured(page)["mean"] < bright and text(page, "#level-value") == "220"
    page.press("1")
    assert coloured(page)["mean"] == pytest.approx(bright, rel=0.01)
    for key, plane in (("c", "coronal"), ("s", "sagittal"), ("m", "multi"), ("a", "axial")):
        page.press(key)
        assert page.run("document.querySelector('#planes [aria-pressed=true]').textContent") == plane
    page.press("c")
    assert "coronal" in text(page, "#caption")


def test_truth_and_prediction_are_drawn_and_can_be_turned_off(show, dataset):
    page = show(dataset)
    page.press("End")  # both lie on the same pixels, truth on top
    both = coloured(page)
    assert both["truth"] > 50
    page.press("t")
    only_predicted = coloured(page)
    assert only_predicted["prediction"] > 50 and only_predicted["truth"] == 0
    page.press("r")
    assert coloured(page)["truth"] == coloured(page)["prediction"] == 0
    page.press("t")
    change(page, "truth-opacity", 0)
    assert coloured(page)["truth"] == 0
    change(page, "truth-opacity", 80)
    assert coloured(page)["truth"] == pytest.approx(both["truth"], rel=0.05)


def test_another_experiment_is_chosen_and_the_lists_follow(show, dataset):
    page = show(dataset)
    change(page, "task-1", "")
    page.wait("!document.querySelector('#sort').textContent.includes('task 1') && " + SETTLED)
    assert text(page, "#case-list li") == "00021 wrong"  # boxes come next
    assert page.run("document.querySelectorAll('#chart .line').length") == 0


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_the_page_fits_and_can_be_read(show, dataset, tmp_path, width, dark):
    page = show(dataset, width, dark)
    assert page.overflow == 0
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 150) == dark
    assert "No diagnosis" in text(page, "#research")
    unnamed = """[...document.querySelectorAll('button, input, select, canvas, svg')].filter(e => !e.textContent.trim() &&
      !e.getAttribute('aria-label') && !e.labels?.length).map(e => e.outerHTML)"""
    assert page.run(unnamed) == []
    assert page.picture(tmp_path / "page.png", whole=True).stat().st_size > 10_000
    assert page.errors == []


def test_a_scan_alone_is_shown_in_its_windows(show, tmp_path):
    hu = np.full((24, 24, 6), -1000, np.int16)
    hu[4:20, 4:20] = np.random.default_rng(0).integers(20, 50, (16, 16, 6))
    hu[8:12, 8:12, 2:4] = 75
    nib.save(nib.Nifti1Image(hu, np.diag([8.0, 8.0, 20.0, 1.0])), tmp_path / "head.nii.gz")
    page = show(scan.content(Path(tmp_path / "head.nii.gz")))
    assert page.run("[...document.getElementById('presets').children].map(e => e.textContent)") == [
        "brain",
        "subdural",
        "stroke",
        "bone",
    ]
    assert not page.run("document.getElementById('lists').checkVisibility()") and page.run(
        "document.getElementById('overlays').hidden"
    )
    assert "slice 4 of 6" in text(page, "#caption")
    page.press("4")
    assert (text(page, "#level-value"), text(page, "#width-value")) == ("600", "2800")


def test_a_file_that_is_gone_is_told_on_the_page(tab, show, tmp_path):
    work = Workspace(tmp_path, "toy")
    viewed.make(work)
    content = DatasetView(work).content()
    page = show(content)
    (work.raw / "0003_01.png").unlink()
    page.run("[...document.querySelectorAll('#case-list button')].find(e => e.dataset.case === '2').click()")
    page.wait("!document.getElementById('trouble').hidden")
    assert "0003_01.png" in text(page, "#trouble")
