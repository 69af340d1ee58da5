"""Normal draws: item i depends on seeds[i] alone, not on the rest of the batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...harness.core.protocols import Encoding


def normal(seeds: Sequence[int], *shape: int) -> Tensor:
    """Standard normals [N, *shape], float32."""
    draws = [np.random.default_rng(seed).standard_normal(shape) for seed in seeds]
    return torch.from_numpy(np.stack(draws)).float()


def labels(seeds: Sequence[int], classes: int, label: int | None = None) -> Tensor:
    """A class for each seed, int64 [N]: `label` for all of them, or seed mod classes where it is None.

    Raises ValueError when there is no such class.
    """
    if label is not None and not 0 <= label < classes:
        known = f"a class 0..{classes - 1}" if classes else "null: this model has no classes"
        raise ValueError(f"label={label} must be {known}")
    return torch.tensor([seed % classes if label is None else label for seed in seeds], dtype=torch.int64)


def gaussian_codes(mean: Tensor, logvar: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
    """The mean, the log variance or a sample of posteriors N(mean, exp(logvar)) [N, ...], as `how` says.

    Only "sample" uses `seeds`.
    """
    if how == "sample":
        return mean + torch.exp(logvar / 2) * normal(seeds, *mean.shape[1:]).to(mean)
    return mean if how == "mean" else logvar


def upstream_normal(seeds: Sequence[int], *shape: int) -> Tensor:
    """Standard normals [N, *shape] as the public StyleGAN tools draw them: seed 7 here is their seed 7.

    Their random generator takes seeds of 32 bits; a larger seed is split into two words.
    """
    words = [seed if seed < 2**32 else [seed % 2**32, seed // 2**32] for seed in seeds]
    draws = [np.random.RandomState(word).standard_normal(shape) for word in words]
    return torch.from_numpy(np.stack(draws)).float()


def torch_generator(seed: int) -> torch.Generator:
    """A generator of torch on the CPU; for a seed below 2^32 `torch.Generator().manual_seed(seed)`.

    `manual_seed` drops all bits but the lowest 32, so that seed 2^63, the first of the prior's, would repeat seed 0.
    Larger seeds set the whole state of the Mersenne Twister: that of NumPy's RandomState of the seed's words.
    """
    if seed < 2**32:
        return torch.Generator().manual_seed(seed)
    words = [seed >> shift & 0xFFFFFFFF for shift in range(0, seed.bit_length(), 32)]
    return mersenne_twister(np.random.RandomState(words).get_state(legacy=False)["state"]["key"])


def mersenne_twister(key: np.ndarray) -> torch.Generator:
    """A generator of torch whose state is these 624 words of 32 bits."""
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    # Bytes 24 to 5016 are the words, 64 bits each; what comes before says that none is used up.
    state[24 : 24 + 8 * len(key)] = torch.from_numpy(key.astype(np.int64)).view(torch.uint8)
    generator.set_state(state)
    return generator
