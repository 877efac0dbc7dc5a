"""Images and masks are decoded in one way: turned, whole, one picture a file."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hemoct.base import pixels
from hemoct.base.errors import UserError

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
TURNS = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T, 6: np.rot90(GREY, -1),
         7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}  # fmt: skip


def turned(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_an_image_is_turned_as_exif_says_and_its_header_agrees(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"a{suffix}", orientation)
    read = pixels.read(path, "L")
    np.testing.assert_array_equal(read, TURNS[orientation])
    assert pixels.header(path)[:2] == read.shape[::-1]
    assert pixels.is_turned(path) == (orientation != 1 and suffix != ".tif")  # Pillow turns a TIFF by itself


def test_a_jpeg_is_turned_and_its_mask_too(tmp_path):
    path = turned(tmp_path / "a.jpg", 6)
    assert pixels.header(path) == (6, 8, 1) and pixels.read(path, "RGB").shape == (8, 6, 3)
    assert pixels.read_mask(path).levels.shape == (8, 6)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_several_pictures_in_one_file_stop(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pages = [Image.fromarray(GREY // 2 + 60 * number) for number in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert pixels.pages(path) == 3
    with pytest.raises(UserError, match=r"holds 3 pictures, .* write one file for each"):
        pixels.read(path, "L")


def test_a_thumbnail_beside_the_image_is_no_second_picture(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(GREY[::2, ::2])])
    assert pixels.pages(path) == 1
    np.testing.assert_array_equal(pixels.read(path, "L"), GREY)


# ---- masks

LESION = np.zeros((16, 24), dtype=bool)
LESION[4:10, 6:12] = True


def saved(path, image, **options):
    image.save(path, **options)
    return path


def palette(values, colours):
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (255, 255, 255)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_coloured_mask_also_as_jpeg(tmp_path, colour, suffix):
    image = Image.fromarray(np.where(np.kron(LESION, np.ones((8, 8)))[..., None], colour, 0).astype(np.uint8))
    mask = pixels.read_mask(saved(tmp_path / f"m{suffix}", image))
    assert mask.lesion.sum() == pytest.approx(36 * 64, rel=0.02) and not mask.note


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_the_alpha_channel(tmp_path, mode):
    image = Image.new(mode, LESION.shape[::-1])
    image.putalpha(Image.fromarray(LESION * np.uint8(255)))
    mask = pixels.read_mask(saved(tmp_path / "m.png", image))
    assert (mask.lesion == LESION).all() and mask.note == pixels.ALPHA


def test_a_palette_of_one_colour_is_read_by_its_indices(tmp_path):
    mask = pixels.read_mask(saved(tmp_path / "m.png", palette(LESION, [0] * 768)))
    assert (mask.lesion == LESION).all() and mask.note == pixels.BLACK_PALETTE and mask.value == 1


def test_the_border_in_voc_masks_is_no_lesion(tmp_path):
    colours = [0, 0, 0, 128, 0, 0, *[0] * 253 * 3, *pixels.VOC_BORDER]
    values = LESION.astype(int)
    values[3, 6:12] = values[10, 6:12] = 255
    mask = pixels.read_mask(saved(tmp_path / "m.png", palette(values, colours)))
    assert (mask.lesion == LESION).all() and mask.note == pixels.BORDER
    values[LESION] = 0
    only_border = pixels.read_mask(saved(tmp_path / "n.png", palette(values, colours)))
    assert not only_border.lesion.any()


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 15, 255), (1, 2, 255)])
def test_a_class_beside_255_is_not_taken_for_a_blurred_edge(tmp_path, values):
    levels = np.where(LESION, values[1], values[0])
    levels[3, 6:12] = values[2]
    path = saved(tmp_path / "m.png", Image.fromarray(levels.astype(np.uint8)))
    assert pixels.read_mask(path).lesion is None
    assert (pixels.read_mask(path, value=values[1]).lesion == LESION).all()


def test_a_mask_that_says_so_is_lesion_above_0(tmp_path):
    levels = np.array([[0, 1, 1], [3, 5, 0]], dtype=np.uint8)
    text = PngInfo()
    for key, value in pixels.MARK.items():
        text.add_text(key, value)
    for name, info in (("marked", text), ("plain", None)):
        Image.fromarray(levels).save(tmp_path / f"{name}.png", pnginfo=info)
    marked = pixels.read_mask(tmp_path / "marked.png")
    assert (marked.lesion == (levels > 0)).all() and marked.value == 255
    assert pixels.read_mask(tmp_path / "plain.png").lesion is None
    assert (pixels.read_mask(tmp_path / "marked.png", value=3).lesion == (levels == 3)).all()


# ---- the first bytes of a PNG


def test_a_png_of_one_picture(tmp_path):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        Image.new(mode, (7, 5)).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert pixels.plain_png(tmp_path / "a.png") == (7, 5, len(image.getbands())) == pixels.header(tmp_path / "a.png")


def test_others_are_left_to_pillow(tmp_path):
    picture, exif = Image.new("L", (7, 5)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.save(tmp_path / "moving.png", save_all=True, append_images=[Image.new("L", (7, 5), 9)])
    picture.save(tmp_path / "other.jpg")
    (tmp_path / "short.png").write_bytes((tmp_path / "moving.png").read_bytes()[:30])
    damaged = bytearray((tmp_path / "short.png").read_bytes() + (tmp_path / "moving.png").read_bytes()[30:])
    damaged[25] = 7
    (tmp_path / "damaged.png").write_bytes(damaged)
    names = ("damaged.png", "turned.png", "moving.png", "other.jpg", "short.png", "absent.png")
    assert [pixels.plain_png(tmp_path / name) for name in names] == [None] * 6
    assert pixels.header(tmp_path / "turned.png")[:2] == (5, 7)
