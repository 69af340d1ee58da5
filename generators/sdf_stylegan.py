"""SDF-StyleGAN (Zheng et al. 2022, arXiv:2206.12055): a 3D StyleGAN2 of features, which an MLP maps to distances."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import built, whole
from ..harness.formats.checkpoint import read_checkpoint
from ..harness.shapes.surfaces import grid, to_volume
from .networks.published import reading
from .networks.seeds import normal
from .networks.stored_options import number, require_understood

SLOPE = 0.2
EXTENT = 1.01
"""The feature volume extends to ±1.01, slightly beyond the shapes."""
MEAN_CODES = 10_000
"""Number of random codes of which the mean, the centre of truncation, is computed."""


class Mapping3D(nn.Module):
    """Maps z [N, D] to w [N, D]. Weights are stored divided by their learning rate multiplier `lr`."""

    def __init__(self, dimension: int, depth: int, lr: float):
        super().__init__()
        self.net = nn.ModuleList(nn.Linear(dimension, dimension) for _ in range(depth))
        self.lr = lr

    def forward(self, z: Tensor) -> Tensor:
        w, scale = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-6), self.lr / math.sqrt(z.shape[1])
        for layer in self.net:
            assert isinstance(layer, nn.Linear)
            w = F.leaky_relu(F.linear(w, layer.weight * scale, layer.bias * self.lr), SLOPE) * math.sqrt(2)
        return w


class Block(nn.Module):
    """Twice modulated convolution, noise and leaky ReLU; then a 1 × 1 × 1 convolution to features."""

    def __init__(self, w_dim: int, width_in: int, width: int, features: int, upsample: bool):
        super().__init__()
        self.upsample = upsample
        self.to_style1, self.to_style2 = nn.Linear(w_dim, width_in), nn.Linear(w_dim, width)
        self.to_noise1, self.to_noise2 = nn.Linear(1, width), nn.Linear(1, width)
        self.conv1 = nn.Conv3d(width_in, width, 3, bias=False)
        self.conv2 = nn.Conv3d(width, width, 3, bias=False)
        self.to_feature = nn.Module()
        self.to_feature.to_style = nn.Linear(w_dim, width)
        self.to_feature.conv = nn.Conv3d(width, features, 1, bias=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.upsample:
            x = upsampled(x)
        x = modulated(x, self.conv1.weight, self.to_style1(w), True) + _noise(self.to_noise1, noise)
        x = F.leaky_relu(x, SLOPE)
        x = modulated(x, self.conv2.weight, self.to_style2(w), True) + _noise(self.to_noise2, noise)
        x = F.leaky_relu(x, SLOPE)
        head = self.to_feature
        return x, modulated(x, head.conv.weight, head.to_style(w), False)  # type: ignore[union-attr,operator,arg-type]


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """Convolution of x [N, C, d, d, d] with weights [C', C, k, k, k], scaled by (style + 1) [N, C] per sample."""
    scale = style + 1
    y = F.conv3d(x * scale[:, :, None, None, None], weight, padding=weight.shape[-1] // 2)
    if not demodulate:
        return y
    energy = scale.square() @ weight.square().sum((2, 3, 4)).T
    return y * torch.rsqrt(energy + 1e-8)[:, :, None, None, None]


def upsampled(x: Tensor) -> Tensor:
    """x [N, C, d, d, d] at twice the size, trilinear."""
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


def blurred(x: Tensor) -> Tensor:
    """x [N, C, d, d, d] with each channel filtered by [1, 2, 1] / 4 along each axis; the border is replicated."""
    x = F.pad(x, (1,) * 6, mode="replicate")
    for axis in (2, 3, 4):
        size = x.shape[axis] - 2
        x = (x.narrow(axis, 0, size) + 2 * x.narrow(axis, 1, size) + x.narrow(axis, 2, size)) / 4
    return x


def _noise(layer: nn.Linear, noise: Tensor | None) -> Tensor:
    """The term [1, C, d, d, d] that noise [d, d, d] adds, with its axes reversed; without noise, only the bias."""
    if noise is None:
        return layer.bias[None, :, None, None, None]
    added: Tensor = layer(noise[..., None])
    return added.permute(3, 2, 1, 0)[None]


class FeatureVolume(nn.Module):
    """Maps w [N, D] to features [N, C, R, R, R] with axes x, y, z."""

    def __init__(self, size: int, w_dim: int, features: int, capacity: int, max_channels: int):
        super().__init__()
        count = int(math.log2(size)) - 1
        widths = [min(max_channels, capacity * 4 ** (i + 1)) for i in reversed(range(count))]
        widths = [widths[0], *widths]
        self.initial_block = nn.Parameter(torch.zeros(1, widths[0], 4, 4, 4))
        self.initial_conv = nn.Conv3d(widths[0], widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            Block(w_dim, widths[i], widths[i + 1], features, upsample=i > 0) for i in range(count)
        )

    def forward(self, w: Tensor, noises: Sequence[Tensor] | None) -> Tensor:
        x = self.initial_conv(self.initial_block.expand(len(w), -1, -1, -1, -1))
        volume: Tensor = x.new_zeros(())
        for i, block in enumerate(self.blocks):
            x, features = block(x, w, None if noises is None else noises[i])
            volume = (blurred(upsampled(volume)) if i else volume) + features
        return volume


class PointMLP(nn.Module):
    """Maps the features [..., C] at points to signed distances [...]."""

    def __init__(self, features: int, width: int, depth: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(features, width), nn.LeakyReLU(SLOPE)]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.LeakyReLU(SLOPE)]
        self.mapping = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, features: Tensor) -> Tensor:
        distance: Tensor = self.mapping(features)
        return distance.squeeze(-1)


