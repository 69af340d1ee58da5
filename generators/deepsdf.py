"""DeepSDF (Park et al. 2019, arXiv:1901.05103): an auto-decoder of shape codes, from a published experiment folder."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import built, whole
from ..harness.formats.checkpoint import read_checkpoint
from ..harness.shapes.surfaces import grid, to_volume
from .networks.published import reading
from .networks.seeds import normal
from .networks.stored_options import require_understood, section, shown, yes

DECODER = "deep_sdf_decoder"
"""The one network architecture of the authors' code."""
UNDERSTOOD = (
    "dims", "latent_in", "norm_layers", "weight_norm", "xyz_in_all", "use_tanh", "dropout", "dropout_prob",
    "latent_dropout",
)  # fmt: skip
"""Options of the network; those of dropout matter only in training."""
ROWS = 1 << 15
"""Maximum number of points that the network processes together."""


class Decoder(nn.Module):
    """Maps rows of code and point [K, C + 3] to signed distances [K] in (-1, 1).

    The layers in `latent_in` get the input of the network again; with `xyz_in_all`, all other layers get the point
    again.
    """

    def __init__(
        self,
        code: int,
        dims: Sequence[int],
        latent_in: Sequence[int],
        norm_layers: Sequence[int],
        weight_norm: bool,
        xyz_in_all: bool,
        use_tanh: bool,
    ):
        super().__init__()
        widths = [code + 3, *dims, 1]
        self.latent_in, self.xyz_in_all, self.use_tanh = set(latent_in), xyz_in_all, use_tanh
        self.layers, self.norms = nn.ModuleList(), nn.ModuleDict()
        for i, (width, following) in enumerate(itertools.pairwise(widths)):
            last = i + 2 == len(widths)
            if not last and i + 1 in self.latent_in:
                following -= widths[0]
            elif not last and xyz_in_all:
                following -= 3
            self.layers.append(nn.Linear(width, following))
            if not last and not weight_norm and i in norm_layers:
                self.norms[str(i)] = nn.LayerNorm(following)

    def forward(self, rows: Tensor) -> Tensor:
        x = rows
        for i, layer in enumerate(self.layers):
            if i in self.latent_in:
                x = torch.cat([x, rows], 1)
            elif i and self.xyz_in_all:
                x = torch.cat([x, rows[:, -3:]], 1)
            x = layer(x)
            if i + 1 < len(self.layers):
                x = torch.relu(self.norms[str(i)](x) if str(i) in self.norms else x)
        if self.use_tanh:
            x = torch.tanh(x)
        return torch.tanh(x).squeeze(1)


class DeepSDF:
    """A published DeepSDF as a Generator of volumes. Space "z": shape codes.

    The model has no prior: samples come from a Gaussian fitted to the codes of the training shapes, `codes` [S, C]. It
    has no encoder: the code of a new shape must be optimised.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: Decoder, codes: Tensor, resolution: int, fingerprint: str, card: Mapping[str, Any]):
        self.network, self.codes = network.eval().requires_grad_(False), codes
        self._mean = codes.mean(0)
        _, spread, axes = torch.linalg.svd((codes - self._mean).double(), full_matrices=False)
        self._root = (spread[:, None] * axes / (len(codes) - 1) ** 0.5).float()  # its Gram matrix RᵀR is the covariance
        self.resolution, self._grid = resolution, grid(resolution)
        self.fingerprint, self.card = fingerprint, card

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        # One by one, because the rounding of a matrix product depends on its number of rows.
        return torch.stack([self._mean + draw @ self._root for draw in normal(seeds, len(self._root))])

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        """Volumes [N, 1, R, R, R], nominally in [0, 1], not clamped; differentiable in `latents`."""
        return to_volume(self.sdf(latents, space, self._grid.to(latents.device)))

    def sdf(self, latents: Tensor, space: str, points: Tensor) -> Tensor:
        """Signed distances [N, K] of the shapes of `latents` at points [K, 3] of [-1, 1]^3; differentiable in both."""
        self.network.to(latents.device)
        found = []
        for code in latents:
            parts = [torch.cat([code.expand(len(p), -1), p], 1) for p in torch.split(points, ROWS)]
            found.append(torch.cat([self.network(part) for part in parts]))
        return torch.stack(found)


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a DeepSDF experiment folder."""
    specs = content.get("specs.json") if isinstance(content, Mapping) else None
    return isinstance(specs, Mapping) and {"NetworkSpecs", "CodeLength"} <= set(specs)


