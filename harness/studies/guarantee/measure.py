"""Which samples can be kept with a promise of how few of them are bad, and which score keeps the most?"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from ...core.escapes import for_csv
from ...core.files import replace
from ...core.progress import say
from ...core.protocols import Cell, Estimate, Part, Row
from ...core.registry import METRICS, study
from ...run import MetricSpec, Run
from ...stats.intervals import proportion
from ...stats.promise import Promise, draw_labelled, promise
from ..sample_files import remove_samples, sample_names, write_samples
from .labels import Labels, labels_of
from .page import page, promise_folder

NONE = (math.nan, math.nan)
Draw = Callable[[int], tuple[Tensor, list[Promise]]]
Again = Callable[[], Sequence[Sequence[Promise]]]


@dataclass(frozen=True)
class Options:
    """What is promised, and what is bad.

    alpha:   shares of bad samples among those kept, each promised in turn.
    delta:   the chance that a promise is wrong.
    count:   labels that may be used, of samples drawn at random. Labels of the others only check the promise.
    labels:  a csv file of samples drawn at random. Its columns are `sample` (a number) or `name`, and `bad`, 0 or 1.
             Where there is no such file yet, it is written with `count` samples to be labelled, beside their pictures.
    quality: without such a file, and without known faults, a sample is bad where this score is below `least`. Of
             realism, 1 is the border of the smaller half of the balls around real samples; with prune=false, of all.
    scores:  by which samples are kept; those of the run where none are named.
    splits:  how often the labels are drawn anew, where all samples have one, to count how many promises are broken.
    write:   whether the kept samples are written as files, too.
    """

    alpha: Sequence[float] = (0.05, 0.1, 0.2)
    delta: float = 0.1
    count: int = 300
    labels: str = ""
    quality: MetricSpec = "realism"
    least: float = 1.0
    scores: Sequence[MetricSpec] = ()
    splits: int = 0
    write: bool = False


@study(page=page, guarantee=("alpha", "number"))
def guarantee(run: Run, options: Options) -> Iterator[Part]:
    """By each score, the most samples that can be kept so that at most a share alpha of them is bad, promised.

    The promise holds with confidence 1 - delta, whatever the distribution of scores and labels; it abstains where no
    threshold can promise it. It is about further samples of the same generator, as those here, of which some were drawn
    at random and labelled. Where all have a label, the others tell how many of the kept are bad in fact. Each promise
    stands alone: whoever chooses among k scores by what they keep divides delta by k.
    Kept samples lie in <out>/guarantee/, for each score and alpha: kept.csv with number, name and score,
    certificate.json, and with write=true the samples themselves. Those that were labelled bad are left out.
    Raises ValueError for numbers out of range, and for labels that name no sample here.
    """
    if options.count < 1:
        raise ValueError(f"count={options.count} must be 1 or more labels")
    if options.count >= run.n:
        raise ValueError(f"count={options.count} must be less than the {run.n:,} samples: the others get the promise")
    labels = labels_of(run, options.labels, options.count, options.quality, options.least)
    if labels is None:
        return
    every = labels.known.nonzero()[:, 0]
    setting = {
        "bad": labels.what,
        "delta": options.delta,
        "labels": min(options.count, len(every)),
        "alphas": ", ".join(map(str, options.alpha)),
    }
    setting |= {"splits": options.splits} if options.splits else {}
    for cell in run.cells(list(options.scores) or run.scores):
        scores = run.oriented(cell)

        def promises(seed: int, scores: Tensor = scores) -> tuple[Tensor, list[Promise]]:
            """Which labels are used, and what they promise."""
            drawn = draw_labelled(len(every), options.count, torch.Generator().manual_seed(seed))
            used = torch.zeros_like(labels.known)
            used[every[drawn]] = True
            given = scores[used], labels.bad[used], scores[~used]
            return used, [promise(*given, alpha, options.delta) for alpha in options.alpha]

        def again(promises: Draw = promises) -> list[tuple[Promise, ...]]:
            """For each alpha the promises of other draws of the labels, where all samples have one."""
            splits = options.splits if bool(labels.known.all()) else 0
            return list(zip(*(promises(run.seed + split)[1] for split in range(splits)), strict=True))

        used, made = promises(run.seed)
        prints = {"labels": labels.fingerprint} if labels.fingerprint else {}
        yield Part(
            partial(_rows, scores, labels, used, made, again),
            {**setting, "score": cell.label},
            cells=[cell, *labels.cells],
            fingerprints=prints,
        )
        if not run.failed(cell):
            for one in made:
                _write(run, cell, scores, labels, used, one, options.write)


def _rows(scores: Tensor, labels: Labels, used: Tensor, promises: Sequence[Promise], again: Again) -> Iterator[Row]:
    """again: gives for each promise those made of other draws of the labels."""
    missing = int((~scores.isfinite()).sum())
    checked = labels.known & ~used
    for made, others in itertools.zip_longest(promises, again(), fillvalue=()):
        assert isinstance(made, Promise)
        kept = _kept(scores, made)
        numbers = {
            "share kept": proportion(kept[~used])._replace(missing=missing),
            "labelled and kept": _bare(made.labelled),
            "of these bad": _bare(made.bad),
            "labels needed": _bare(made.needed),
            "threshold": _bare(made.threshold),
        }
        if checked.any():
            numbers["bad without a choice"] = proportion(labels.bad[checked])
        if (kept & checked).any():
            numbers["bad among the kept"] = proportion(labels.bad[kept & checked])
        if others:
            broken = [_share_bad(labels.bad[_kept(scores, other)]) > other.alpha for other in others]
            numbers["broken promises"] = proportion(torch.tensor(broken))
            numbers["no promise"] = proportion(torch.tensor([other.abstains for other in others]))
        yield from (Row((made.alpha, name), value) for name, value in numbers.items())


def _kept(scores: Tensor, made: Promise) -> Tensor:
    """Which samples are kept, bool [n]; none where no promise was made, since nothing is at least NaN."""
    return scores.isfinite() & (scores >= made.threshold)


def _share_bad(bad: Tensor) -> float:
    return float(bad.double().mean()) if len(bad) else 0.0


def _bare(value: float) -> Estimate:
    return Estimate(float(value), NONE, 1)


def _write(run: Run, cell: Cell, scores: Tensor, labels: Labels, used: Tensor, made: Promise, with_files: bool) -> None:
    """The kept samples and the certificate; nothing is left of an earlier promise where this one abstains."""
    folder = promise_folder(run.folder, run.title, cell.label, made.alpha)
    remove_samples(folder)
    if made.abstains:
        for name in ("kept.csv", "certificate.json"):
            (folder / name).unlink(missing_ok=True)
        return
    seeds, names = sample_names(run)
    kept = _kept(scores, made) & ~(used & labels.bad)
    rows = [i for i in (-scores.nan_to_num(nan=-math.inf)).argsort(stable=True).tolist() if kept[i]]
    raw, lower = run.sample_scores(cell), METRICS[cell.metric].better == "lower"
    columns = {
        "sample": [seeds[i] for i in rows],
        "name": [for_csv(names[i]) for i in rows],
        for_csv(cell.label): raw[rows],
    }
    if with_files:
        columns["file"] = write_samples(run, rows, folder)
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "kept.csv", pd.DataFrame(columns).to_csv(index=False, lineterminator="\n").encode())
    certificate = {
        "promise": f"with confidence {1 - made.delta:g}, at most {100 * made.alpha:g}% of the kept are bad",
        "bad means": labels.what,
        "score": cell.label,
        "keep": f"{cell.label} {'<=' if lower else '>='} {-made.threshold if lower else made.threshold}",
        "run": run.title,
        "labels": int(used.sum()),
        "kept": len(rows),
        **{name: None if isinstance(value, float) and math.isnan(value) else value
           for name, value in asdict(made).items()},
    }  # fmt: skip
    replace(folder / "certificate.json", json.dumps(certificate, indent=1).encode())
    say(f"{cell.label}: {len(rows)} of {run.n:,} samples are kept, {certificate['promise']}; {folder}")
