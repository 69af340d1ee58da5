"""assay: how good are the samples of a generative model, and how good are the metrics that claim to tell?

The same three verbs as on the command line, for a notebook; `assay.metrics` has every formula as a plain function.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.core.protocols import Generator, Record

from .harness.core import moved

moved.install()
__version__ = "0.1.0"


def score(metric: str, *arrays: Any, **options: Any) -> Any:
    """A metric by name on your own arrays, generated samples first: score("precision", fake, real, k=3)."""
    from .harness.core.registry import METRICS, discover

    discover()
    return METRICS[metric].function(*arrays, **options)


def evaluate(metric: str, generator: str, dataset: str, out: str | Path = "outputs/run", **setting: Any) -> Record:
    """One cell, as `assay run` does it: evaluate("precision", "vae", "digits", n=1000, seed=0, through="pixels")."""
    from .harness.core.registry import discover
    from .harness.run import open_run

    discover()
    cell = {key: setting.pop(key) for key in ("through", "encode") if key in setting}
    run = open_run({dataset: {}}, {generator: {}}, Path(out), **setting)
    return run.evaluate(run.cell(metric, **cell))


def load(path: str | Path, **options: Any) -> Generator:
    """The generator in a checkpoint file or folder; its family is recognised from the content."""
    from .harness.core.registry import discover
    from .harness.formats.checkpoint import read_checkpoint
    from .harness.formats.recognise import opener

    discover()
    generator: Generator = opener(path, read_checkpoint(path)).function("", path=str(path), **options)
    return generator
