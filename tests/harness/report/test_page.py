"""The page in a browser: what a reader can do with it, by mouse and by keyboard, on a small screen, and in the dark.

Without a browser these are skipped; what the page is made of is tested in test_report.py.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from assay.harness.arrays.records import record_name, write_record
from assay.harness.core.protocols import Cell, Estimate, Part, Record, Row
from assay.harness.core.registry import GROUPS, discover, study
from assay.harness.report.blocks import Block, Drawing, Fold, Found, Heading, Picture
from assay.harness.report.figures import save_strips
from assay.harness.report.plots import Dots, HeatMap, Line, Lines
from assay.harness.report.report import report

from .conftest import Page

EVIL = "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>=1+1"
VALUES = {"vae": (0.5, 0.496), "gan": (0.79, 0.786), "diffusion": (0.79, 0.794), EVIL: (0.1, 0.104)}
"""Precision of each generator with seeds 0 and 1; the second and the third cannot be told apart."""
NUMERICS = {"torch": "2.13.0", "device": "cpu", "dtype": "float32"}


def record(generator: str, seed: int, metric: str, value: float, **changes: Any) -> Record:
    cell = Cell("run", "digits", generator, metric, metric, seed, 100, {"k": 5})
    rows = [Row((metric,), Estimate(value, (value - 0.02, value + 0.02), 100))]
    better = "lower" if metric == "frechet_distance" else "higher"
    made = Record(
        cell=cell, version=1, kind="set", better=better, source="arXiv:1904.06991", columns=("name",), rows=rows,
        status="ok", error=None, inputs={}, numerics=NUMERICS,
    )  # fmt: skip
    return replace(made, **changes)


def looks(found: Found) -> Iterator[Block]:
    """A plot of each kind, and a gallery with words."""
    points = pd.DataFrame(
        {"at": [1.0, 2.0, 4.0], "value": [1.0, 0.8, 0.7], "low": [0.9, 0.7, 0.6], "high": [1.1, 0.9, 0.8]}
    )
    dots = pd.DataFrame({"score": ["a", "b"], "value": [0.2, -0.1], "low": [0.1, -0.2], "high": [0.3, 0.0]})
    square = pd.DataFrame({"score": ["a", "a", "b"], "other": ["a", "b", "b"], "value": [1.0, 0.3, 1.0]})
    plots = {
        "lines": Lines(
            {"": [Line("one", points, band=True), Line("two", points.assign(value=0.5), style="--")]}, "steps"
        ),
        "panels": Lines({"p": [Line("one", points)], "q": [Line("one", points)]}, "steps", level=0.5, logarithmic=True),
        "dots": Dots({"signal": [(dots, "#0969da")], EVIL: [(dots, "#0969da")]}, ["b", "a"], kinds={"#0969da": "raw"}),
        "map": HeatMap(square, "score", "other"),
    }
    yield Heading("Plots")
    for name, plot in plots.items():
        yield Drawing(found.folder / "figures" / f"{name}.png", f"A plot of {name}", plot)
    yield Fold("The gallery", [Picture(found.folder / "figures" / "gallery.png", "best and worst")])


@dataclass(frozen=True)
class Options:
    """None."""


def looked(run: object, options: Options) -> Iterator[Part]:
    """A study that was carried out elsewhere."""
    yield from ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    discover()
    folder = tmp_path_factory.mktemp("pages") / "run"
    before = {group: dict(entries) for group, entries in GROUPS.items()}
    study(page=looks, looks=("key",))(looked)
    for generator, values in VALUES.items():
        for seed, value in enumerate(values):
            write_record(folder, record(generator, seed, "precision", value))
            write_record(folder, record(generator, seed, "frechet_distance", 10 * (1 - value)))
    shown = Cell("run", "digits", "vae", "looks", "looks", 0, 100)
    write_record(folder, record("vae", 0, "x", 0.5, cell=shown, kind="study", columns=("key",)))
    strips = [torch.full((3, 1, 8, 8), grey, dtype=torch.uint8) for grey in (50, 200)]
    labels = [[f"{group} {i}: 0.{i}" for i in range(3)] for group in ("best", "worst")]
    save_strips(strips, folder / "figures" / "gallery.png", labels=labels)
    (folder.parent / "run.costs.csv").write_text(
        "dataset,generator,label,seed,n,seconds,peak_memory_mib\ndigits,gan,precision,0,100,1.25,512\n"
    )
    report(folder)
    yield folder
    for group, entries in GROUPS.items():
        entries.clear()
        entries.update(before[group])


@pytest.fixture
def opened(page: Page, folder: Path) -> Iterator[Page]:
    """The page, as somebody opens it from disk; nothing may be wrong with it in the end."""
    page.problems.clear()
    page.requests.clear()
    page.open(folder / "report.html")
    page.run("try { localStorage.clear() } catch {}")
    page.open(folder / "report.html")
    yield page
    assert page.problems == []
    assert set(page.requests) <= {"file", "data", "blob", "about"}, "nothing comes from elsewhere"
    assert page.run("window.broken") is None, "no text of a record is run"


ROWS = "[...document.querySelectorAll('.leaderboard tbody:not([hidden])')].map(b => b.rows[0].cells[0].textContent)"
HEAD = "[...document.querySelectorAll('.leaderboard thead button')].find(b => b.textContent.startsWith('{}'))"


def order(page: Page) -> list[str]:
    """The generators from above, without what else stands in their cells."""
    rows = page.run(ROWS)
    return [next(name for name in VALUES if name in row) for row in rows]


def test_a_click_on_a_column_sorts_seeds_stay_with_their_mean(opened: Page) -> None:
    opened.run(HEAD.format("precision") + ".click()")
    assert order(opened) == ["diffusion", "gan", "vae", EVIL], "the best first"
    opened.run(HEAD.format("precision") + ".click()")
    assert order(opened) == [EVIL, "vae", "gan", "diffusion"]
    opened.run(HEAD.format("frechet_distance") + ".click()")
    assert order(opened) == ["diffusion", "gan", "vae", EVIL], "a distance is best where it is least"
    sorts = "[...document.querySelectorAll('.leaderboard thead th')].map(h => h.ariaSort)"
    assert opened.run(sorts) == [None, None, "ascending", None] or opened.run(sorts).count("ascending") == 1
    inside = "[...document.querySelectorAll('.leaderboard tbody')].every(b => b.rows.length == 3)"
    assert opened.run(inside)


def test_the_best_and_what_cannot_be_told_from_it_are_marked_and_means_have_wider_intervals(opened: Page) -> None:
    cell = "[...document.querySelectorAll('.leaderboard tbody')].find(b => b.textContent.includes('{}')).rows[0]"
    column = (
        "[...document.querySelectorAll('.leaderboard thead th')].findIndex(h => h.textContent.startsWith('precision'))"
    )
    found = {name: opened.run(f"{cell.format(name)}.cells[{column}].innerText") for name in ("vae", "gan", "diffusion")}
    assert "best" in found["diffusion"]
    assert "tie" in found["gan"]
    assert "best" not in found["vae"]
    assert "tie" not in found["vae"]
    data = opened.run(f"({{...{cell.format('vae')}.cells[{column}].dataset}})")
    assert float(data["value"]) == pytest.approx(0.498)
    assert float(data["high"]) - float(data["value"]) == pytest.approx(math.hypot(12.7062 * 0.002, 0.02), rel=1e-4)


def test_words_filter_rows(opened: Page) -> None:
    opened.run("document.querySelector('.tools input[type=search]').focus()")
    opened.type("GAN")
    assert order(opened) == ["gan"]
    assert opened.run("document.querySelector('.tools .count').textContent") == "1 of 4 rows"


def test_columns_can_be_left_out(opened: Page) -> None:
    labels = "[...document.querySelectorAll('.tools .columns label')]"
    opened.run(f"{labels}.find(l => l.textContent.startsWith('precision')).click()")
    heads = "[...document.querySelectorAll('.leaderboard thead th')]"
    texts = opened.run(f"{heads}.filter(h => h.checkVisibility()).map(h => h.textContent)")
    assert not any(text.startswith("precision") for text in texts)
    assert any(text.startswith("frechet_distance") for text in texts)


def test_single_seeds_open_at_a_click_each_with_its_own_record(opened: Page) -> None:
    row = "[...document.querySelectorAll('.leaderboard tbody')].find(b => b.textContent.includes('gan'))"
    assert opened.run(f"[...{row}.rows].map(r => r.checkVisibility())") == [True, False, False]
    opened.run(f"{row}.querySelector('button.seeds').click()")
    assert opened.run(f"[...{row}.rows].map(r => r.checkVisibility())") == [True, True, True]
    assert opened.run(f"{row}.rows[0].querySelectorAll('a.number').length") == 0, "a mean has no record"
    assert opened.run(f"{row}.rows[1].querySelectorAll('a.number').length") == 2


def test_a_number_leads_to_its_command_config_versions_device_and_cost(opened: Page) -> None:
    cell = record("gan", 0, "precision", 0.8).cell
    opened.run(f"location.hash = 'record-{Path(record_name(cell)).stem}'")
    opened.until("document.getElementById('details').open")
    command = "assay run generator=gan dataset=digits metric=precision seed=0 n=100"
    assert opened.run("document.querySelector('#details pre').textContent") == command
    told = opened.run("document.querySelector('#details .inside').innerText")
    for part in ("0.79 (0.77 to 0.81)", "k\n5", "2.13.0", "cpu", "float32", "1.25", "512", "version 1"):
        assert part in told
    opened.run("document.querySelector('#details .close').click()")
    opened.until("!location.hash")


def test_the_address_of_a_row_opens_it(page: Page, folder: Path) -> None:
    page.open(folder / "report.html")
    name = page.run("[...document.querySelectorAll('.leaderboard tr.seed')].at(-1).id")
    page.open(folder / "report.html", f"#{name}")
    assert page.run(f"document.getElementById('{name}').checkVisibility()")
    page.until(f"document.activeElement.closest('tr')?.id === '{name}'")


def test_the_keyboard_is_enough(opened: Page) -> None:
    """From the top to a number and what is behind it, and back to the same number."""

    def until(selector: str) -> None:
        for _ in range(200):
            opened.press("Tab")
            if opened.run(f"document.activeElement.matches({selector!r})"):
                return
        raise AssertionError(f"no Tab leads to {selector}")

    opened.press("Tab")
    assert opened.run("document.activeElement.className") == "skip"
    until("#theme")
    opened.press("Enter")
    assert opened.run("document.documentElement.dataset.theme") == "dark"
    until(".leaderboard thead button")
    opened.press("Enter")
    assert opened.run("document.activeElement.closest('th').ariaSort") == "ascending"
    until("button.seeds")
    opened.press("Enter")
    until("a.number")
    opened.press("Enter")
    opened.until("document.getElementById('details').open")
    assert "assay run" in opened.run("document.querySelector('#details pre').textContent")
    opened.press("Escape")
    opened.until("!document.getElementById('details').open")
    assert opened.run("document.activeElement.matches('a.number')")
    until("summary")
    until("figure.plot button.numbers")
    opened.press("Enter")
    assert opened.run("document.querySelectorAll('#details tbody tr').length") == 6
    opened.press("Escape")


def test_dark_is_asked_of_the_system_and_can_be_turned(page: Page, folder: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.open(folder / "report.html")
    page.run("try { localStorage.clear() } catch {}")
    page.open(folder / "report.html", dark=True)
    dark = page.run(ground)
    page.run("document.getElementById('theme').click()")
    light = page.run(ground)
    assert (dark, light) == ("rgb(13, 17, 23)", "rgb(255, 255, 255)")
    assert page.run("document.getElementById('theme').ariaPressed") == "false"
    page.run("try { localStorage.clear() } catch {}")


def test_every_kind_of_plot_is_drawn_and_drawn_again_in_the_dark(opened: Page) -> None:
    names = opened.run("[...document.querySelectorAll('figure.plot')].map(f => f.id)")
    assert names == ["plot-lines", "plot-panels", "plot-dots", "plot-map"]
    for theme in ("light", "dark"):
        for name in names:
            opened.run(f"document.getElementById('{name}').scrollIntoView()")
            opened.until(f"document.getElementById('{name}').dataset.drawn === '{theme}'")
            marks = opened.run(f"document.querySelectorAll('#{name} svg [aria-roledescription]').length")
            assert marks > 3, name
        opened.run("document.getElementById('theme').click()")
    opened.run("try { localStorage.clear() } catch {}")


def test_a_gallery_opens_large_with_what_is_said_of_each_sample(opened: Page) -> None:
    opened.run("[...document.querySelectorAll('details')].find(d => d.textContent.includes('The gallery')).open = true")
    opened.run("document.querySelector('button.enlarge').click()")
    tiles = opened.run("[...document.querySelectorAll('#details .sheet li')].map(l => l.textContent)")
    assert tiles == [f"{group} {i}: 0.{i}" for group in ("best", "worst") for i in range(3)]
    assert opened.run("[...document.querySelectorAll('#details canvas')].map(c => c.ariaLabel)") == tiles
    middle = "c.getContext('2d').getImageData(4, 4, 1, 1).data[0]"
    assert opened.run(f"[...document.querySelectorAll('#details canvas')].map(c => {middle})") == [
        50,
        50,
        50,
        200,
        200,
        200,
    ]


def test_what_is_downloaded_are_the_rows_that_are_shown_and_no_formulas(opened: Page) -> None:
    opened.run("URL.createObjectURL = blob => { window.saved = blob; return 'blob:null/x' }")
    opened.run("HTMLAnchorElement.prototype.click = () => {}")
    opened.run("document.querySelector('.tools button.csv').click()")
    rows = opened.run("saved.text()").splitlines()
    assert rows[0] == (
        "generator,seed,frechet_distance ↓,frechet_distance ↓ low,frechet_distance ↓ high,"
        "precision ↑,precision ↑ low,precision ↑ high"
    )
    gan = next(row for row in rows if row.startswith("gan"))
    assert gan.split('"')[1] == "0, 1"
    assert float(gan.split(",")[3]) == pytest.approx(2.12)
    assert len(rows) == 5
    inert = "[...document.querySelectorAll('.leaderboard th[scope=row]')][0].childNodes[1].textContent = '=cmd|x'"
    opened.run(inert)
    opened.run("document.querySelector('.tools button.csv').click()")
    assert any(row.startswith(("'=cmd", "\"'=cmd")) for row in opened.run("saved.text()").splitlines())


@pytest.mark.parametrize("width", [400, 700, 1000, 1600])
def test_the_page_never_scrolls_sideways_and_numbers_are_in_sight(page: Page, folder: Path, width: int) -> None:
    page.open(folder / "report.html", width=width)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    page.run("document.querySelectorAll('figure.plot').forEach(f => f.scrollIntoView())")
    page.until("document.getElementById('plot-map').dataset.drawn !== undefined")
    assert page.run("document.documentElement.scrollWidth") <= width
    first = page.run("document.querySelector('.leaderboard td[data-value]').getBoundingClientRect().right")
    assert first <= width, "the first number can be read without scrolling"


@pytest.mark.parametrize("dark", [False, True])
def test_an_accessibility_checker_finds_nothing_serious(page: Page, folder: Path, dark: bool) -> None:
    """axe-core, https://github.com/dequelabs/axe-core: ASSAY_AXE=PATH names its axe.min.js, e.g. from npm."""
    axe = os.environ.get("ASSAY_AXE")
    if not axe:
        pytest.skip("no accessibility checker: ASSAY_AXE=PATH names axe.min.js of axe-core")
    page.open(folder / "report.html", dark=dark)
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    page.run(Path(axe).read_text() + "; 0")
    found = page.run(
        "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 200))]))"
    )
    assert [violation for violation in found if violation[0] in ("serious", "critical")] == []
