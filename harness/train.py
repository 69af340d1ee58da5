"""Train what a trainer declares: progress, checkpoint and samples after every epoch, weights and a card at the end."""

import io
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .arrays.subsets import Subset, taken
from .core.abilities import AcceptsSamples, CanSample, OwnsSampler
from .core.files import digest, replace, sha256_of
from .core.progress import Advance, say, track
from .core.protocols import Dataset, Training
from .core.registry import EXTRACTORS, METRICS, TRAINERS
from .evaluate import estimates
from .formats.weights import find_weights, write_weights
from .report.figures import save_strips
from .sinks.log import Log

SHOWN = 10
"""Rows and columns of the sample grid after each epoch."""
BATCH = 250
"""Images seen at a time by the networks that measure."""

Figures = Mapping[str, float]
History = list[dict[str, Figures]]
"""Of each epoch done, its "losses" and what was "measured" after it."""
Rows = Callable[[], Tensor]


@dataclass(frozen=True)
class Importance:
    """What a training sees more often than it would: its real images by weights [N], and which samples of its own.

    given: the options it was made by, as the command line takes them; found: what came of them, for the card.
    """

    weights: Tensor
    accept: Callable[[Tensor], Tensor] | None
    given: Sequence[str]
    found: Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """Set metrics of n samples of a network in training against the first n training images, in feature spaces."""

    metrics: Sequence[str] = ()
    spaces: Sequence[str] = ("pixels",)
    n: int = 2000


NOTHING = Measure()


