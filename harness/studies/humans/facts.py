"""What is known of 41 generators: how often people took their samples for real, and what metrics say, as printed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FILE = Path(__file__).with_name("models.csv")
SHOWN = 200
"""Images that each participant judged: 100 real ones and 100 of one model."""
PRINTED: Mapping[str, str] = {
    "FD": "frechet_distance",
    "FD-inf": "frechet_infinity",
    "KD": "kernel_distance",
    "P": "precision",
    "R": "recall",
    "D": "density",
    "C": "coverage",
    "AuthPct": "authenticity",
}
"""Columns of the file, and what these metrics are called here. All are in features of DINOv2 ViT-L/14."""


@dataclass(frozen=True)
class Models:
    """The models of one data set of images.

    wrong: of each model, the share of wrong answers [R] of each of its participants; higher is harder to tell from real
    images, 0.5 is chance. printed: values [N] by metric, as printed.
    """

    images: str
    names: Sequence[str]
    wrong: Sequence[NDArray[np.float64]]
    printed: Mapping[str, NDArray[np.float64]]

    @cached_property
    def error(self) -> NDArray[np.float64]:
        """Human error [N]: the mean over participants."""
        return np.array([each.mean() for each in self.wrong])

    @cached_property
    def variance(self) -> NDArray[np.float64]:
        """Of these means [N], for other participants."""
        return np.array([each.var(ddof=1) / len(each) for each in self.wrong])

    def find(self, names: Sequence[str]) -> list[int]:
        """Positions of models by name, whatever its case, spaces and signs. Raises LookupError for an unknown one."""
        places = {plain(name): place for place, name in enumerate(self.names)}
        for name in names:
            if plain(name) not in places:
                raise LookupError(
                    f"no model {name!r} of {self.images} was shown to people; {', '.join(self.names)} were"
                )
        return [places[plain(name)] for name in names]


def read_models() -> list[Models]:
    """All data sets of the file, in its order."""
    found = []
    for images, part in pd.read_csv(FILE).groupby("dataset", sort=False):
        wrong = [np.array(answers.split(), float) / SHOWN for answers in part.wrong]
        printed = {name: part[column].to_numpy(float) for column, name in PRINTED.items()}
        found.append(Models(str(images), part.model.tolist(), wrong, printed))
    return found


def plain(name: str) -> str:
    """A name without case, spaces and signs, by which folders are matched."""
    return re.sub(r"[^a-z0-9+]", "", name.lower())
