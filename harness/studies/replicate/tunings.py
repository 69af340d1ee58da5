"""What `fine_tune` recorded of tunings of several training seeds, as gains over plain training of the same seed."""

import re

import pandas as pd

CONTROL, NOTHING, THESE = "control", "nothing", ", these trainings"
"""Names in the records of `fine_tune`: plain training, and what numbers are compared with."""
TUNED = "fine_tune"
SEED = re.compile(r"(, )?seed=\d+")


def tunings(table: pd.DataFrame, control: str = CONTROL) -> pd.DataFrame:
    """A row for each tuning, training seed, metric and space: how much better it is than plain training of that seed.

    The column `score` is the tuning without its seed, `signal` the metric and the space. A Fréchet distance has no
    scale of its own and is better where it is smaller: its gain is the share of it that is saved. The interval, for
    these trainings and other samples, is as wide as that of the recorded difference to the first plain training. Seeds
    without a plain training are left out.
    """
    table = table.assign(score=[_without_seed(label) for label in table.tuning])
    network = ["dataset", "generator", "seed", "samples", "trainer", "metric", "space", "trainer_seed"]
    values = table[table.against == NOTHING].set_index([*network, "score"]).value
    plain = values.xs(control, level="score")
    rows = table[(table.against == f"{control}{THESE}") & (table.score != control)]
    found = []
    for row in rows.itertuples():
        key = tuple(getattr(row, name) for name in network)
        if key not in plain.index:
            continue
        saved = row.metric.startswith("frechet")
        unit = -plain[key] if saved else 1.0
        value, half = (values[(*key, row.score)] - plain[key]) / unit, (row.high - row.low) / 2 / abs(unit)
        found.append({
            "dataset": row.dataset, "generator": _trained(row.generator, row.trainer_seed), "seed": row.seed,
            "samples": row.samples, "score": row.score, "against": "plain training",
            "signal": f"{row.metric} {'saved ' if saved else ''}in {row.space}", "value": value,
            "low": value - half, "high": value + half, "n": row.n, "missing": row.missing, "table": "gain",
        })  # fmt: skip
    return pd.DataFrame(found)


def _without_seed(label: str) -> str:
    """ "best_fid(weight_real=2, seed=1)" is a training of "best_fid(weight_real=2)"."""
    return SEED.sub("", label).replace("(, ", "(").replace("()", "")


def _trained(generator: str, seed: int) -> str:
    """A network's name, by which it is of the family of its generator and different from that of other seeds."""
    name, _, options = generator.removesuffix(")").partition("(")
    return f"{name}({', '.join(filter(None, [f'path=tuned/seed{seed}', options]))})"