def train(
    name: str,
    options: Mapping[str, Any],
    data: Dataset,
    seed: int,
    out: Path,
    device: torch.device,
    data_options: Mapping[str, Any] | None = None,
    tag: str | None = None,
    images: int | None = None,
    snapshots: bool = False,
    weigh: Callable[[bool], Importance | None] = lambda selective: None,
    measure: Measure = NOTHING,
    replacing: bool = False,
    log: Log | None = None,
) -> Path:
    """Train `name` on a data set, or go on where a killed training stopped. Returns the path of the weights.

    Every epoch draws from its own seed, so a resumed training ends with the same weights as an undisturbed one. Weights
    that the same training has made already are left as they are. Their card tells the CPU seconds (user and system, all
    threads) of what made them; what a kill lost is not among them.

    tag:       added to the names of all files. images: training images an epoch, by default all there are.
    snapshots: keep the weights of every epoch, each with its card.
    weigh:     what is seen more often, given whether the training can choose among samples of its own. Real images are
               then drawn by weight with replacement; without it an epoch takes them in a new order, each once.
    measure:   what the card tells of the samples before the first epoch and after each.
    replacing: finished weights of another training, which lie in the place of these, are replaced; else they stay.
    log:       gets the figures of every epoch, also of those before a resumed training was killed; it is not closed.
    Raises ValueError for options out of range, for files of another training in their place, and for a checkpoint that
    is damaged.
    """
    begun = time.process_time()
    available = data.count("train")
    if images is not None and not 1 <= images <= available:
        raise ValueError(f"images={images} must be between 1 and {available}, the training images of {data.name}")
    count = images or available
    stem = "-".join(part for part in (name, data.name, tag) if part)
    path = out / f"{stem}.safetensors"
    checkpoint = path.with_suffix(".checkpoint.pt")
    training: Training = TRAINERS[name].function(data, seed, **options)
    training.network.to(device)
    importance = weigh(isinstance(training, AcceptsSamples))
    rows = _rows(available, count, importance)
    if isinstance(training, OwnsSampler):
        training.rows = rows
    if isinstance(training, AcceptsSamples) and importance:
        training.accept = importance.accept
    chosen = [f"dataset={data.name}", *(f"dataset.{data.name}.{k}={v}" for k, v in (data_options or {}).items() if v)]
    overrides = [f"trainer.{name}.{key}={value}" for key, value in options.items() if value != ""]
    overrides += [f"images={images}"] if images else []
    overrides += importance.given if importance else []
    start = _start(name, options, data)
    settings = digest(name, sorted(overrides), data.fingerprint, seed, *start.values())
    if _claimed(path, settings, replacing):
        say(f"{path} is there already, made by the same training; to make it again, delete it")
        return path
    card = {
        "command": " ".join(["assay train", f"trainer={name}", *chosen, f"seed={seed}", *overrides]),
        "architecture": dict(training.architecture),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "data": {"name": data.name, "fingerprint": data.fingerprint, "images": available},
        "seed": seed,
        "settings": settings,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "device": device.type},
        **({"start": start} if start else {}),
        **({"importance": dict(importance.found)} if importance else {}),
    }
    before = _measured(training, data, seed, device, measure)
    history, before_it = _resume(checkpoint, training, settings)
    log = log or Log.silent()
    if before:
        log.step(0, _by_path({"measured": before}))
    for done, figures in enumerate(history, 1):
        log.step(done, _by_path(figures))
    content, labels = data.take("train", 0, available)
    for epoch in range(len(history), training.epochs):
        torch.manual_seed(int(digest(seed, epoch)[:12], 16))
        with track(f"{name} on {data.name}, epoch {epoch + 1}/{training.epochs}", count, "images") as advance:
            batches = _batches(content, labels, rows, training.batch, device, advance)
            losses = _mean(list(training.epoch(batches)))
        history.append({"losses": losses, "measured": _measured(training, data, seed, device, measure)})
        say("  " + ", ".join(f"{key} {value:.4f}" for part in history[-1].values() for key, value in part.items()))
        _save(checkpoint, training, settings, history, _spent(begun, before_it))
        done = epoch + 1
        if snapshots:
            file = path.with_suffix(".snapshots") / f"{stem}-{done * count:07}.safetensors"
            written = card | _history(history, before, count)
            write_weights(file, training.network.state_dict(), training.architecture, written)
        if isinstance(training, CanSample):
            picture = _picture(training, path.with_suffix(".samples") / f"epoch-{done:03}.png")
            say(f"  {picture}")
        log.step(done, _by_path(history[-1]), picture if isinstance(training, CanSample) else None)
    test: dict[str, float] = {}
    if held_out := data.count("test"):
        test_images, test_labels = data.take("test", 0, held_out)
        labels_there = None if test_labels is None else test_labels.to(device)
        test = training.assess(test_images.to(device).float() / 255, labels_there)
    log.values(_by_path({"test": test}))
    written = card | _history(history, before, count) | {"test": _rounded(test)}
    if (spent := _spent(begun, before_it)) is not None:
        written["cpu_seconds"] = round(spent, 2)
    write_weights(path, training.network.state_dict(), training.architecture, written)
    checkpoint.unlink(missing_ok=True)
    say(f"{path}: " + ", ".join(f"test {key} {value:.4f}" for key, value in test.items()))
    return path


def _claimed(path: Path, settings: str, replacing: bool) -> bool:
    """Whether finished weights of a training with these settings are there, whole; else they are now to be made.

    Their card says from the beginning which training they are of. Raises ValueError where that is another one that
    is not to be replaced.
    """
    card = path.with_suffix(".json")
    claim = json.dumps({"settings": settings, "unfinished": True}).encode()
    card.parent.mkdir(parents=True, exist_ok=True)
    try:
        with card.open("xb") as file:
            file.write(claim)
    except FileExistsError:
        found = _card(card)
        if found is None:
            say(f"{card} is damaged, so nothing tells what made the weights beside it; they are made again")
            replace(card, claim)
            return False
        if found.get("settings") != settings and replacing and not found.get("unfinished"):
            replace(card, claim)
            return False
        if found.get("settings") != settings:
            raise ValueError(
                f"{card} belongs to a training with other settings or another seed; choose another folder with "
                "out=DIR, another name with name=NAME, such as name='seed${seed}', or delete it and the weights"
            ) from None
        return path.is_file() and found.get("sha256") == sha256_of(path)
    return False


def _card(card: Path) -> dict[str, Any] | None:
    """What a card says; None where it is damaged."""
    try:
        found = json.loads(card.read_bytes())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _rows(available: int, count: int, importance: Importance | None) -> Rows:
    """Draws the rows of an epoch: each once in a new order, or by weight with replacement."""
    if importance is None:
        return lambda: torch.randperm(available)[:count]
    return partial(torch.multinomial, importance.weights, count, replacement=True)


