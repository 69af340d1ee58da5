"""A training tells its sinks what its card says, also when it was killed and goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.harness import train as module
from assay.harness.core import registry
from assay.harness.core.registry import DATASETS, discover
from assay.harness.sinks.log import Log
from assay.harness.sinks.protocol import About
from assay.harness.train import Measure, train

from .test_log import Noted

discover()
GAN = {"epochs": 2, "base": 64, "max_channels": 8, "z_dim": 8, "batch": 32}


class Killed(BaseException):
    pass


def trained(out: Path, noted: Noted) -> dict[str, Any]:
    registry.SINKS.pop("noted", None)
    registry.sink("noted")(lambda about: noted)
    log = Log(About("gan", "train", "group", out), {"noted": {}})
    measure = Measure(("precision",), ("pixels",), 32)
    data = DATASETS["digits"].function()
    path = train("stylegan2", GAN, data, 0, out, torch.device("cpu"), images=32, measure=measure, log=log)
    log.close()
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return card


def test_losses_measures_and_pictures_of_every_epoch_are_told(own_registries: None, tmp_path: Path) -> None:
    noted = Noted()
    card = trained(tmp_path, noted)
    steps = [told for call, told in zip(noted.calls, noted.told, strict=True) if call == "progress"]
    assert [step for step, _ in steps] == [0, 1, 2]
    for step, values in steps:
        losses = {f"losses/{name}": value for name, value in card["losses"][step - 1].items()} if step else {}
        measured = {f"measured/{name}": value for name, value in card["measured"][step].items() if name != "images"}
        assert {name: round(value, 5) for name, value in values.items()} == losses | measured
    pictures = [told["samples"].name for call, told in zip(noted.calls, noted.told, strict=True) if call == "pictures"]
    assert pictures == ["epoch-001.png", "epoch-002.png"]
    (final,) = (told for call, told in zip(noted.calls, noted.told, strict=True) if call == "summary")
    assert {name: round(value, 5) for name, value in final.items()} == {
        f"test/{name}": value for name, value in card["test"].items()
    }


def test_a_resumed_training_tells_all_epochs(
    own_registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, whole, rest = module._save, Noted(), Noted()
    trained(tmp_path / "whole", whole)

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise Killed

    monkeypatch.setattr(module, "_save", save_and_die)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", Noted())
    monkeypatch.setattr(module, "_save", save)
    trained(tmp_path / "killed", rest)
    told = [
        [what for call, what in zip(one.calls, one.told, strict=True) if call == "progress" and what[0]]
        for one in (whole, rest)
    ]
    assert told[0] == told[1]


def test_a_dead_sink_leaves_the_weights_as_they_are(own_registries: None, tmp_path: Path) -> None:
    cards = [trained(tmp_path / name, Noted(breaks)) for name, breaks in (("alive", ""), ("dead", "progress"))]
    assert cards[0]["sha256"] == cards[1]["sha256"]
