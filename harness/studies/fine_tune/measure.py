"""What does fine-tuning by pseudo density do? Trainings that go on under weights, beside one that goes on without."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from torch import Tensor

from ...arrays.views import Views
from ...core.files import digest
from ...core.progress import say
from ...core.protocols import Estimate, View
from ...core.registry import GENERATORS, TRAINERS, study, unknown
from ...report.figures import slug
from ...run import MetricSpec, Run, label
from ...train import Importance, Measure, train
from ..same_seeds import SameSeeds
from .importance import by_pseudo_density
from .page import NOTHING, SETTING, UNTUNED, draw_samples, in_order, page

VERSION = 2
PRESETS = Path(__file__).parents[3] / "configs" / "tuning"
PLAIN = {"weight_real": 1, "weight_fake": None, "tau": 0.5, "space": "classifier", "k": 10, "network": 20}


@study(page)
def fine_tune(
    run: Run,
    tunings: Sequence[MetricSpec] = ("control", "fidelity", "diversity"),
    trainers: Mapping[str, Mapping[str, Any]] = {},
    start: str = "zoo",
    spaces: Sequence[str] = ("features", "pixels"),
    count: int = 5000,
    halves: int = 20,
    curve: int = 1000,
    shown: int = 12,
) -> None:
    """The generator trained on in several ways (arXiv:2407.08659, Algorithm 3), each judged by `run.set_metrics`.

    The same `count` seeds are judged before and after every tuning, against the same reals. Differences to the untuned
    generator and to the first tuning, which should be plain further training, have intervals that hold for new samples
    and reals; two trainings differ by more: a second control with another seed tells how much. A generator without a
    trainer that goes on from weights is left out. The tuned weights stay in <out>/tuned.

    tunings:  names of `assay list tunings`, or {tuning: name, option: value} with options of `importance` in `assay
              train`, or seed. The control comes first.
    trainers: options of trainers by name, and `images` an epoch.
    start:    weights to go on from, those of the generator.
    spaces:   feature spaces that judge; the densities are those of one of them, by default the classifier's.
    halves:   random halves of samples and reals, by which the intervals of differences are found.
    curve:    samples by which the first space tells of every epoch. shown: samples in the picture.
    """
    family = run.generator.partition("(")[0]
    if "start" not in (TRAINERS[family].options if family in TRAINERS else ()):
        say(f"fine_tune: {family} has no trainer that goes on from weights, so it is left out")
        return
    same = SameSeeds(run, spaces, count, halves)
    if GENERATORS[family].function(run.views.data.name, path=start).fingerprint != run.views.generator.fingerprint:
        raise ValueError(
            f"start={start} holds another generator than the one that is judged: give the file of "
            f"generator.{family}.path, and its other options as they are by default"
        )
    options = {"start": start} | dict(trainers.get(family, {}))
    images = options.pop("images", None)
    arms = [Arm.of(entry, run.seed, images) for entry in tunings]
    if len({arm.label for arm in arms}) < len(arms) or not arms:
        raise ValueError(f"tunings={[arm.label for arm in arms]} must be different ones, the control first")
    untuned, control = Arm(UNTUNED, 0, run.seed, PLAIN), arms[0]
    tuned = Tuned(run, family, control, options, same, curve)
    for arm in (untuned, *arms):
        others = [] if arm is untuned else [untuned] if arm is control else [untuned, control]
        tuned.record("fine_tune", "metric ~ space ~ against", arm, partial(tuned.compared, arm, others))
    for arm in arms:
        tuned.record("fine_tune_course", "quantity ~ images", arm, partial(tuned.course, arm))
    by_label = {arm.label: arm for arm in (untuned, *arms)}
    rows = [by_label[name] for name in in_order(by_label, control.label)]
    draw_samples(run, tuned.setting, lambda: [tuned.images(arm, shown) for arm in rows], tuned.changed)


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
        for option in changes:
            if option not in (*PLAIN, "seed"):
                raise ValueError(unknown("option of a tuning:", option, [*PLAIN, "seed"]))
        preset: Any = OmegaConf.to_container(OmegaConf.load(known[name]))
        weights = {key: value for key, value in changes.items() if key != "seed"}
        importance = PLAIN | preset.get("importance", {}) | weights
        return cls(label(name, {}, changes), images or preset["images"], changes.get("seed", seed), importance)


@dataclass
class Tuned:
    """The generator after each tuning; weights are made when first needed, and what is judged is kept while this is."""

    run: Run
    family: str
    control: Arm
    options: Mapping[str, Any]
    same: SameSeeds
    curve: int
    _paths: dict[str, Path] = field(default_factory=dict)
    _opened: dict[str, Views] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, str | int]:
        """What all records of a call have in common, by the names in SETTING."""
        trained = ", ".join(f"{key} {value}" for key, value in sorted(self._options.items()) if value != "")
        return dict(
            zip(SETTING, (trained, self.control.label, self.same.count, self.same.halves, self.curve), strict=True)
        )

    @property
    def _options(self) -> dict[str, Any]:
        """Of the trainer."""
        return {**TRAINERS[self.family].options, **self.options}

    def record(self, table: str, columns: str, arm: Arm, compute: Callable[[], Mapping[str, Estimate]]) -> None:
        weights = {key: arm.importance[key] for key in ("weight_real", "weight_fake", "tau")}
        if weights["weight_fake"] is None:
            weights["weight_fake"] = "as published"
        params = {"columns": columns, "tuning": arm.label, "images_an_epoch": arm.images, "trainer_seed": arm.seed}
        views = self.run.views
        read = {"start": views.generator.fingerprint, "data": views.data.fingerprint, "control": digest(self.control)}
        self.run.record(table, VERSION, {**params, **weights, **self.setting}, self.same.cells, compute, read=read)

    @property
    def changed(self) -> bool:
        """Whether any tuning was opened since, so that pictures of them may be others."""
        return bool(self._opened)

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
            self.family, self._options, views.data, arm.seed, self.run.folder / "tuned", views.device,
            tag=slug(arm.label), images=arm.images, weigh=weigh, measure=measure,
        )  # fmt: skip

    def views(self, arm: Arm) -> Views:
        """What a tuning made, seen space everything."""
        views = self.run.views
        if arm.label == UNTUNED:
            return views
        if arm.label not in self._opened:
            generator = GENERATORS[self.family].function(views.data.name, path=str(self.weights(arm)))
            others = (views.features, views.store, views.device, views.options)
            self._opened[arm.label] = Views(views.data, generator, *others)
        return self._opened[arm.label]

    def images(self, arm: Arm, shown: int) -> Tensor:
        """The first samples, uint8 [shown, C, H, W]."""
        return self.views(arm).images("fake", self.run.seed, self.same.count, range(min(shown, self.same.count)))

    # What is told of them

    def compared(self, arm: Arm, others: Sequence[Arm]) -> dict[str, Estimate]:
        """Every metric with its own interval, and its differences to other generators with theirs."""
        views = self.views(arm)
        found = {f"{key} ~ {NOTHING}": estimate for key, estimate in self.same.values(views).items()}
        for other in others:
            differences = self.same.differences(views, self.views(other))
            found |= {f"{key} ~ {other.label}": estimate for key, estimate in differences.items()}
        return found

    def course(self, arm: Arm) -> dict[str, Estimate]:
        """What the card of the weights tells of every epoch, by the images learned from until then."""
        card = json.loads(self.weights(arm).with_suffix(".json").read_text())
        found: dict[str, Estimate] = {}
        for step, measured in enumerate(card["measured"]):
            told = {**measured, **({} if step == 0 else card["losses"][step - 1])}
            images = told.pop("images")
            found |= {f"{key} ~ {images}": Estimate(value, (math.nan, math.nan), self.curve)
                      for key, value in told.items()}  # fmt: skip
        return found
