"""scan.html: everything in one file, nothing of another place, nothing that a name can break, everything turned alike."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from helpers import browser, scans
from helpers.browser import needs_browser
from hemoct.scan import page
from hemoct.scan.result import Label


def data(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def picture(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.html"


def test_the_page_holds_all_and_asks_for_nothing(path):
    text = page.write(scans.scan(path.parent), path).read_text()
    assert "yes, on 2 of 6 slices" in text and text.count("Research use. No diagnosis") == 2 and "AUROC 0.9" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "http://" not in text and "https://" not in text
    told = data(text)
    assert len(told["presets"]["as stored"]) == len(told["captions"]) == 6 and told["called"] == [0, 0, 1, 1, 0, 0]
    assert "slice 3 of 6, hemorrhage 0.90 (called)" in told["captions"][2]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "a\u2028b"])
def test_no_name_breaks_the_page(path, name):
    scan = scans.scan(path.parent, types=[Label(4, name, np.full(6, 0.9), 0.5, name)])
    text = page.write(scan, path).read_text(encoding="utf-8")
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: seen.append(tag)
    parser.feed(text)
    assert seen.count("script") == 2 and "img" not in seen and name in data(text)["captions"][0]


def test_what_lies_on_slices_is_turned_with_them(path):
    scan = scans.scan(path.parent, source=scans.source(path.parent, orientation="left"))
    told = page.content(scan)
    assert (told["width"], told["height"]) == (40, 32)
    (box,) = told["boxes"][2]
    heat = picture(told["heat"][2])
    rows, columns = np.nonzero(np.array(heat)[..., 3])
    scale = told["width"] / heat.width
    assert np.abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale - box[:4]).max() <= 1
    outline = np.array(told["edema"][2][0]).reshape(-1, 2)
    assert (outline.min(axis=0) >= box[:2]).all() and (outline.max(axis=0) <= box[2:4]).all()


def test_hu_have_windows_and_long_scans_small_pictures(path):
    hu = np.full((6, 40, 32), 80, np.int16)
    source = scans.source(path.parent, kind="dicom", hu=hu, window="brain", spacing=(0.5, 0.5, 5.0))
    presets = page.content(scans.scan(path.parent, source=source))["presets"]
    levels = {name: float(np.median(np.array(picture(of[0]).convert("L")))) for name, of in presets.items()}
    assert list(levels) == ["brain", "subdural", "bone"] and levels["brain"] > 252
    assert abs(levels["subdural"] - 127.5) <= 2 and abs(levels["bone"] - 80) <= 2
    large = scans.source(path.parent, 120, grey=np.zeros((120, 512, 384), np.uint8))
    told = page.content(scans.scan(path.parent, 120, source=large, boxes=None, masks=None, heat=None))
    assert (told["width"], told["height"]) == (168, 224) and not told["boxes"] and not told["heat"]


def test_names_of_files_are_not_mailed(path):
    names = ["1.2.840.113619.2.55.3", "Doe^Jane.dcm"]
    source = scans.source(path.parent, 6, names=[names[0]] * 6, passed_over={names[1]: "is no image", "b": "is no image"})
    text = page.write(scans.scan(path.parent, source=source), path).read_text()
    assert not any(name in text for name in names) and "2 file(s) passed over: is no image" in text
    assert f"<h1>{path.parent.name}</h1>" in text


def test_a_scan_without_any_model_has_a_page(path):
    scan = scans.scan(path.parent, bleeding=None, types=[], boxes=None, masks=None, heat=None, models=[])
    assert "No model was given" in page.write(scan, path).read_text()


@needs_browser
def test_a_slice_that_is_decoded_late_is_not_drawn_over_the_one_that_is_shown(path):
    page.write(scans.scan(path.parent), path)
    with browser.opened() as tab:
        tab.show(path.as_uri())
        same, shown = tab.run("""(async () => {
            const usual = picture;
            let first = true;
            picture = (address) => {
                if (!first) return usual(address);
                first = false;
                return new Promise((done) => setTimeout(() => usual(address).then(done), 200));
            };
            const late = show(3);  // with a box
            await show(1);
            const drawn = canvas.toDataURL();
            await late;
            return [drawn === canvas.toDataURL(), row];
        })()""")
        assert same and shown == 1 and not tab.errors


def test_a_folder_that_is_called_by_a_dot_has_its_name(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    text = page.write(scans.scan(path.parent, source=scans.source(type(path)("."))), path).read_text()
    assert f"<h1>{path.parent.name}</h1>" in text
