"""The page: one file that needs no other, with nothing in it that was not meant, and every failure on it."""

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.harness.arrays.records import record_name, write_record
from assay.harness.core.protocols import Cell, Estimate, Part, Record, Row
from assay.harness.core.registry import discover, study
from assay.harness.report.blocks import Block, Found, Grid, Picture, Text
from assay.harness.report.figures import LONGEST, slug
from assay.harness.report.html import TEMPLATES
from assay.harness.report.report import report

EVIL = 'vae(<script>alert(1)</script> & "q")'
RECORD = Record(
    cell=Cell("study", "digits", EVIL, "precision", "precision", 0, 100), version=1, kind="set", better="higher",
    source="not published", columns=("name",), rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok",
    error=None, inputs={}, numerics={"torch": "2"},
)  # fmt: skip
FAILED = replace(
    RECORD, cell=replace(RECORD.cell, metric="recall", label="recall"), status="failed", error="k < 5 <b>bad</b>",
    rows=[],
)  # fmt: skip


class Document(HTMLParser):
    """What a browser would find: tags with their attributes, scripts, data by id, and the style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts, self.data, self.style = list[str](), dict[str, str](), ""

    @classmethod
    def of(cls, path: Path) -> "Document":
        page = cls()
        page.feed(path.read_text())
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not data.strip():
            return
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "style":
            self.style += data
        elif tag == "script" and "type" in attributes:
            self.data[str(attributes.get("id"))] = data
        elif tag == "script":
            self.scripts.append(data)


def other(value: float, low: float, high: float, record: Record = RECORD, **cell: Any) -> Record:
    """The record of another cell."""
    return replace(
        record,
        cell=replace(record.cell, **cell),
        rows=[Row(("precision",), Estimate(value, (low, high), 100))],
    )


def written(folder: Path, *records: Record) -> Path:
    discover()
    for record in records:
        write_record(folder, record)
    return folder


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = Document.of(tmp_path / "report.html")
    for tag, attributes in page.tags:
        assert not {name for name in attributes if name in ("srcset", "action", "background", "poster")}, tag
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert str(attributes.get("href", "#")).startswith("#")
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", page.style)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_policy_of_the_page_names_its_scripts_and_no_address(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = Document.of(tmp_path / "report.html")
    (policy,) = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    rules = dict(str(rule).strip().split(" ", 1) for rule in str(policy).split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.scripts}
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]


def test_labels_and_errors_are_escaped(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    text = (tmp_path / "report.html").read_text()
    assert "vae(&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;q&#34;)" in text
    assert "<b>bad" not in text
    assert "<script>alert" not in text
    assert "</script>alert" not in text, "no text of a record ends the element that holds the records"


def test_what_is_behind_a_number_opens_where_the_number_stands(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = Document.of(tmp_path / "report.html")
    known = json.loads(page.data["records"])
    links = {str(a["href"])[1:] for tag, a in page.tags if tag == "a" and a.get("class") == "number"}
    assert links == set(known["records"])
    told = next(record for record in known["records"].values() if record["title"].startswith("precision"))
    parts = {heading: known["parts"][index] for heading, index in told["parts"]}
    assert parts["Numbers"] == {"precision": "0.5 (0.4 to 0.6), n 100"}
    assert parts["Versions and device"] == {"metric": "version 1", "torch": "2"}


def test_tables_and_pictures_are_named_for_those_who_do_not_see_them(tmp_path: Path) -> None:
    """Rules of https://dequeuniversity.com/rules/axe/ that need no browser."""
    report(written(tmp_path, RECORD, FAILED))
    page = Document.of(tmp_path / "report.html")
    names = [tag for tag, _ in page.tags]
    assert names.count("caption") == names.count("table") > 0
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert dict(page.tags)["html"]["lang"] == "en"
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for _, attributes in page.tags:
        if attributes.get("role") == "group" and attributes.get("class") != "tools":
            assert attributes.get("tabindex") == "0", "what scrolls is reached by the keyboard"
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (https://www.w3.org/TR/WCAG21/#dfn-relative-luminance)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_stands_out_in_light_and_dark(theme: str) -> None:
    """At least 4.5 to 1, https://www.w3.org/WAI/WCAG21/Understanding/contrast-minimum.html."""
    colours = dict(re.findall(r"--(\w+): (#\w{6})", (TEMPLATES / "page.css").read_text().split(theme)[1].split("}")[0]))
    behind = {"ink": ("page", "panel", "chosen"), "soft": ("page", "panel"), "link": ("page",), "yes": ("page", "mark"),
              "no": ("page",), "open": ("page",)}  # fmt: skip
    for text, grounds in behind.items():
        for ground in grounds:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, text, ground)


