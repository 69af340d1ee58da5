"""What does fine-tuning by pseudo density do? Trainings that go on under weights, beside one that goes on without."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf
from scipy.special import stdtrit
from torch import Tensor

from ...arrays.views import Views
from ...core.files import digest
from ...core.progress import say
from ...core.protocols import Estimate, Part, Row, View
from ...core.registry import GENERATORS, TRAINERS, study, unknown
from ...report.figures import save_strips, short, slug
from ...run import MetricSpec, Run, label
from ...train import Importance, Measure, train
from ..same_seeds import SameSeeds
from .importance import by_pseudo_density
from .names import COMMON, NOTHING, THESE, UNTUNED, in_order
from .page import page

CONFIGS = Path(__file__).parents[3] / "configs"
PRESETS = CONFIGS / "tuning"


def plain() -> dict[str, Any]:
    """The options of `importance` in `assay train` as they are by default: nothing is weighed."""
    return _config(CONFIGS / "train.yaml")["importance"]  # type: ignore[no-any-return]


def _config(file: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]


@dataclass(frozen=True)
class Options:
    """Which tunings are made and how they are judged.

    tunings:  names of `assay list tunings`, or {tuning: name, option: value} with options of `importance` in `assay
              train`, or seed. The control comes first.
    trainers: options of trainers by name, and `images` an epoch.
    start:    weights to go on from, those of the generator.
    spaces:   feature spaces that judge; the densities are those of one of them, by default the classifier's.
    count:    samples of each generator that are judged.
    halves:   random halves of samples and reals, by which the intervals of differences are found.
    curve:    samples by which the first space judges every epoch.
    shown:    samples in the picture.
    """

    tunings: Sequence[MetricSpec] = ("control", "fidelity", "diversity")
    trainers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: str = "zoo"
    spaces: Sequence[str] = ("features", "pixels")
    count: int = 5000
    halves: int = 20
    curve: int = 1000
    shown: int = 12


@study(version=3, page=page, fine_tune=("metric", "space", "against"), fine_tune_course=("quantity", "images"))
def fine_tune(run: Run, options: Options) -> Iterator[Part]:
    """The generator trained on in several ways (arXiv:2407.08659, Algorithm 3), each judged by set metrics.

    Every tuning goes on from the same weights for as many images; the control, which comes first, does so without
    importance weights. All are judged by the same seeds against the same reals. Feature spaces other than the one whose
    density steers judge what did not steer.

    Trainings differ by their seeds alone, too. Plain trainings of other seeds, such as {tuning: control, seed: 1}, tell
    by how much: the interval of a difference is that for other samples and reals (from random halves) and, in
    quadrature, that of Student's t for other trainings, whose standard deviation is taken to be that of the plain ones.
    With two of these, t has one degree of freedom, and next to nothing is decided. Without a second one nothing is.
    Beside it stands the interval of these trainings alone. Claims are corrected for all differences (Holm).

    A generator without a trainer that goes on from weights is left out. The tuned weights stay in <out>/tuned.
    Raises ValueError for weights of another generator, unknown tunings or options of them, and equal tunings.
    """
    family = run.generator.partition("(")[0]
    if "start" not in (TRAINERS[family].options if family in TRAINERS else ()):
        say(f"fine_tune: {family} has no trainer that goes on from weights, so it is left out")
        return
    same = SameSeeds(run, options.spaces, options.count, options.halves)
    started = GENERATORS[family].function(run.views.data.name, path=options.start)
    if started.fingerprint != run.views.generator.fingerprint:
        raise ValueError(
            f"start={options.start} holds another generator than the one that is judged: give the file of "
            f"generator.{family}.path, and its other options as they are by default"
        )
    trained = TRAINERS[family].options | {"start": options.start} | dict(options.trainers.get(family, {}))
    images = trained.pop("images", None)
    arms = [Arm.of(entry, run.seed, images) for entry in options.tunings]
    if len({arm.label for arm in arms}) < len(arms) or not arms:
        raise ValueError(f"tunings={[arm.label for arm in arms]} must be different ones, the control first")
    untuned, control = Arm(UNTUNED, 0, run.seed, plain()), arms[0]
    plainly = list({arm.seed: arm for arm in reversed(arms) if arm.is_plain and arm.images == control.images}.values())
    tuned = Tuned(run, family, control, plainly, trained, same, options.curve)
    for arm in (untuned, *arms):
        others = [] if arm is untuned else [untuned] if arm is control else [untuned, control]
        yield tuned.part("fine_tune", arm, partial(tuned.compared, arm, others))
    for arm in arms:
        yield tuned.part("fine_tune_course", arm, partial(tuned.course, arm))
    path = run.figure("tuned", short({name: tuned.setting(control)[name] for name in COMMON}))
    if tuned.opened or not path.is_file():  # opening every tuning takes a while
        by_label = {arm.label: arm for arm in (untuned, *arms)}
        save_strips([tuned.images(by_label[name], options.shown) for name in in_order(by_label, control.label)], path)


def over_trainings(difference: Estimate, plain: Sequence[float], trained: int) -> Estimate:
    """A difference with an interval for other trainings, too; NaN where fewer than two plain ones were made.

    difference: with its interval for other samples and reals. plain: values of trainings that differ by their seeds
    alone, whose variance holds the noise of samples already, so that the interval is rather wide. trained: how many
    of the two generators that are compared were trained anew, 1 or 2.
    """
    if len(plain) < 2:
        return difference._replace(interval=(math.nan, math.nan))
    deviation = float(torch.tensor(plain, dtype=torch.float64).std()) * math.sqrt(trained)
    half = math.hypot(
        float(stdtrit(len(plain) - 1, 0.975)) * deviation, (difference.interval[1] - difference.interval[0]) / 2
    )
    return difference._replace(interval=(difference.value - half, difference.value + half))


class Arm(NamedTuple):
    """One way to train on: images an epoch, and the weights of images over the tau quantile of pseudo density."""

    label: str
    images: int
    seed: int
    importance: Mapping[str, Any]

    @classmethod
    def of(cls, entry: MetricSpec, seed: int, images: int | None) -> "Arm":
        changes: dict[str, Any] = {"tuning": entry} if isinstance(entry, str) else dict(entry)
        name, known = str(changes.pop("tuning", "")), {file.stem: file for file in PRESETS.glob("*.yaml")}
        if name not in known:
            raise ValueError(unknown("tuning", name, sorted(known)))
        usual = plain()
        for option in changes:
            if option not in (*usual, "seed"):
                raise ValueError(unknown("option of a tuning:", option, [*usual, "seed"]))
        preset = _config(known[name])
        weights = {key: value for key, value in changes.items() if key != "seed"}
        importance = usual | preset.get("importance", {}) | weights
        return cls(label(name, {}, changes), images or preset["images"], changes.get("seed", seed), importance)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is weighed."""
        return self.importance["weight_real"] == 1 and self.importance["weight_fake"] in (None, 1)

    @property
    def fingerprint(self) -> str:
        """Of all that makes it, under the names of the first release, by which published records know it."""
        importance = {"through" if key == "space" else key: value for key, value in self.importance.items()}
        return digest(self._replace(importance=importance))


