"""Sentences of pages, made from tables of random numbers, held to these numbers: none may say what they do not."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.harness.report.verdict import CORRECTED, HOLDS, OPPOSITE, UNDECIDED, Verdict, agreeing, sign
from assay.harness.stats.families import HOLM, LEVEL, decided
from assay.harness.studies.correlate import page as correlate
from assay.harness.studies.detect import page as detect
from assay.harness.studies.edit import page as edit

SEEDS = range(60)


def numbers(rng: np.random.Generator, size: int, null: float = 0.0, width: float = 0.3) -> pd.DataFrame:
    """Values and intervals: clear of the null or not, with ties, ends at the null, and none at all."""
    value = null + width * rng.choice([-1.5, -0.6, 0, 0.6, 1.5], size) * (1 + 0.2 * rng.random(size))
    low, high = value - width * rng.random(size), value + width * rng.random(size)
    low = np.where(rng.random(size) < 0.05, null, low).clip(max=value)
    frame = pd.DataFrame({"value": value, "low": low, "high": high, "n": 100})
    return frame.mask(pd.Series(rng.random(size) < 0.15), math.nan)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_verdict_says_what_its_numbers_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = decided("signal_agreement", numbers(rng, 20).assign(resamples=1))
    for row in frame.itertuples():
        text = str(Verdict("it rises", row))
        above, below, clear = row.low > 0, row.high < 0, getattr(row, HOLM) <= LEVEL
        assert (f": {HOLDS}, " in text) == (above and clear)
        assert (f": {OPPOSITE}, " in text) == (below and clear)
        assert (UNDECIDED in text) == (not clear or not (above or below))
        assert (CORRECTED in text) == ((above or below) and not clear), "an interval beside it must not contradict it"


def correlations(rng: np.random.Generator) -> tuple[pd.DataFrame, set[tuple[str, str]]]:
    """Scores and signals in two runs, raw and partial: some share a space, some signals and scores failed."""
    scores, signals = [f"score{i}" for i in range(9)], ["sharp", "judged", "near"]
    index = pd.MultiIndex.from_product(
        [["one", "two"], ["nothing", "class"], scores, signals], names=["run", "covariates", "score", "signal"]
    )
    frame = pd.concat([index.to_frame(index=False), numbers(rng, len(index))], axis=1)
    frame = frame.assign(missing=rng.choice([0, 0, 5], len(frame)), resamples=100)
    if rng.random() < 0.5:
        frame.loc[frame.signal == "judged", ["value", "low", "high"]] = math.nan  # the judge could not be read
    held = frame.covariates == "class"
    frame.loc[held & (frame.score == "score1"), ["value", "low", "high"]] = math.nan
    frame.loc[frame.score == "score2", ["value", "low", "high"]] = math.nan
    frame.loc[held & (frame.score == "score3"), ["value", "low", "high"]] = 0.5, 0.45, 0.55
    shared = {("score4", signal) for signal in signals} | {("score3", "near"), ("score1", "near")}
    return decided("correlate", frame), shared


@pytest.mark.parametrize("seed", SEEDS)
def test_every_sentence_about_correlations_is_true(seed: int) -> None:
    table, shared = correlations(np.random.default_rng(seed))
    held, raw = (table[table.covariates == name] for name in ("class", "nothing"))
    lines = list(map(str, correlate.verdict(held, raw, shared)))
    said = {name: line.partition(": ")[2].rstrip(".") for line in lines if line.startswith("score")
            for name in line.partition(": ")[0].split(", ")}  # fmt: skip
    assert set(said) == set(held.score)
    for score, answer in said.items():
        own = held[(held.score == score) & np.array([(score, signal) not in shared for signal in held.signal])]
        before = raw[(raw.score == score) & raw.signal.isin(own.signal)]
        rises = (own.low > 0) & (own[HOLM] <= LEVEL)
        falls = (own.high < 0) & (own[HOLM] <= LEVEL)
        in_all = rises.groupby(own.signal).all()
        true = {
            correlate.EVERY: len(own) and rises.all(),
            correlate.SOME: in_all.any() and not rises.all() and not falls.any(),
            correlate.SOMETIMES: rises.any() and not in_all.any() and not falls.any(),
            correlate.MIXED: rises.any() and falls.any(),
            correlate.FALLING: falls.any() and not rises.any(),
            correlate.CHANCE: not rises.any() and not falls.any() and own.value.notna().any(),
            correlate.NOT_INDEPENDENT: own.empty,
            correlate.DETERMINED: own.value.isna().all() and before.value.notna().any(),
            correlate.NOTHING_LEFT: own.value.isna().all() and before.value.notna().any(),
            correlate.UNDEFINED: own.value.isna().all() and before.value.isna().all(),
            correlate.UNJUDGED: own.value.isna().all() and before.value.isna().all(),
        }
        forms = {agreeing(says, count): says for says in true for count in (1, 2)}
        answer = forms[answer]
        assert true[answer], (score, answer)
        if answer == correlate.DETERMINED:  # nothing else can be the reason
            for row in own[before.value.notna().to_numpy()].itertuples():
                others = held[(held.run == row.run) & (held.signal == row.signal) & (held.score != score)]
                assert (others.value.notna() & (others.missing == 0)).any()
        if answer == correlate.UNJUDGED:
            assert raw[raw.signal.isin(own.signal)].value.isna().all()
    judged = raw[raw.signal == "judged"].groupby("run").value.count()
    assert any("No score has a correlation with judged" in line for line in lines) == (judged == 0).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_sentence_about_faults_is_true(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, faults = [f"score{i}" for i in range(12)], ["torn", "blurred"]
    pairs = pd.MultiIndex.from_product([scores, [*faults, "any fault", "rare, not faulty"]], names=["score", "fault"])
    frame = pd.concat([pairs.to_frame(index=False), numbers(rng, len(pairs), 0.5)], axis=1).assign(rare=0.2)
    frame[["value", "low", "high"]] = frame[["value", "low", "high"]].clip(0.001, 0.999)
    frame = decided("detect", frame)
    rare = frame[frame.fault == "rare, not faulty"]
    answers = (detect.SOME, detect.NONE, detect.MISLED, detect.RARE_BELOW, detect.RARE_ABOVE)
    forms = {agreeing(says, count): says for says in (*answers, f"{detect.EVERY}, within class") for count in (1, 2)}
    for line in detect.verdict(frame[frame.fault != "rare, not faulty"], rare, "class"):
        names, _, answer = str(line).rstrip(".").partition(": ")
        for name in re.findall(r"(score\d+)(?: \(([^)]*)\))?", names):
            score, which = name
            rows = frame[(frame.score == score) & frame.fault.isin(faults)]
            found = dict(zip(rows.fault, (sign(row, 0.5) for row in rows.itertuples()), strict=True))
            clear = dict(zip(rows.fault, rows[HOLM] <= LEVEL, strict=True))
            listed = which.split(", ") if which else []
            answer = forms.get(answer, answer)
            if answer.startswith(detect.EVERY):
                assert all(rows.low > 0.5)
                assert all(clear.values())
            elif answer == detect.SOME:
                assert listed == [fault for fault, side in found.items() if side == 1]
                assert -1 not in found.values()
            elif answer == detect.NONE:
                assert not any(clear.values())
            elif answer == detect.MISLED:
                assert all(found[fault] == -1 and clear[fault] for fault in listed)
            elif answer == detect.UNDEFINED:
                assert rows.value.isna().all()
            else:
                (row,) = rare[rare.score == score].itertuples()
                assert getattr(row, HOLM) <= LEVEL
                assert row.low > 0.5 if answer == detect.RARE_BELOW else row.high < 0.5


@pytest.mark.parametrize("seed", range(10))
def test_counts_of_gains_are_those_of_the_intervals_and_of_the_correction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    about: dict[str, Any] = {"run": "one", "attribute": "light", "edits": 40, "reach": 4.0, "space": "z", "steps": 9}
    keys = ["score", "quantity", "signal"]
    index = pd.MultiIndex.from_product([["a", "b"], list(edit.AGAINST), list("uvwxyz")], names=keys)
    frame = decided("edit", pd.concat([index.to_frame(index=False), numbers(rng, len(index))], axis=1).assign(**about))
    drawn = pd.MultiIndex.from_product([["1", "3"], range(5), list(edit.AGAINST), list("uvwxyz")])
    chance = drawn.to_frame(index=False, name=["length", "draw", "quantity", "signal"])
    chance = pd.concat([chance, numbers(rng, len(chance))], axis=1).assign(**about)
    for row in edit.counts(frame, chance):
        named = dict(zip(range(len(row)), row, strict=True))
        quantity = next(key for key, text in edit.AGAINST.items() if text == named[1])
        part = frame[(frame.score == named[0]) & (frame.quantity == quantity)]
        same = chance[chance.quantity == quantity]
        better, worse = (side.groupby([same.length, same.draw]).sum() for side in (same.low > 0, same.high < 0))
        plain = int((part.low > 0).sum())
        assert row[2:] == [
            str(len(part)), str(plain), f"{better.mean():.1f} ({better.min()} to {better.max()})",
            f"{int((better >= plain).sum())} of 10", str((part.high < 0).sum()),
            f"{worse.mean():.1f} ({worse.min()} to {worse.max()})",
            str(((part.low > 0) & (part[HOLM] <= LEVEL)).sum()), str(((part.high < 0) & (part[HOLM] <= LEVEL)).sum()),
        ]  # fmt: skip