def test_tags_are_balanced(tmp_path: Path) -> None:
    report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    markup = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    for tag in ("html", "body", "table", "thead", "tbody", "tr", "td", "th", "div", "p", "h1", "h2", "small", "dialog"):
        assert len(re.findall(rf"<{tag}[ >]", markup)) == markup.count(f"</{tag}>"), tag


def test_failed_cells_are_shown_and_never_a_number(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, FAILED))
    page = (tmp_path / "report.html").read_text()
    assert "2 records, 1 failed" in page
    assert page.count("k &lt; 5") >= 2, "above and in the list of cells"
    assert "recall" not in printed.split("page:")[0]


def test_a_run_in_which_everything_failed_has_a_page(tmp_path: Path) -> None:
    report(written(tmp_path, FAILED))
    assert "1 failed" in (tmp_path / "report.html").read_text()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / "study", tmp_path / "2" / "study"
    report(written(one, RECORD, FAILED))
    report(written(two, FAILED, RECORD))
    report(two)
    for path in (one / "report.html", *(one / "tables").iterdir()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_values_are_printed_with_intervals_and_ranks(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, other(0.1, 0.05, 0.15, generator="gan")))
    assert "0.5 (0.4 to 0.6) [1]" in printed
    assert "0.1 (0.05 to 0.15) [2]" in printed


def test_two_settings_of_one_metric_stand_side_by_side(tmp_path: Path) -> None:
    """A sweep over an option must show all its values, on the page and in print."""
    printed = report(written(tmp_path, RECORD, other(0.7, 0.6, 0.8, label="precision(k=9)")))
    assert "0.5 (0.4 to 0.6)" in printed
    assert "0.7 (0.6 to 0.8)" in printed
    assert "precision(k=9)" in printed


def test_two_settings_of_a_score_are_told_apart_in_print(tmp_path: Path) -> None:
    score = replace(RECORD, kind="sample")
    printed = report(written(tmp_path, score, other(0.5, 0.4, 0.6, score, label="precision(k=9)")))
    assert "precision(k=9)" in printed


def test_two_numbers_of_samples_are_told_apart(tmp_path: Path) -> None:
    printed = report(written(tmp_path, RECORD, other(0.7, 0.6, 0.8, n=50)))
    assert "0.5 (0.4 to 0.6)" in printed
    assert "0.7 (0.6 to 0.8)" in printed


def test_no_records_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no records in"):
        report(tmp_path)


def part(table: str = "things", *keys: Any, generator: str = "vae", **setting: Any) -> Record:
    """The record of a part of a study with a key column for each key."""
    cell = Cell("study", "digits", generator, table, f"{table}({setting})", 0, 100, setting)
    columns = [f"key {i}" for i in range(len(keys))]
    return replace(RECORD, cell=cell, kind="study", columns=columns, rows=[Row(keys, Estimate(0.5, (0.4, 0.6), 100))])


@dataclass(frozen=True)
class Options:
    k: int = 3


def studied(run: object, options: Options) -> Iterator[Part]:
    yield from ()


def test_a_study_without_a_page_shows_its_tables(tmp_path: Path, own_registries: None) -> None:
    study(first_things=("key 0",), second_things=("key 0", "key 1"))(studied)
    report(written(tmp_path, part("first_things", "a", size=5), part("second_things", "b", 7, size=5)))
    text = (tmp_path / "report.md").read_text()
    assert "## studied" in text
    assert "| dataset | generator | seed | samples | size | a |" in text
    assert "| dataset | generator | seed | samples | size | key 0 | 7 |" in text
    assert "| digits | vae | 0 | 100 | 5 | b | 0.5 (0.4 to 0.6) |" in text
    assert '<h2 id="studied">studied</h2>' in (tmp_path / "report.html").read_text()


def test_a_study_that_is_not_declared_here_shows_its_tables_too(tmp_path: Path) -> None:
    """That of a plugin which somebody else has."""
    report(written(tmp_path, part("foreign_things", "a")))
    assert "## foreign things" in (tmp_path / "report.md").read_text()