class Network(nn.Module):
    """The averaged networks of a published file, with the names in the file."""

    def __init__(self, shape: Mapping[str, Any]):
        super().__init__()
        self.size, self.z_dim = int(shape["G_vol_size"]), int(shape["latent_dim"])
        depth, lr, features = int(shape["style_depth"]), float(shape["lr_mlp"]), int(shape["G_feature_dim"])
        self.SE = Mapping3D(self.z_dim, depth, lr)
        self.GE = FeatureVolume(
            self.size, self.z_dim, features, int(shape["network_capacity"]), int(shape["G_fmap_max"])
        )
        self.ME = PointMLP(features, int(shape["mlp_latent_dim"]), int(shape["mlp_network_depth"]))

    def distances(self, volume: Tensor, points: Tensor) -> Tensor:
        """Signed distances [N, K] at points [K, 3] from features [N, C, R, R, R]."""
        at = (points.flip(-1) / EXTENT)[None, None, None].expand(len(volume), -1, -1, -1, -1)
        found = F.grid_sample(volume, at, padding_mode="border", align_corners=True)
        distances: Tensor = self.ME(found[:, :, 0, 0].transpose(1, 2))
        return distances


class SDFStyleGAN:
    """A published SDF-StyleGAN as a Generator of volumes. Spaces: normal "z", and "w" after mapping and truncation.

    The surface of a shape is where the network's distance equals `level`, which `sdf` and volumes subtract.
    """

    spaces: Sequence[str] = ("z", "w")

    def __init__(
        self,
        network: Network,
        resolution: int,
        level: float,
        truncation: float,
        mean: Tensor,
        noises: Sequence[Tensor] | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        self.network = network.eval().requires_grad_(False)
        self.resolution, self.level, self.truncation = resolution, level, truncation
        self._mean, self._noises, self._grid = mean, noises, grid(resolution)
        self.fingerprint, self.card = fingerprint, card

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        z = normal(seeds, self.network.z_dim).to(self.network.GE.initial_block.device)
        return z if space == "z" else self._mapped(z)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        """Volumes [N, 1, R, R, R], nominally in [0, 1], not clamped; differentiable in `latents`."""
        return to_volume(self.sdf(latents, space, self._grid.to(latents.device)))

    def sdf(self, latents: Tensor, space: str, points: Tensor) -> Tensor:
        """Signed distances [N, K] of the shapes of `latents` at points [K, 3] of [-1, 1]^3; differentiable in both."""
        self.network.to(latents.device)
        w = self._mapped(latents) if space == "z" else latents
        noises = None if self._noises is None else [noise.to(w.device) for noise in self._noises]
        return self.network.distances(self.network.GE(w, noises), points) - self.level

    def _mapped(self, z: Tensor) -> Tensor:
        w: Tensor = self.network.SE(z)
        mean = self._mean.to(w.device)
        return w if self.truncation == 1 else mean + self.truncation * (w - mean)


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds an SDF-StyleGAN in the layout of its authors' code."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    return isinstance(state, Mapping) and {"SE.net.0.weight", "GE.initial_block", "ME.mapping.0.weight"} <= set(state)


@generator(recognise=recognise)
def sdf_stylegan(
    dataset: str,
    path: str = "",
    truncation: float = 1.0,
    truncation_seed: int = 0,
    noise: bool = False,
    noise_seed: int = 0,
    level: float | None = None,
    resolution: int = 32,
) -> Generator:
    """SDF-StyleGAN: a published .ckpt; its averaged networks and their settings are read from the file.

    truncation: psi, 1 for none. The files do not contain the mean of w. It is computed from 10,000 codes drawn with
    `truncation_seed`; as in the authors' script that generates shapes, the averaged mapping network maps them.
    noise: whether blocks add noise, which is drawn once with `noise_seed` and shared by all shapes.
    level: the network's distance at the surface; null takes the one in the file.
    resolution: number of points per axis of a volume.

    Raises ValueError when the file is missing or does not fit, with the setting that is not understood.
    """
    if not path:
        raise ValueError("generator sdf_stylegan opens a file: give generator.sdf_stylegan.path=FILE.ckpt")
    if resolution < 8:
        raise ValueError(f"generator.sdf_stylegan.resolution={resolution} must be at least 8 points per axis")
    found = read_checkpoint(path)
    if not recognise(found.content):
        raise ValueError(f"{path} holds no SDF-StyleGAN; give generator.sdf_stylegan.path=FILE.ckpt")
    with reading(path):
        shape = _shape(found.content.get("hyper_parameters"))
        tensors = _averaged(found.content["state_dict"])
    network = built(lambda: Network(shape), tensors, path)
    level = float(shape["surface_level"] if level is None else level)
    mean = torch.zeros(1, network.z_dim)
    if truncation != 1:
        mean = network.SE(normal([truncation_seed], MEAN_CODES, network.z_dim)[0]).mean(0, keepdim=True)
    sizes = [4 * 2**i for i in range(len(network.GE.blocks))]
    noises = [normal([noise_seed + i], size, size, size)[0] for i, size in enumerate(sizes)] if noise else None
    drawn = {"truncation": truncation, "truncation_seed": truncation_seed, "codes": MEAN_CODES}
    options = (truncation, truncation_seed, noise, noise_seed, level, resolution)
    fingerprint = digest("sdf_stylegan", 2, found.sha256, *options)
    card = {**found.card, "sha256": found.sha256, "network": shape, "level": level, "mean": drawn}
    return SDFStyleGAN(network, resolution, level, truncation, mean, noises, fingerprint, card)


def _shape(hyper_parameters: Any) -> dict[str, float]:
    """The settings in a file. None has a default, because the authors' scripts and their model have different ones."""
    settings = hyper_parameters if isinstance(hyper_parameters, Mapping) else {}
    if missing := [name for name in (*WHOLE, *REAL) if name not in settings]:
        raise ValueError(f"it does not describe its networks: hyper_parameters without {', '.join(missing)}")
    require_understood(settings, (*WHOLE, *REAL, *IMMATERIAL))
    shape: dict[str, float] = {name: whole(settings[name], name, least=WHOLE[name]) for name in WHOLE}
    return shape | {name: number(settings[name], name) for name in REAL}


def _averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the averaged networks, without the kernels of `blurred`, which must be as usual."""
    kept = {}
    for name, tensor in tensors.items():
        if not name.startswith(("SE.", "GE.", "ME.")):
            continue
        if not name.endswith(".to_feature.upsample.1.f"):
            kept[name] = tensor
        elif tensor.tolist() != [1, 2, 1]:
            raise ValueError(f"{name} is another kernel than [1, 2, 1], which is not supported")
    return kept


WHOLE = {
    "G_vol_size": 8, "latent_dim": 1, "style_depth": 1, "G_feature_dim": 1, "mlp_network_depth": 0, "mlp_latent_dim": 1,
    "network_capacity": 1, "G_fmap_max": 1,
}  # fmt: skip
"""Settings of the networks that are whole numbers, with the least that each may be."""
REAL = ("lr_mlp", "surface_level")
IMMATERIAL = (
    "results_dir", "data", "D_vol_size", "fine_D_vol_size", "D_fmap_max", "batch_size", "learning_rate",
    "apply_gradient_normalization", "global_D_lr_mul", "local_D_lr_mul", "pl_loss_weight", "local_patch_loss_weight",
    "local_patch_center_candidate_number", "use_patch", "use_global_normal", "local_use_sdf", "local_use_normal",
    "local_patch_res", "local_patch_number", "r1_gamma", "mixed_prob", "view_index", "verbose", "save_image",
    "adaptive_local", "offset_center", "training_epoch",
)  # fmt: skip
"""Settings of the training."""