@generator(recognise=recognise)
def deepsdf(dataset: str, path: str = "", checkpoint: str = "latest", resolution: int = 32) -> Generator:
    """DeepSDF: a published experiment folder with specs.json, ModelParameters/ and LatentCodes/.

    checkpoint: the name of the files in those two folders, "latest" or an epoch.
    resolution: number of points per axis of volumes.

    Raises ValueError when a file is missing or does not fit the specifications, with the option of specs.json that is
    not understood.
    """
    if not path:
        raise ValueError("generator deepsdf opens a folder: give generator.deepsdf.path=FOLDER")
    if resolution < 8:
        raise ValueError(f"generator.deepsdf.resolution={resolution} must be at least 8 points per axis")
    folder = Path(path).expanduser()
    found = read_checkpoint(folder)
    if not recognise(found.content):
        raise ValueError(f"{path} is no DeepSDF experiment: it has no specs.json with NetworkSpecs and CodeLength")
    specs = found.content["specs.json"]
    files = {part: folder / part / f"{checkpoint}.pth" for part in ("ModelParameters", "LatentCodes")}
    for file in files.values():
        if not file.is_file():
            raise ValueError(f"{file} does not exist; choose another with generator.deepsdf.checkpoint=NAME")
    weights = read_checkpoint(files["ModelParameters"])
    with reading(path):
        _require_understood(specs)
        tensors = _folded(weights.content["model_state_dict"])
        codes = _codes(read_checkpoint(files["LatentCodes"]).content, whole(specs["CodeLength"], "CodeLength"))
    network = built(lambda: _network(specs), tensors, path)
    fingerprint = digest("deepsdf", 1, found.sha256, checkpoint, resolution)
    card = {
        **found.card, "sha256": found.sha256, "checkpoint": checkpoint, "epoch": weights.content.get("epoch"),
        "specs": specs, "codes": len(codes), "prior": "a Gaussian fitted to the codes of the training shapes",
    }  # fmt: skip
    return DeepSDF(network, codes, resolution, fingerprint, card)


def _require_understood(specs: Mapping[str, Any]) -> None:
    require_understood({"NetworkArch": specs.get("NetworkArch", DECODER)}, (), {"NetworkArch": DECODER})
    given = section(specs, "NetworkSpecs")
    for name in ("weight_norm", "xyz_in_all", "use_tanh"):
        yes(given.get(name) or False, name)
    for name in ("dims", "latent_in", "norm_layers"):
        if not isinstance(given.get(name) or [], list):
            raise ValueError(f"{name}={shown(given[name])} must be a list of numbers")
    require_understood(given, UNDERSTOOD)


def _network(specs: Mapping[str, Any]) -> Decoder:
    given = specs["NetworkSpecs"]
    dims, latent_in, norm_layers = (
        [whole(number, name, least=least) for number in (given[name] if name == "dims" else given.get(name)) or []]
        for name, least in (("dims", 1), ("latent_in", 0), ("norm_layers", 0))
    )
    return Decoder(
        whole(specs["CodeLength"], "CodeLength"), dims, latent_in, norm_layers, bool(given.get("weight_norm")),
        bool(given.get("xyz_in_all")), bool(given.get("use_tanh")),
    )  # fmt: skip


def _folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of Decoder, with weight norm folded in: W = g v / |v|, row by row."""
    renamed = {}
    for full, tensor in tensors.items():
        module, _, kind = full.removeprefix("module.").partition(".")
        layer = module.replace("lin", "layers.").replace("bn", "norms.")
        if kind == "weight_v":
            gain = tensors[full.removesuffix("v") + "g"]
            renamed[f"{layer}.weight"] = gain * tensor / tensor.norm(dim=1, keepdim=True)
        elif kind != "weight_g":
            renamed[f"{layer}.{kind}"] = tensor
    return renamed


def _codes(content: Mapping[str, Any], length: int) -> Tensor:
    """Codes [S, C] from a tensor or from the state dict of an embedding."""
    stored = content["latent_codes"]
    codes: Tensor = stored["weight"] if isinstance(stored, Mapping) else stored
    codes = codes.reshape(len(codes), -1).float()
    if len(codes) < 2 or codes.shape[1] != length or not codes.isfinite().all():
        raise ValueError(f"shape codes {list(codes.shape)}; at least 2 finite codes of length {length} are needed")
    return codes