def test_the_page_of_a_study_is_made_of_what_succeeded(tmp_path: Path, own_registries: None) -> None:
    def page(found: Found) -> Iterator[Block]:
        yield Text(
            f"{found.folder.name}: {found.tables['things']['key 0'].tolist()} of {found.tables['things'].run[0]}"
        )

    study(page=page, things=("key 0",))(studied)
    report(
        written(tmp_path / "mine", part("things", "a", size=5), replace(part("things", "b", size=6), status="failed"))
    )
    assert "mine: ['a'] of vae, digits, seed 0, 100 samples" in (tmp_path / "mine" / "report.md").read_text()


def test_numbers_and_text_can_stand_in_one_column(tmp_path: Path) -> None:
    failed = replace(part("things", 1, size="all"), status="failed", error="too few", rows=[])
    report(written(tmp_path, part("things", 1, size=5), part("things", "one", size=None), part("things", 2), failed))
    rows = (tmp_path / "tables" / "things.csv").read_text().splitlines()
    assert len(rows) == 5
    assert any("failed: too few" in row for row in rows)


def test_the_page_tells_with_what_numbers_were_computed_each_once(tmp_path: Path) -> None:
    cpu, gpu = ({"device": device, "dtype": "float32", "torch": "2"} for device in ("cpu", "an H100"))
    seeds = [replace(RECORD, cell=replace(RECORD.cell, seed=seed), numerics=cpu) for seed in range(3)]
    report(written(tmp_path / "one", *seeds))
    assert "Computed with device cpu; dtype float32; torch 2. Inter" in (tmp_path / "one" / "report.md").read_text()
    report(written(tmp_path / "two", *seeds, replace(RECORD, cell=replace(RECORD.cell, seed=9), numerics=gpu)))
    assert (
        "Computed with device cpu; dtype float32; torch 2 (3 of 4 records). "
        "device an H100; dtype float32; torch 2 (1 of 4 records). Inter"
    ) in (tmp_path / "two" / "report.md").read_text()


@pytest.mark.parametrize("table", ["../../up", "/tmp/up", "a/b", "..", "metrics", "leaderboard", "a b", ""])
def test_a_table_of_a_name_that_no_file_should_have_is_left_out(tmp_path: Path, table: str) -> None:
    folder = tmp_path / "a" / "b" / "run"
    written(folder, part("things", "x"), RECORD)
    (path,) = (folder / "records").glob("things-*")
    path.write_text(path.read_text().replace('"metric": "things"', f'"metric": "{table}"'))
    printed = report(folder)
    assert f"records/{path.name}: damaged, and left out: a table cannot be called {table!r}" in printed
    made = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert all(name.startswith("a/b/run/") for name in made)
    tables = {f"tables/{name}.{suffix}" for name in ("metrics", "leaderboard") for suffix in ("csv", "md", "tex")}
    assert {name.removeprefix("a/b/run/") for name in made} == {
        "report.html", "report.md", f"records/{path.name}", f"records/{record_name(RECORD.cell)}", *tables
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"schema": 3}', "\x1b[2J"])
def test_a_damaged_record_costs_its_own_row_and_is_named(tmp_path: Path, text: str) -> None:
    folder = written(tmp_path, RECORD, FAILED, part("things", "x"))
    (path,) = (folder / "records").glob("recall-*")
    path.write_text(text)
    printed = report(folder)
    assert f"records/{path.name}: damaged, and left out: " in printed
    assert f"records/{path.name}: damaged, and left out: " in (folder / "report.html").read_text()
    assert "2 records, 0 failed" in (folder / "report.md").read_text()
    assert "recall" not in (folder / "tables" / "metrics.csv").read_text()


def test_an_edited_record_is_told_and_ranked_by_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path, RECORD, other(0.1, 0.05, 0.15, generator="gan"), part("things", "x"))
    for path in (folder / "records").iterdir():
        if "gan" in path.read_text() or "things" in path.name:
            path.write_text(path.read_text().replace("0.05", "0.95").replace("0.1,", "0.99,").replace("0.5,", "0.9,"))
    printed = report(folder)
    assert printed.count("edited: it was changed after it was written") == 2
    page = (folder / "report.html").read_text()
    assert page.count("edited: it was changed after it was written") == 2
    assert "0.99" not in (folder / "tables" / "leaderboard.csv").read_text()
    (row,) = [row for row in (folder / "tables" / "metrics.csv").read_text().splitlines() if "gan" in row]
    assert ",edited," in row
    assert "0.9" not in (folder / "tables" / "things.csv").read_text()


