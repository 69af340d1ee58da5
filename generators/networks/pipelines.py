"""Pipelines of diffusers as generators: the official call, stopped before its images are clamped."""

import copy
import functools
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...harness.core.protocols import Encoding
from .autoencoders import Autoencoder, Codec
from .initial_noise import LARGEST, Drawn, Noise, Replaced, Watched
from .pipeline_calls import Call
from .seeds import torch_generator

FIRST_STAGES = ("vae", "vqvae", "movq", "vqgan")
"""What pipelines call the autoencoder whose decoder makes their images."""
PIXELS = 0.01
"""How far the official images may be from ours, on average: more than rounding in half precision."""


class _Codes(Exception):  # noqa: N818 - nothing is wrong
    """Stops a pipeline when it decodes: with the codes."""

    def __init__(self, codes: Tensor):
        super().__init__()
        self.codes = codes


class Pipeline:
    """A pipeline of diffusers as a Generator.

    Space "x_T" [N, *shape] is the initial noise, standard normal, as the pipeline draws it, before it is scaled or
    packed. That of seed s is what the pipeline draws from torch.Generator().manual_seed(s), and a sampler that adds
    noise goes on with that generator: item i is the public image of seed i. "z_0", of a pipeline with an autoencoder,
    is what its decoder takes, scaled as in training. "x_0", of one without, is the image in [-1, 1].

    Where prompts or classes go by seed, or the sampler adds noise, x_T alone does not determine an image and cannot be
    decoded; the first space then is z_0 or x_0. Decoding x_T is differentiable where the pipeline's own steps are.

    Networks are those of the pipeline, not copies: `to` moves them. Its scheduler is copied.
    """

    def __init__(self, pipe: Any, call: Call, batch: int, fingerprint: str, card: Mapping[str, Any]):
        self.pipe, self.call, self.batch = pipe, call, batch
        self.kind, self.fingerprint = type(pipe).__name__, fingerprint
        self.stage = next((part for part in FIRST_STAGES if isinstance(getattr(pipe, part, None), nn.Module)), "")
        self.codec = Codec(getattr(pipe, self.stage)) if self.stage else None
        self.checked = False
        self.noise = self._initial()
        if self.stage:
            self.spaces: Sequence[str] = ("z_0", "x_T")
        else:
            self.spaces = ("x_0", "x_T") if self.call.varies or self._adds_noise() else ("x_T",)
        self.card = {**card, "noise": list(self.noise.shape), "spaces": list(self.spaces)}

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to the device on which `latents` samples."""
        if self.pipe.device != torch.device(device):
            self.pipe.to(device)
        return self

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        if space == "x_T":
            return self.noise.draw([torch_generator(seed) for seed in seeds])
        with torch.no_grad():
            batches = [[seeds[row] for row in rows] for rows in self._batches(len(seeds))]
            parts = [self._sample(batch, [torch_generator(seed) for seed in batch]) for batch in batches]
        return torch.cat(parts)[: len(seeds)]

    def decode(self, latents: Tensor, space: str) -> Tensor:
        if space == "x_T":
            latents = self._from_noise(latents)
        if self.codec is None:
            return latents / 2 + 0.5
        parts = [self.codec.decode(latents[rows]) for rows in self._batches(len(latents))]
        return torch.cat(parts)[: len(latents)]

    def _from_noise(self, noise: Tensor) -> Tensor:
        if self.call.varies:
            raise ValueError(
                f"prompts or classes go by seed, so x_T alone does not determine an image: choose one prompt or label, "
                f"or work in space {self.spaces[0]}"
            )
        self.to(noise.device)
        gradient = torch.is_grad_enabled() and noise.requires_grad
        with torch.set_grad_enabled(gradient):
            parts = []
            for rows in self._batches(len(noise)):
                parts.append(self._sample([0] * len(rows), [torch_generator(0) for _ in rows], noise[rows]))
        found = torch.cat(parts)[: len(noise)]
        if gradient and not found.requires_grad:
            raise ValueError(f"{self.kind} computes no gradients on its way from x_T: work in space z_0")
        return found

    def _sample(
        self, seeds: Sequence[int], generators: Sequence[torch.Generator], noise: Tensor | None = None
    ) -> Tensor:
        """Scaled codes, or images in [-1, 1], of one batch."""
        message = (
            f"{self.kind} with {type(self.pipe.scheduler).__name__} draws fresh noise while it samples, so x_T alone "
            f"does not determine an image: work in space {self.spaces[0]}"
        )
        before = torch.get_rng_state()
        states = [one.get_state() for one in generators]
        with nullcontext() if noise is None else Replaced(generators, noise, message):
            codes, images = self._run(seeds, generators)
        if not torch.equal(before, torch.get_rng_state()):
            torch.set_rng_state(before)
            raise ValueError(
                f"{self.kind} with {type(self.pipe.scheduler).__name__} draws noise from no generator of its own, so a "
                "sample would not depend on its seed alone: take a scheduler that adds no noise, such as DDIMScheduler"
            )
        if noise is not None and not all(map(torch.equal, states, (one.get_state() for one in generators))):
            raise ValueError(message)
        found = codes.float() if self.codec is None else self.codec.scaled(codes)
        if images is not None:
            self._compare(found.detach(), images)
        return found

    def _run(self, seeds: Sequence[int], generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """The codes that are decoded, or the last step of the sampler; and the official images, the first time."""
        pipe = copy.copy(self.pipe)
        pipe.set_progress_bar_config(disable=True)
        own: dict[str, Any] = {"scheduler": copy.deepcopy(pipe.scheduler)}
        caught: list[Tensor] = []
        checked = self.checked and bool(self.stage)

        def decode(codes: Tensor, *args: Any, **options: Any) -> Any:
            if unknown := sorted(set(options) - {"return_dict", "generator"}):
                raise ValueError(f"{self.kind} decodes with {unknown[0]}=, which is not supported")
            caught.append(codes)
            if checked:
                raise _Codes(codes)
            return original(codes, *args, **options)

        def step(*args: Any, **options: Any) -> Any:
            found = advance(*args, **options)
            caught[:] = [found[0]]
            return found

        if self.stage:
            network = getattr(pipe, self.stage)
            original, own[self.stage] = network.decode, copy.copy(network)
            own[self.stage].decode = decode
        else:
            advance = own["scheduler"].step
            own["scheduler"].step = functools.wraps(advance)(step)
        if hasattr(pipe, "safety_checker"):
            own["safety_checker"] = None
        # Past its own attributes, which would be entered into a configuration that is shared with the original.
        vars(pipe).update(own)
        call = inspect.unwrap(type(pipe).__call__)
        arguments = self.call.arguments(seeds)
        with self._ready(), warnings.catch_warnings(action="ignore"):
            try:
                images = call(pipe, **arguments, generator=list(generators)).images
            except _Codes as stopped:
                return stopped.codes, None
        if len(caught) != 1:
            raise ValueError(
                f"{self.kind} does not decode its images at once with its part {self.stage}; not supported"
            )
        return caught[0], _batch(images)

    def _compare(self, codes: Tensor, official: Tensor) -> None:
        """Raises ValueError unless the official images are those that we make of the codes."""
        self.checked = True
        with torch.no_grad():
            ours = codes / 2 + 0.5 if self.codec is None else self.codec.decode(codes)
        official = official.to(ours)
        if ours.shape != official.shape or (ours.clamp(0, 1) - official).abs().mean() > PIXELS:
            raise ValueError(f"{self.kind} makes other images of its last codes than its decoder; it is not supported")

    def _initial(self) -> Noise:
        """What the pipeline draws first. Raises ValueError with what it says where it cannot be called so."""
        generators = [torch_generator(0)]
        try:
            with torch.no_grad(), Watched(generators):
                self._run([0], generators)
        except Drawn as drawn:
            if not 0 < np.prod(drawn.shape, dtype=object) <= LARGEST:
                raise ValueError(
                    f"{self.kind} starts from noise of shape {list(drawn.shape)}; it is too large"
                ) from None
            return Noise(drawn.shape, drawn.dtype)
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(f"{self.kind} cannot be called with text, classes and noise alone: {why}") from None
        raise ValueError(f"{self.kind} draws no initial noise from its generator; it is not supported")

    def _adds_noise(self) -> bool:
        """Whether the scheduler draws noise, tried on ones without a network; True where it cannot be tried."""
        scheduler, given = copy.deepcopy(self.pipe.scheduler), self.call.arguments([0])
        channels = 2 if "learned" in str(scheduler.config.get("variance_type")) else 1
        generator = torch_generator(0)
        before, steps = generator.get_state(), given.get("num_inference_steps")
        default = self.call.names.get("num_inference_steps")
        options = {"eta": given["eta"]} if "eta" in given else {}
        try:
            scheduler.set_timesteps(default.default if steps is None and default is not None else steps)
            for t in scheduler.timesteps:
                x = torch.ones(1, 1, 2, 2)
                scheduler.step(x.repeat(1, channels, 1, 1), t, x, generator=generator, **options)
        except Exception:
            return True
        return not torch.equal(before, generator.get_state())

    def _batches(self, count: int) -> Iterator[list[int]]:
        """Numbers of items in batches of one size, on which rounding depends; the last item fills up the last one."""
        for start in range(0, count, self.batch):
            yield [min(row, count - 1) for row in range(start, start + self.batch)]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Networks in evaluation, and afterwards as they were: a pipeline changes the precision of its decoder."""
        networks = [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]
        training = [module for network in networks for module in network.modules() if module.training]
        stage = getattr(self.pipe, self.stage) if self.stage else None
        kept = None if stage is None else stage.dtype
        for network in networks:
            network.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True
            if stage is not None and stage.dtype != kept:
                stage.to(kept)


class EncodingPipeline(Pipeline):
    """A pipeline whose autoencoder has an encoder that is understood: images are encoded to z_0."""

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return Autoencoder(getattr(self.pipe, self.stage)).encode(images, how, seeds)


def _batch(images: Any) -> Tensor:
    """Images [N, C, H, W] as a tensor; some pipelines give arrays [N, H, W, C] whatever they are asked for."""
    return images if isinstance(images, Tensor) else torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2)