@dataclass
class Tuned:
    """The generator after each tuning; weights are made when first needed, and what is judged is kept while this is.

    plain: trainings that differ by their seeds alone.
    """

    run: Run
    family: str
    control: Arm
    plain: Sequence[Arm]
    options: Mapping[str, Any]
    same: SameSeeds
    curve: int
    opened: dict[str, Views] = field(default_factory=dict)
    _paths: dict[str, Path] = field(default_factory=dict)

    def setting(self, arm: Arm) -> dict[str, str | int | float]:
        """What the rows of a part have in common: columns of the tables, in this order."""
        trained = ", ".join(f"{key} {value}" for key, value in sorted(self.options.items()) if value != "")
        weight_fake = arm.importance["weight_fake"]
        return {
            "control": self.control.label,
            "curve": self.curve,
            "halves": self.same.halves,
            "images_an_epoch": arm.images,
            "plain_trainings": len(self.plain),
            "samples_judged": self.same.count,
            "tau": arm.importance["tau"],
            "trainer": trained,
            "trainer_seed": arm.seed,
            "tuning": arm.label,
            "weight_fake": "as published" if weight_fake is None else weight_fake,
            "weight_real": arm.importance["weight_real"],
        }

    def part(self, table: str, arm: Arm, rows: Callable[[], Iterator[Row]]) -> Part:
        views = self.run.views
        fingerprints = {"start": views.generator.fingerprint, "data": views.data.fingerprint,
                        "control": self.control.fingerprint,
                        "plain": digest([arm.fingerprint for arm in self.plain])}  # fmt: skip
        return Part(rows, self.setting(arm), table, self.same.cells, fingerprints=fingerprints)

    # The generators

    def weights(self, arm: Arm) -> Path:
        """Where they lie; made when first asked for."""
        if arm.label not in self._paths:
            self._paths[arm.label] = self._train(arm)
        return self._paths[arm.label]

    def _train(self, arm: Arm) -> Path:
        views = self.run.views

        def weigh(selective: bool) -> Importance | None:
            space = arm.importance["space"]
            features = views.tensor(View("real", space, n="all"), self.run.seed, self.run.n)
            known = views.extractor(space), features
            return by_pseudo_density(views.data, views.device, selective, **arm.importance, known=known)

        measure = Measure(
            list(dict.fromkeys(cell.metric for cell in self.same.cells)), self.same.spaces[:1], self.curve
        )
        return train(
            self.family, self.options, views.data, arm.seed, self.run.folder / "tuned", views.device,
            tag=slug(arm.label), images=arm.images, weigh=weigh, measure=measure,
            replacing=True,
        )  # fmt: skip

    def views(self, arm: Arm) -> Views:
        """The samples of a tuning, in every space."""
        views = self.run.views
        if arm.label == UNTUNED:
            return views
        if arm.label not in self.opened:
            generator = GENERATORS[self.family].function(views.data.name, path=str(self.weights(arm)))
            others = (views.features, views.store, views.device, views.options)
            self.opened[arm.label] = Views(views.data, generator, *others)
        return self.opened[arm.label]

    def images(self, arm: Arm, shown: int) -> Tensor:
        """The first samples, uint8 [shown, C, H, W]."""
        return self.views(arm).images("fake", self.run.seed, self.same.count, range(min(shown, self.same.count)))

    # What is measured on them

    def compared(self, arm: Arm, others: Sequence[Arm]) -> Iterator[Row]:
        """Every metric with its own interval, and its differences to other generators with theirs."""
        views = self.views(arm)
        yield from (Row((*key, NOTHING), estimate) for key, estimate in self.same.values(views).items())
        plain = [self.same.values(self.views(one)) for one in self.plain] if others else []
        for other in others:
            trained = 1 if other.label == UNTUNED else 2
            for key, here in self.same.differences(views, self.views(other)).items():
                yield Row((*key, f"{other.label}{THESE}"), here)
                yield Row((*key, other.label), over_trainings(here, [values[key].value for values in plain], trained))

    def course(self, arm: Arm) -> Iterator[Row]:
        """What the card of the weights says of every epoch, by the images learned from until then."""
        card = json.loads(self.weights(arm).with_suffix(".json").read_text())
        for step, measured in enumerate(card["measured"]):
            figures = measured | ({} if step == 0 else card["losses"][step - 1])
            images = str(figures.pop("images"))
            for key, value in figures.items():
                quantity = key.replace(" through ", " in ")  # as cards of the first release have it
                yield Row((quantity, images), Estimate(value, (math.nan, math.nan), self.curve))
