"""The quick look at a PNG says what Pillow says, or nothing."""

from pathlib import Path

from PIL import Image

from hemoct.base import pixels


def test_a_png_of_one_picture(tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        Image.new(mode, (7, 5)).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert pixels.plain_png(tmp_path / "a.png") == (7, 5, len(image.getbands())) == pixels.header(tmp_path / "a.png")


def test_others_are_left_to_pillow(tmp_path: Path) -> None:
    picture, turned = Image.new("L", (7, 5)), Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=turned)
    picture.save(tmp_path / "moving.png", save_all=True, append_images=[Image.new("L", (7, 5), 9)])
    picture.save(tmp_path / "other.jpg")
    (tmp_path / "short.png").write_bytes((tmp_path / "moving.png").read_bytes()[:30])
    damaged = bytearray((tmp_path / "short.png").read_bytes() + (tmp_path / "moving.png").read_bytes()[30:])
    damaged[25] = 7
    (tmp_path / "damaged.png").write_bytes(damaged)
    names = ("damaged.png", "turned.png", "moving.png", "other.jpg", "short.png", "absent.png")
    assert [pixels.plain_png(tmp_path / name) for name in names] == [None] * 6
    assert pixels.header(tmp_path / "turned.png")[:2] == (5, 7)
