"""Train what a trainer declares: progress, checkpoint and samples after every epoch, weights and a card at the end."""

import io
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .figures import save_strips
from .files import digest, replace
from .progress import Advance, say, track
from .protocols import Dataset, Pictured, Training
from .registry import TRAINERS
from .weights import write_weights

SHOWN = 10
"""Rows and columns of the sample grid after each epoch."""


def train(
    name: str,
    options: Mapping[str, Any],
    data: Dataset,
    seed: int,
    out: Path,
    device: torch.device,
    data_options: Mapping[str, Any] | None = None,
) -> Path:
    """Train `name` on a data set, or go on where a killed training stopped. Returns the path of the weights.

    Every epoch draws from its own seed, so a resumed training ends with the same weights as an undisturbed one.
    """
    path = out / f"{name}-{data.name}.safetensors"
    checkpoint = path.with_suffix(".checkpoint.pt")
    chosen = [f"dataset={data.name}", *(f"dataset.{data.name}.{k}={v}" for k, v in (data_options or {}).items() if v)]
    overrides = [f"trainer.{name}.{key}={value}" for key, value in options.items()]
    settings = digest(name, sorted(overrides), data.fingerprint, seed)
    training: Training = TRAINERS[name].function(data, seed, **options)
    training.network.to(device)
    history = _resume(checkpoint, training, settings)
    images, labels = data.take("train", 0, data.count("train"))
    for epoch in range(len(history), training.epochs):
        torch.manual_seed(int(digest(seed, epoch)[:12], 16))
        with track(f"{name} on {data.name}, epoch {epoch + 1}/{training.epochs}", len(images), "images") as advance:
            batches = _batches(images, labels, training.batch, device, advance)
            history.append(_mean(list(training.epoch(batches))))
        say("  " + ", ".join(f"{key} {value:.4f}" for key, value in history[-1].items()))
        _save(checkpoint, training, settings, history)
        if isinstance(training, Pictured):
            say(f"  {_picture(training, path.with_suffix('.samples') / f'epoch-{epoch + 1:03}.png')}")
    test: dict[str, float] = {}
    if held_out := data.count("test"):
        test_images, test_labels = data.take("test", 0, held_out)
        labels_there = None if test_labels is None else test_labels.to(device)
        test = training.assess(test_images.to(device).float() / 255, labels_there)
    card = {
        "command": " ".join(["assay train", f"trainer={name}", *chosen, f"seed={seed}", *overrides]),
        "architecture": dict(training.architecture),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "data": {"name": data.name, "fingerprint": data.fingerprint, "images": len(images)},
        "seed": seed,
        "losses": [{key: round(value, 5) for key, value in losses.items()} for losses in history],
        "test": {key: round(value, 5) for key, value in test.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "device": device.type},
    }
    write_weights(path, training.network.state_dict(), training.architecture, card)
    checkpoint.unlink(missing_ok=True)
    say(f"{path}: " + ", ".join(f"test {key} {value:.4f}" for key, value in test.items()))
    return path


def _batches(
    images: Tensor, labels: Tensor | None, batch: int, device: torch.device, advance: Advance
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for rows in torch.split(torch.randperm(len(images)), batch):
        yield images[rows].to(device).float() / 255, None if labels is None else labels[rows].to(device)
        advance(len(rows))


def _mean(losses: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(batch[key] for batch in losses) / len(losses) for key in losses[0]}


def _picture(training: Pictured, path: Path) -> Path:
    images = (training.pictures(SHOWN**2).cpu() * 255).round().byte()
    return save_strips(torch.split(images, SHOWN), path)


def _save(checkpoint: Path, training: Training, settings: str, history: list[dict[str, float]]) -> None:
    content = io.BytesIO()
    state = {key: part.state_dict() for key, part in training.state().items()}
    torch.save({"settings": settings, "history": history, "state": state}, content)
    replace(checkpoint, content.getvalue())


def _resume(checkpoint: Path, training: Training, settings: str) -> list[dict[str, float]]:
    """The losses of the epochs already done; loads them into `training`. Empty when there is nothing to resume."""
    if not checkpoint.is_file():
        return []
    try:
        saved = torch.load(checkpoint, weights_only=True)
    except Exception:  # torch raises a different one for each way in which a file can be damaged
        raise ValueError(f"{checkpoint} is damaged and cannot be resumed; delete it to start again") from None
    if saved["settings"] != settings:
        raise ValueError(
            f"{checkpoint} belongs to a training with other settings; finish that one, delete the file, "
            "or choose another folder with out=DIR"
        )
    for key, part in training.state().items():
        part.load_state_dict(saved["state"][key])
    history: list[dict[str, float]] = saved["history"]
    say(f"resuming after epoch {len(history)} of {training.epochs} ({checkpoint})")
    return history
