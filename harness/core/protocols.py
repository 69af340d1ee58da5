"""What the parts of assay promise each other: types only, no behaviour.

torch, which takes seconds to import, is imported for annotations alone: these are text until somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Better = Literal["higher", "lower", "neither"]
"""Direction of a score; "neither" marks descriptions and controls, for which no direction is claimed."""

Modality = Literal["image", "shape", "any"]
"""What samples are: images [N, C, H, W], or shapes as volumes [N, 1, R, R, R]."""

Split = Literal["train", "test"]
Encoding = Literal["mean", "sample", "logvar"]
"""What an encoder can be asked for."""
Codes = Literal[Encoding, "prior", "inversion"]
"""Where reference codes come from: an encoder, fresh draws of the generator's own prior, or optimisation."""
Interval = tuple[float, float]


class Samples(NamedTuple):
    """Real samples as stored: images uint8 [N, C, H, W]; labels int64 [N], or None where the source has none."""

    images: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Statistics:
    """What stands for a set whose rows are not at hand: its mean [D] and covariance [D, D], both float64.

    n: how many rows it had; None where nobody knows, as with published files, and the set is then taken as fixed.
    rows [m, D]: some of them, drawn uniformly, from which an interval is found; None where there are none.
    """

    mean: Tensor
    covariance: Tensor
    n: int | None = None
    rows: Tensor | None = None

    def to(self, device: torch.device) -> Statistics:
        rows = None if self.rows is None else self.rows.to(device)
        return Statistics(self.mean.to(device), self.covariance.to(device), self.n, rows)


class Truth(NamedTuple):
    """What samples are known to be.

    state int64 [N]: 0 for a sound sample, else the number of its fault; kind int64 [N]: of its class; typicality
    float64 [N]: how common a sound sample of its sort is within its class, in (0, 1], NaN where that is not known.
    """

    state: Tensor
    kind: Tensor
    typicality: Tensor


class Estimate(NamedTuple):
    """A number with its 95 % interval. `n` counts the terms behind it; `missing` those without a value."""

    value: float
    interval: Interval
    n: int = 0
    missing: int = 0

    def __float__(self) -> float:
        return self.value


@runtime_checkable
class Dataset(Protocol):
    """A source of real samples in a fixed order."""

    name: str
    fingerprint: str
    classes: Sequence[str]

    def count(self, split: Split) -> int: ...

    def take(self, split: Split, start: int, stop: int) -> Samples:
        """Samples start..stop of a split; the same samples at every call."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A generative model. Item i of `latents` depends on seeds[i] alone, so work can be sharded and resumed."""

    fingerprint: str
    spaces: Sequence[str]

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        """Latent codes [N, ...] of the generator's own prior."""
        ...

    def decode(self, latents: Tensor, space: str) -> Tensor:
        """Images [N, C, H, W], nominally in [0, 1], neither clamped nor rounded; differentiable in `latents`."""
        ...


@runtime_checkable
class Extractor(Protocol):
    """A feature space: images [N, C, H, W] in [0, 1] to float32 features [N, D].

    preprocessing: one line that says resizer, size, scaling, network, layer and weights.
    """

    fingerprint: str
    preprocessing: str

    def __call__(self, images: Tensor) -> Tensor: ...