def _batches(
    images: Tensor, labels: Tensor | None, rows: Rows, batch: int, device: torch.device, advance: Advance
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for part in torch.split(rows(), batch):
        yield images[part].to(device).float() / 255, None if labels is None else labels[part].to(device)
        advance(len(part))


def _start(name: str, options: Mapping[str, Any], data: Dataset) -> dict[str, str]:
    """The weights that a training goes on from, by name and content; empty where it starts from nothing."""
    if not options.get("start"):
        return {}
    file = find_weights("generator", name, data.name, options["start"])
    return {"file": file.name, "sha256": sha256_of(file)}


@torch.no_grad()
def _measured(training: Training, data: Dataset, seed: int, device: torch.device, measure: Measure) -> Figures:
    """Figures by metric and feature space, of samples in 8 bits as they would be stored."""
    if not measure.metrics:
        return {}
    if not isinstance(training, CanSample):
        raise ValueError("measure.metrics: this training makes no samples to measure; leave them out")
    samples = (training.pictures(measure.n) * 255).round() / 255
    there = data.count("train")
    drawn = Subset("real", there, min(measure.n, there), seed).numbers
    real = torch.cat([part.images for part in taken(data, "train", drawn)]).to(device).float() / 255
    found: dict[str, float] = {}
    for space in measure.spaces:
        extract = EXTRACTORS[space].function(data.name)
        seen = [torch.cat([extract(part) for part in torch.split(images, BATCH)]) for images in (samples, real)]
        for metric in measure.metrics:
            answer = estimates(metric, METRICS[metric].function(*seen), measure.n)
            found |= {f"{key} in {space}": estimate.value for key, estimate in answer.items()}
    return found


def _history(history: History, before: Figures, count: int) -> dict[str, Any]:
    """What a card tells of the epochs; what was measured, by the images learned from until then."""
    epochs: dict[str, Any] = {"losses": [_rounded(epoch["losses"]) for epoch in history]}
    if before:
        every = [before, *(epoch["measured"] for epoch in history)]
        epochs["measured"] = [{"images": i * count, **_rounded(figures)} for i, figures in enumerate(every)]
    return epochs


def _by_path(parts: Mapping[str, Figures]) -> dict[str, float]:
    """Figures of several parts by path, such as "losses/total"."""
    return {f"{part}/{name}": value for part, figures in parts.items() for name, value in figures.items()}


def _rounded(figures: Figures) -> dict[str, float]:
    return {key: round(value, 5) for key, value in figures.items()}


def _mean(losses: list[dict[str, float]]) -> Figures:
    return {key: sum(batch[key] for batch in losses) / len(losses) for key in losses[0]}


def _picture(training: CanSample, path: Path) -> Path:
    images = (training.pictures(SHOWN**2).cpu() * 255).round().byte()
    return save_strips(torch.split(images, SHOWN), path)


def _spent(begun: float, before: float | None) -> float | None:
    """CPU seconds of this process since `begun` and of those before it; None where these are not known."""
    return None if before is None else before + time.process_time() - begun


def _save(checkpoint: Path, training: Training, settings: str, history: History, spent: float | None) -> None:
    content = io.BytesIO()
    state = {key: part.state_dict() for key, part in training.state().items()}
    torch.save({"settings": settings, "history": history, "state": state, "cpu_seconds": spent}, content)
    replace(checkpoint, content.getvalue())


def _resume(checkpoint: Path, training: Training, settings: str) -> tuple[History, float | None]:
    """What is known of the epochs already done, and their CPU seconds; loads them into `training`.

    The history is empty when there is nothing to resume. Checkpoints of older releases do not tell the seconds: None.
    """
    if not checkpoint.is_file():
        return [], 0.0
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
    history: History = saved["history"]
    say(f"resuming after epoch {len(history)} of {training.epochs} ({checkpoint})")
    return history, saved.get("cpu_seconds")
