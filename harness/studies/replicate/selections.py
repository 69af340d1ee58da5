"""What `tradeoff` recorded of the samples that a score keeps, as gains that `replicate` brings together."""

import pandas as pd

KEPT = "tradeoff"
GAINS = {
    "precision gain": ("precision", "chance"),
    "recall gain": ("recall", "chance"),
    "frechet_distance saved": ("Fréchet distance saved", "chance"),
    "precision over truncation": ("precision", "truncation"),
}
"""By the quantity of `tradeoff`, what is gained and over what."""
OVER = ("chance", "truncation")


def selections(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each score, share of samples that it keeps, and gain: the latter two are the column `signal`.

    Empty where the table has no choices by the highest scores.
    """
    chosen = table.method.str.startswith("top ") & table.setting.str.startswith("share ") & table.quantity.isin(GAINS)
    kept = table[chosen].copy()
    gained = [GAINS[quantity] for quantity in kept.quantity]
    shares = [float(setting.removeprefix("share ")) for setting in kept.setting]
    kept["score"] = kept.method.str.removeprefix("top ")
    kept["against"] = [over for _, over in gained]
    kept["signal"] = [f"{what}, best {100 * share:g} %" for (what, _), share in zip(gained, shares, strict=True)]
    columns = ["dataset", "generator", "seed", "samples", "score", "against", "signal", "value", "low", "high"]
    return kept[[*columns, "n", "missing"]].assign(table="gain")
