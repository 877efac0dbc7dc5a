"""Figures draw what they can, and what no font has is readable."""

import warnings

import matplotlib.pyplot as plt
import pytest

from hemoct.base import figure as base_figure


@pytest.mark.parametrize(
    "name", ["\u51fa\u8840", "\u041a\u0440\u043e\u0432\u044c", "\u0646\u0632\u064a\u0641", "IVH \u51fa", "\U0001f9e0"]
)
@pytest.mark.parametrize("kind", ["bars", "ticks", "texts"])
def test_no_letter_is_drawn_as_an_empty_box(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr(base_figure, "FONTS", ("DejaVu Sans",))  # a machine with no other font
    base_figure._fonts.cache_clear()
    shown, axis = base_figure.figure(heading=f"heading {name}")
    if kind == "bars":
        axis.bar([name, "other"], [1, 2], label=name)
        axis.legend()
    elif kind == "ticks":
        axis.set_xticks([0, 1], [name, "b"], rotation=90)
        axis.set_ylabel(name)
    else:
        axis.text(0, 0, name)
        axis.annotate(name, (0, 0))
        axis.set_title(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base_figure.save(shown, tmp_path / "a.png")
    base_figure._fonts.cache_clear()


def test_what_has_no_letter_in_a_font_is_told_by_its_number():
    base_figure._fonts.cache_clear()
    assert base_figure.drawable("grey value\u00b2, 5\n \u2265 3") == "grey value\u00b2, 5\n \u2265 3"
    assert base_figure.drawable("\U0001f9e0 a", ("DejaVu Sans",)) == "U+1F9E0  a"


def test_a_figure_without_odd_letters_stays_as_it_is(tmp_path, monkeypatch):
    def draw():
        shown, axis = base_figure.figure()
        axis.bar(["a", "b"], [1, 2])
        axis.set_title("title")
        return base_figure.save(shown, tmp_path / "a.png").read_bytes()

    now = draw()
    monkeypatch.setattr(base_figure, "_escape", lambda shown: None)
    assert draw() == now
    plt.close("all")


def test_dollars_in_names_are_no_formula_and_powers_of_ten_are(tmp_path):
    """What stands between two dollars is mathtext to matplotlib: it is drawn otherwise, or stops."""
    shown, axis = base_figure.figure(heading="$a$")
    axis.bar(["$\\frac$", "$A$b_$"], [1, 2000], label="$x^$")
    axis.set(yscale="log", title="a$\\frac$b", xlabel=r"\$1$")
    axis.legend()
    base_figure.save(shown, tmp_path / "a.png")
    assert axis.get_title() == r"a\$\frac\$b" and not axis.title._preprocess_math(axis.get_title())[1]
    assert [label.get_text() for label in axis.get_xticklabels()] == [r"\$\frac\$", r"\$A\$b_\$"]
    assert any(label.get_text() == r"$\mathdefault{10^{3}}$" for label in axis.get_yticklabels())


def test_the_style_is_that_of_seaborn_which_is_not_imported_for_it():
    import seaborn as sns

    theirs = sns.axes_style("ticks") | sns.plotting_context("notebook")
    ours = {"font.size": 10, "axes.titlesize": 11, "axes.grid": True}
    left_out = {"font.family", "font.sans-serif", "image.cmap"}  # fonts are found by letter, and maps of colours always named
    expected = theirs | ours
    shown, _ = base_figure.figure()
    assert {name: plt.rcParams[name] for name in expected.keys() - left_out} == {
        name: value for name, value in expected.items() if name not in left_out
    }
    assert sns.color_palette("colorblind").as_hex() == base_figure.COLOURS
    plt.close(shown)
