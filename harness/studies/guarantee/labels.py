"""Which samples are bad: as a csv file says, as a generator knows of its own faults, or by a score of quality."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ...core.abilities import HasGroundTruth
from ...core.escapes import for_csv
from ...core.files import digest, replace
from ...core.progress import say
from ...core.protocols import Cell
from ...run import MetricSpec, Run
from ...stats.promise import draw_labelled
from ..sample_files import sample_names, write_pictures, write_samples

VALUES = {"0": False, "0.0": False, "1": True, "1.0": True}
"""What the column `bad` may hold; a spreadsheet may write 1.0 for 1."""
FINGERPRINT = "fingerprint"
"""The column that says of which generator the samples are."""


@dataclass(frozen=True)
class Labels:
    """bad bool [n]: labels of samples; known bool [n]: which have one; what: what is called bad, in words.

    cells: of the metrics that the labels depend on; fingerprint: of the labels where they come from elsewhere.
    """

    bad: Tensor
    known: Tensor
    what: str
    cells: Sequence[Cell] = ()
    fingerprint: str = ""


def labels_of(run: Run, file: str, count: int, quality: MetricSpec, least: float) -> Labels | None:
    """Of a file, else of a generator that knows what is wrong with its samples, else by a score of quality.

    None where the file does not exist: then it is written with `count` samples for somebody to label.
    """
    model = run.views.generator
    if file:
        path = Path(file).expanduser()
        if not path.exists():
            _ask(run, path, count)
            return None
        bad, known = _read(path, *sample_names(run), _fingerprint(run))
        return Labels(bad, known, f"labels of {path.name}", (), digest(bad.tolist(), known.tolist()))
    every = torch.ones(run.n, dtype=torch.bool)
    if isinstance(model, HasGroundTruth):
        faulty = model.truth(run.views.seeds(run.seed, run.n)).state != 0
        return Labels(faulty, every, "has a known fault", (), model.fingerprint)
    (cell,) = run.cells(quality)
    scores = run.oriented(cell)
    return Labels(scores < least, scores.isfinite(), f"{cell.label} below {least:g}", [cell])


def _ask(run: Run, path: Path, count: int) -> None:
    """Write `count` samples, drawn at random with the seed of the run, as pictures, and a csv file for their labels.

    Shapes are also written as meshes. The column `bad` is empty.
    """
    if not path.parent.is_dir():
        raise ValueError(f"labels={path}: the folder {path.parent} does not exist; make it, or name another one")
    drawn = draw_labelled(run.n, count, torch.Generator().manual_seed(run.seed)).nonzero()[:, 0].tolist()
    folder = path.with_name(f"{path.stem}-pictures")
    if run.views.modality == "shape":
        write_samples(run, drawn, path.with_name(f"{path.stem}-meshes"))
    pictures = write_pictures(run, drawn, folder)
    seeds, names = sample_names(run)
    columns = {
        "picture": [for_csv(f"{folder.name}/{name}") for name in pictures],
        "bad": [""] * len(drawn),
        "sample": [seeds[i] for i in drawn],
        "name": [for_csv(names[i]) for i in drawn],
        FINGERPRINT: [_fingerprint(run)] * len(drawn),
    }
    replace(path, pd.DataFrame(columns).to_csv(index=False, lineterminator="\n").encode())
    say(
        f"{path} did not exist. It has {len(drawn)} of the {run.n:,} samples now, drawn at random; their pictures are "
        f"in {folder}. Fill the column bad with 1 for a bad sample and 0 for a good one, then give the same command "
        "again"
    )


def _fingerprint(run: Run) -> str:
    return digest(run.views.generator.fingerprint)[:16]


def _read(path: Path, seeds: Sequence[int], names: Sequence[str], fingerprint: str) -> tuple[Tensor, Tensor]:
    """Labels of a csv file and which samples have one, both bool [n]."""
    text = path.read_text(encoding="utf-8-sig").rstrip()
    header = text.partition("\n")[0]
    separator = ";" if header.count(";") > header.count(",") else ","  # as spreadsheets write it in some languages
    rows = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False)
    rows = rows.fillna("").apply(lambda column: column.str.strip())
    key = next((name for name in ("sample", "name") if name in rows), "")
    if not key or "bad" not in rows:
        raise ValueError(f"{path}: the columns are {', '.join(map(str, rows))}; give `sample` or `name`, and `bad`")
    if FINGERPRINT in rows and (other := rows[rows[FINGERPRINT] != fingerprint]).size:
        raise ValueError(
            f"{path}: line {other.index[0] + 2} is a sample of another generator, or of other weights or options of "
            "this one; name another file, labels=FILE, to label samples of this one"
        )
    if (unlabelled := rows[rows["bad"] == ""]).size:
        raise ValueError(
            f"{path}: bad is empty in line {unlabelled.index[0] + 2}; {len(unlabelled)} of {len(rows)} samples have no "
            "label yet: write 1 for a bad sample and 0 for a good one"
        )
    if (wrong := rows[~rows["bad"].isin(VALUES)]).size:
        raise ValueError(f"{path}: bad is {wrong['bad'].iloc[0]} in line {wrong.index[0] + 2}; it must be 0 or 1")
    if (again := rows[rows[key].duplicated()]).size:
        raise ValueError(f"{path}: {key} {again[key].iloc[0]} has more than one label, in line {again.index[0] + 2}")
    places = {str(value): i for i, value in enumerate(seeds if key == "sample" else names)}
    keys = rows[key].str.removesuffix(".0") if key == "sample" else rows[key]
    if (unknown := rows[~keys.isin(places)]).size:
        raise ValueError(
            f"{path}: {key} {unknown[key].iloc[0]} is none of the {len(seeds):,} samples here, in line "
            f"{unknown.index[0] + 2}; give the seed and n with which the samples were drawn, or name another file"
        )
    bad, known = torch.zeros(len(seeds), dtype=torch.bool), torch.zeros(len(seeds), dtype=torch.bool)
    found = torch.tensor([places[value] for value in keys], dtype=torch.long)
    known[found], bad[found] = True, torch.tensor([VALUES[value] for value in rows["bad"]])
    return bad, known
