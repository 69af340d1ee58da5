"""The pieces of pages: what each shows in HTML and in Markdown, what it leaves out, and that no text becomes markup."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from assay.harness.report.blocks import (
    Block,
    Drawing,
    Fold,
    Found,
    Grid,
    Heading,
    Picture,
    Table,
    Text,
    Verdicts,
    numbers,
    printed,
)
from assay.harness.report.plots import Dots, HeatMap, Line, Lines
from assay.harness.report.verdict import Finding, Verdict

EVIL = "<script>alert('x')</script>"


def frame(**columns: list[Any]) -> pd.DataFrame:
    count = len(columns["value"])
    return pd.DataFrame({"run": ["r"] * count, **columns, "low": [0.0] * count, "high": [1.0] * count})


TABLE = frame(score=["a", "a", "b", "b"], group=["x", "y", "x", "y"], value=[0.25, -1.0, float("nan"), 0.5])
CELLS = numbers(TABLE, "score", "group")


def test_numbers_are_found_by_their_keys_and_undefined_ones_are_none() -> None:
    assert {key: row.value for key, row in CELLS.items()} == {("a", "x"): 0.25, ("a", "y"): -1.0, ("b", "y"): 0.5}
    assert list(numbers(TABLE[TABLE.group == "y"], "score")) == ["a", "b"]
    assert numbers(TABLE.iloc[:0], "score", "group") == {}


def test_a_table_comes_in_parts_and_rows_are_found_by_what_they_are_about() -> None:
    found = Found({"groups": pd.concat([TABLE, TABLE.assign(run="s", share=0.5)])}, [], Path())
    parts = list(found.parts("groups", "score"))
    assert [about for about, _ in parts] == [{"run": run, "score": score} for run in "rs" for score in "ab"]
    assert [len(part) for _, part in parts] == [2, 2, 2, 2]
    assert found.matching("groups", {"run": "s", "share": 0.5, "group": "x"}).score.tolist() == ["a", "b"]
    assert len(found.matching("groups", {})) == 8
    assert len(found.matching("groups", {"group": "z"})) == len(found.matching("others", {"group": "x"})) == 0


def test_a_grid_leaves_out_rows_without_numbers_and_marks_missing_cells() -> None:
    grid = Grid("score", ["b", "c", "a"], ["x", "y"], CELLS)
    assert grid.markdown().splitlines() == [
        "| score | x | y |", "| --- | --- | --- |", "| b | - | 0.5 (0 to 1) |", "| a | 0.25 (0 to 1) | -1 (0 to 1) |",
    ]  # fmt: skip
    assert grid.html().count("<tr>") == 3
    assert (Grid("score", ["c"], ["x"], CELLS).html(), Grid("score", ["c"], ["x"], CELLS).markdown()) == ("", "")
    assert Grid("score", ["b"], ["x"], CELLS).markdown() == "", "its only number is in a column that is not shown"


def test_columns_of_a_grid_have_titles_and_cells_marks_and_text_of_their_own() -> None:
    grid = Grid(
        "", ["a"], {"y": "the second", "x": "the first"}, CELLS, marks={("a", "y"): " *"},
        text=lambda row: f"{row.value:+.1f}",
    )  # fmt: skip
    assert grid.markdown().splitlines() == [
        "|  | the second | the first |",
        "| --- | --- | --- |",
        "| a | -1.0 * | +0.2 |",
    ]


def test_a_grid_is_shaded_by_sign_where_a_number_is() -> None:
    html = Grid("score", ["a", "b"], ["x", "y"], CELLS, shade=lambda value: value).html()
    assert html.count("background:") == 3
    assert "rgba(225,111,36,0.550)" in html, "-1 is as orange as it gets"
    assert "rgba(9,105,218,0.138)" in html, "0.25 is a light blue"
    assert "background" not in Grid("score", ["a", "b"], ["x", "y"], CELLS).html()


def test_a_paragraph_and_a_heading() -> None:
    assert (Text("so it is", "note").html(), Text("so it is").html()) == (
        '<p class="note">so it is</p>', "<p>so it is</p>"
    )  # fmt: skip
    assert (Text("").html(), Text("").markdown()) == ("", "")
    assert (Heading("What is it?", 2).html(), Heading("What is it?").markdown()) == (
        '<h2 id="what-is-it">What is it?</h2>', "### What is it?"
    )  # fmt: skip


def test_verdicts_are_lines_below_a_title_and_are_printed() -> None:
    block = Verdicts([Verdict("It rises", CELLS["a", "x"]), "plainly"], "vae")
    assert block.markdown() == "vae\n\n- It rises: not decided, 0.25 (0 to 1).\n- plainly"
    assert block.html() == (
        '<p>vae</p><ul><li><span class="decision open">not decided</span> It rises: <b>0.25 (0 to 1)</b>.</li>'
        "<li>plainly</li></ul>"
    )
    assert block.printed() == ["vae:", "  It rises: not decided, 0.25 (0 to 1).", "  plainly"]
    assert Verdicts(["plainly"]).markdown() == "- plainly"
    assert printed([Heading("not printed"), block, Text("nor this")]) == block.printed()


def test_a_picture_is_shown_where_it_is_there(tmp_path: Path) -> None:
    picture = Picture(tmp_path / "figures" / "strip.png", "a strip")
    assert (picture.html(), picture.markdown(), picture.printed()) == ("", "", [])
    assert Fold("strips", [picture]).html() == Fold("strips", [picture]).markdown() == ""
    (tmp_path / "figures").mkdir()
    Image.new("L", (2, 2)).save(picture.path)
    assert "data:image/" in picture.html()
    assert picture.markdown() == "![a strip](figures/strip.png)"
    assert picture.printed() == [f"  picture: {picture.path}"]
    assert Fold("strips", [picture, Text("")]).markdown() == "**strips**\n\n![a strip](figures/strip.png)"
    assert Fold("strips", [picture]).html().startswith("<details><summary>strips</summary><figure>")


def test_what_is_said_of_many_scores_is_short_and_their_names_open() -> None:
    finding = Finding(["density(k=1)", "density(k=2)", "rarity"], "{fall|falls}")
    assert (str(finding), finding.sentence) == ("density(k=1), density(k=2), rarity: fall.", "3 scores fall.")
    assert finding.families == "density (2 settings), rarity"
    html = Verdicts([finding, Finding(["rarity"], "{fall|falls}")]).html()
    assert html.count("<summary>3 scores fall.") == 1
    assert "<li>rarity: falls.</li>" in html


def test_a_drawing_is_saved_with_the_page_and_drawn_by_it(tmp_path: Path) -> None:
    curve = Line("one", pd.DataFrame({"at": [1.0, 2.0], "value": [0.5, float("nan")]}))
    drawing = Drawing(tmp_path / "figures" / "curve.png", "a curve", Lines({"": [curve]}, "images"))
    assert not drawing.path.exists()
    spec = json.loads(re.findall(r'<script type="application/json">(.*)</script>', drawing.html())[0])
    assert spec["data"]["packed"]["at"] == [1.0, 2.0]
    assert spec["data"]["packed"]["value"] == [0.5, None], "JSON knows no NaN"
    assert drawing.path.is_file()
    assert drawing.markdown() == "![a curve](figures/curve.png)"


def test_the_plots_of_a_page_have_the_numbers_of_their_tables() -> None:
    sets = [(TABLE[TABLE.group == "x"], "blue"), (TABLE[TABLE.group == "y"], "red")]
    spec = Dots({"x": sets}, ["b", "a"], kinds={"blue": "plain", "red": "partial"}).spec()
    assert spec["data"] == {
        "count": 3,
        "packed": {
            "panel": {"of": ["x"], "at": [0, 0, 0]}, "score": {"of": ["a", "b"], "at": [0, 0, 1]},
            "kind": {"of": ["plain", "partial"], "at": [0, 1, 1]},
            "value": [0.25, -1.0, 0.5], "low": [0.0] * 3, "high": [1.0] * 3,
        },
    }  # fmt: skip
    square = HeatMap(frame(score=["a", "a", "b"], other=["a", "b", "b"], value=[1.0, 0.25, 1.0]), "score", "other")
    assert square.spec()["data"]["packed"]["value"] == [1.0, 0.25, 0.25, 1.0]


@pytest.mark.parametrize(
    "block",
    [
        Heading(EVIL), Text(EVIL), Text(EVIL, "failed"), Verdicts([EVIL], EVIL), Table([EVIL], [[EVIL]]),
        Grid(EVIL, ["a"], {"x": EVIL}, CELLS, marks={("a", "x"): EVIL}), Fold(EVIL, [Text(EVIL)]),
    ],
    ids=lambda block: type(block).__name__,
)  # fmt: skip
def test_no_text_becomes_markup(block: Block) -> None:
    assert "&lt;script&gt;" in block.html()
    assert "<script" not in block.html()
    assert "&lt;script" in block.markdown()
    assert "<script" not in block.markdown()


def test_captions_become_no_markup(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    picture = Picture(tmp_path / "x.png", EVIL + '" onload="')
    assert "<script" not in picture.html() + picture.markdown()
    assert 'onload="' not in picture.html()


def test_curves_stand_in_panels_with_bands_and_a_level() -> None:
    points = pd.DataFrame({"at": [10.0, 1.0], "value": [2.0, 1.0], "low": [1.5, 0.5], "high": [2.5, 1.5]})
    curves = [Line("with a band", points, band=True), Line("without", points, "red", style="--")]
    figure = Lines(
        {"one": curves, "two": curves, "three": curves[:1]}, "images", "loss", 0.0, logarithmic=True
    ).figure()
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three"]
    first = figure.axes[0]
    assert first.lines[0].get_xdata().tolist() == [1.0, 10.0], "in the order of what stands across"
    assert (len(first.collections), first.lines[1].get_color(), first.get_xscale()) == (1, "red", "log")
    assert [len(axis.lines) for axis in figure.axes] == [3, 3, 2]
    assert [axis.get_legend() is not None for axis in figure.axes] == [True, False, False]


def test_dots_stand_in_the_order_asked_for_and_one_without_a_value_is_left_out() -> None:
    sets = [(TABLE[TABLE.group == "x"], "blue"), (TABLE[TABLE.group == "y"], "red")]
    figure = Dots({"x": sets}, ["b", "a", "c"]).figure()
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a", "c"]
    assert [line.get_xdata().tolist()[1] for line in axis.lines[:2]] == [0.25, -1.0]
    assert axis.lines[0].get_xdata().tolist()[0] != 0.5, "the value of b in x is undefined"


def test_a_heat_map_has_both_halves_of_the_square() -> None:
    table = frame(score=["a", "a", "b"], other=["a", "b", "b"], value=[1.0, 0.25, 1.0])
    axis = HeatMap(table, "score", "other").figure().axes[0]
    assert [text.get_text() for text in axis.texts] == ["1.0", ".2", ".2", "1.0"]


def test_a_figure_is_drawn_again_only_if_what_it_shows_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    drawn: list[int] = []
    table = pd.DataFrame({"at": [0, 1], "value": [1.0, 2.0]})
    figure = Lines.figure

    def counted(plot: Lines) -> Figure:
        drawn.append(1)
        return figure(plot)

    monkeypatch.setattr(Lines, "figure", counted)

    def page(points: pd.DataFrame) -> bytes:
        Drawing(path, "", Lines({"": [Line("a", points)]}, "at")).html()
        return path.read_bytes()

    path = tmp_path / "figures" / "curve.png"
    first = page(table)
    assert page(table.copy()) == first
    assert len(drawn) == 1
    assert page(table.assign(value=[1.0, 3.0])) != first
    assert len(drawn) == 2
    assert page(table) == first
    assert len(drawn) == 3
    path.write_bytes(b"damaged")
    assert page(table) == first
    assert len(drawn) == 4