def test_a_page_that_its_records_do_not_suffice_for_is_replaced_by_its_tables(
    tmp_path: Path, own_registries: None
) -> None:
    def page(found: Found) -> Iterator[Block]:
        yield Text(str(found.tables["things"]["absent"]))

    def drawn(found: Found) -> Iterator[Block]:
        yield Grid("corner", ["a"], ["b"], {("a", "b"): None})  # type: ignore[dict-item]

    def one(run: object, options: Options) -> Iterator[Part]:
        yield from ()

    study(page=page, things=("key 0",))(one)
    study(page=drawn, others=("key 0",))(studied)
    report(written(tmp_path, RECORD, part("things", "a"), part("others", "b")))
    text = (tmp_path / "report.html").read_text()
    assert "the page of one cannot be made of these records (KeyError: " in text
    assert re.search(r"<t[dh][^>]*>a</t[dh]>", text)
    assert "Leaderboard" in text


def test_a_picture_that_is_a_link_is_not_shown(tmp_path: Path) -> None:
    """It could be any file of the one who makes the page."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (2, 2)).save(secret)
    (tmp_path / "link.png").symlink_to(secret)
    assert Picture(tmp_path / "link.png", "x").html() == Picture(tmp_path / "link.png", "x").markdown() == ""
    assert "data:image/" in Picture(secret, "x").html()


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "cut.png: this picture is damaged" in Picture(tmp_path / "cut.png", "x").html()


def test_a_name_of_any_length_is_part_of_a_file_name() -> None:
    long = [slug("x" * 500 + end) for end in ("a", "b")]
    assert all(len(name) == LONGEST for name in long)
    assert long[0] != long[1]
    assert slug("vae, digits, seed 0") == "vae-digits-seed-0"


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    printed = report(written(tmp_path, other(0.5, 0.4, 0.6, generator="vae\x1b[2J\x07")))
    assert "vae\\x1b[2J\\x07" in printed
    assert "\x1b" not in printed


REPORT = """
import sys
from dataclasses import replace
from pathlib import Path
from assay.harness.arrays.records import read_records, write_record
from assay.harness.report.report import report

folder, name = Path(sys.argv[1]), sys.argv[2]
(record,) = [one for one in read_records(folder) if one.cell.generator == "first"]
for i in range(12):
    write_record(folder, replace(record, cell=replace(record.cell, generator=f"{name}{i}")))
    report(folder)
"""


def test_tables_and_page_of_several_processes_are_those_of_all_records(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", other(0.5, 0.4, 0.6, generator="first"))
    both = [subprocess.Popen([sys.executable, "-c", REPORT, str(folder), name]) for name in ("one", "two", "three")]
    assert [process.wait(120) for process in both] == [0, 0, 0]
    for name in ("tables/metrics.csv", "tables/metrics.tex", "tables/leaderboard.md", "report.html", "report.md"):
        text = (folder / name).read_text()
        assert all(f"{who}{i}" in text for who in ("one", "two", "three") for i in range(12)), name


@pytest.mark.parametrize("name", ["tables", "figures"])
def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path: Path, name: str) -> None:
    outside, folder = tmp_path / "outside", written(tmp_path / "run", RECORD)
    outside.mkdir()
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is a link out of"):
        report(folder)
    assert not list(outside.iterdir())
    assert not (folder / "report.html").exists()


def test_a_link_to_a_run_and_links_inside_it_are_followed(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", RECORD)
    (folder / "made").mkdir()
    (folder / "tables").symlink_to("made")
    (tmp_path / "link").symlink_to(folder)
    report(tmp_path / "link")
    assert (folder / "made" / "metrics.csv").is_file()


def test_files_that_are_links_are_replaced_not_followed(tmp_path: Path) -> None:
    folder, outside = written(tmp_path / "run", RECORD), tmp_path / "outside.txt"
    outside.write_text("mine")
    (folder / "tables").mkdir()
    temporary = folder / f".report.md.{os.getpid()}.tmp"
    for link in (folder / "report.html", folder / "report.md", folder / "tables" / "metrics.csv", temporary):
        link.symlink_to(outside)
    report(folder)
    assert outside.read_text() == "mine"
    assert not (folder / "report.html").is_symlink()


def test_text_of_records_is_text_in_markdown_too(tmp_path: Path) -> None:
    report(written(tmp_path / "<i>run", RECORD, FAILED))
    text = (tmp_path / "<i>run" / "report.md").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert text.startswith("# assay: &lt;i>run\n")