class Training(Protocol):
    """A network in training; harness/train.py walks it through its epochs, saves, resumes and writes the card."""

    network: nn.Module
    architecture: Mapping[str, Any]
    epochs: int
    batch: int

    def state(self) -> Mapping[str, Any]:
        """All that must be saved to resume, by name: objects with state_dict and load_state_dict."""
        ...

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        """Train on batches of images [B, C, H, W] in [0, 1] and labels; yields the losses of each batch."""
        ...

    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Named figures on held-out images."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Features of labelled images, with classes divided into base and novel.

    features [N, D] float32; labels [N] int64, indices into `names`; names: of the C classes; novel: indices of the
    novel classes, all others are base; semantics [C, S] float32: what is known of each class without seeing its images.
    """

    name: str
    features: Tensor
    labels: Tensor
    names: Sequence[str]
    novel: Sequence[int]
    semantics: Tensor
    fingerprint: str


class FeatureModel(Protocol):
    """What a `FeatureGenerator` has learned: features x [N, D] and codes z [N, L], given conditions a [N, S].

    state: all that must be kept to have it again.
    """

    @property
    def state(self) -> Mapping[str, Tensor]: ...

    def posterior(self, features: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each [N, L], of the codes of features."""
        ...

    def decode(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """Features [N, D] of codes; none depends on the others."""
        ...

    def assess(self, features: Tensor, conditions: Tensor) -> dict[str, float]:
        """Named figures on features; says what is wrong with what was learned."""
        ...


@dataclass(frozen=True)
class View:
    """An array a metric asks for: which samples, in what space, and how many.

    source:  "fake" (generated), "real" (training split) or "holdout" (test split).
    space:   "images", "labels", "latent" or "latent:<space>", "reencoded" (the encoder's mean codes of the images),
             "residual" or "residual:<space>" (mean squared error of an image decoded from its own code),
             "discriminator", "stretch" or "singular" (at a code, squared lengths of decoded random directions, or the
             singular values of the Jacobian; "stretch:<space>"), "trajectory" or "denoising" (of a diffusion model:
             lengths of the steps of its sampler, or errors of denoising a sample),
             "features" (the feature space chosen for the run), or the name of any extractor.
    n:       a number, "all", or "same" (as many as there are generated samples; the default). Where fewer than all are
             read, the seed of the run draws them. "moments": their mean and covariance, as the data set knows them.
    encode:  for real samples in a latent space, where the codes come from: the encoder's "mean", "sample" or "logvar";
             "prior", codes of fresh seeds, which is what a generator without encoder has; or "inversion", optimisation.
    """

    source: Literal["fake", "real", "holdout"]
    space: str
    n: int | Literal["all", "same", "moments"] = "same"
    encode: Codes = "mean"


@dataclass(frozen=True)
class Cell:
    """The unit of work: one metric, or one part of a study, of one generator on one data set with one seed.

    generator, dataset: names with the options that differ from the default, e.g. "vae(temperature=0.7)".
    metric:  the metric's name, or that of the study's table.
    params:  the metric's options, or the part's setting; views: what a metric reads, after overrides of `space` and
             `encode`.
    label:   the metric with all that differs from its declaration, e.g. "latent_density(bandwidth=0.5)".
    """

    experiment: str
    dataset: str
    generator: str
    metric: str
    label: str
    seed: int
    n: int
    params: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)


Scalar = str | int | float | bool | None
"""What a column of a table can hold."""


class Row(NamedTuple):
    """One number of a table: a key for each of the named columns, and the estimate."""

    keys: tuple[Scalar, ...]
    estimate: Estimate


@dataclass(frozen=True)
class Part:
    """What a study computes, records and finds again as a whole: the rows of one table that share a setting.

    rows:    called where there is no valid record; returns (keys, Estimate) pairs, a key for each column of the table.
    setting: what these rows have in common, by name: the options they depend on. Each is a column of the table too.
    table:   one of the tables that the study declares; "" is the only one.
    cells:   the rows are computed again when one of these metrics, its options or what it reads has changed.
    views:   the same for arrays that no cell reads, by a name; fingerprints: for anything else, by a name.
    """

    rows: Callable[[], Iterable[tuple[tuple[Scalar, ...], Estimate]]]
    setting: Mapping[str, Any] = field(default_factory=dict)
    table: str = ""
    cells: Sequence[Cell] = ()
    views: Mapping[str, View] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Floor:
    """What a set metric says of other real samples in place of the generated ones.

    rows: its numbers, none where it could not be had; n: of the real samples that stand for the generated ones.
    samples: which these are, and what they are compared with, in words; error: why it could not be had.
    """

    rows: Sequence[Row]
    n: int
    samples: str
    error: str | None = None


@dataclass(frozen=True)
class Record:
    """A cell and its answer, as written to JSON. Nothing in it depends on time, host or path.

    columns: names of the keys of each row: "name" for a metric's numbers, a study's own for those of a study.
    rows:    the numbers. An undefined one is NaN in memory and null on disk.
    status:  "failed" where the cell could not be evaluated; `error` says why and there are no rows. "edited" is never
             written: so a record is read that somebody changed after it was written.
    inputs:  what was read, by name: the digest of each view, and the version of each metric that a study used. A record
             is valid while these and `version` are those of the code and the weights.
    preprocessing: of each view through an extractor: its name, and what it does to an image before and in the network.
    numerics: with what the numbers were computed: versions of assay and torch, device, dtype, threads.
    samples: of each view, how many samples were found and used, and the seed where it drew them; or how many were made.
             Empty in older records.
    floor:   of a set metric that compares generated samples with real ones, what it says of real ones; None in older
             records, and where it was not asked for.
    """

    cell: Cell
    version: int
    kind: Literal["set", "sample", "study"]
    better: Better
    source: str
    columns: Sequence[str]
    rows: Sequence[Row]
    status: Literal["ok", "failed", "edited"]
    error: str | None
    inputs: Mapping[str, str]
    preprocessing: Mapping[str, str] = field(default_factory=dict)
    numerics: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    floor: Floor | None = None

    @property
    def values(self) -> dict[Any, Estimate]:
        """The estimates by key; by the tuple of keys where there are several columns."""
        return {row.keys[0] if len(row.keys) == 1 else row.keys: row.estimate for row in self.rows}


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one, else the CPU."""
    import torch

    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
