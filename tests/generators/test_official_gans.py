"""GANs in files of other people against the numbers of the authors' code, where the formulas in our texts do not reach.

The arrays in official_gans.npz come from rosinality/stylegan2-pytorch, its table of widths narrowed, and from the
StyleGAN2 and the StyleGAN3 with classes in autonomousvision/stylegan-xl; options that files store are among the cases.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.networks.stylegan2_networks import StyleGAN2Network
from assay.generators.stylegan2 import stylegan2
from assay.generators.stylegan3 import StyleGAN3Network, stylegan3

from ..nvlabs import dump, record, save
from ..official import noise

OFFICIAL = np.load(Path(__file__).with_name("official_gans.npz"))
BUFFERS = ("w_avg", "noise_const", "resample_filter", "transform", "freqs", "phases", "magnitude_ema", "up_filter",
           "down_filter")  # fmt: skip
FILTERS = ("resample_filter", "kernel")


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Random tensors by name, those that formulas give left out; every option and every layer changes the images."""
    drawn = {}
    for name, shape in shapes.items():
        x, last = noise(name, *shape), name.rpartition(".")[2]
        if last in FILTERS:
            continue
        if last in ("up_filter", "down_filter"):
            x = (x.abs() + 0.1) / (x.abs() + 0.1).sum()
        elif last == "magnitude_ema":
            x = x.abs() + 0.5
        elif name.endswith(("affine.bias", "modulation.bias")):
            x = 1 + 0.3 * x
        elif ".fc" in name or name.startswith("style."):
            x = 100 * x
        drawn[name] = x
    return drawn


# StyleGAN2 of NVIDIA with options

INIT: dict[str, Any] = {"z_dim": 8, "c_dim": 0, "w_dim": 6, "img_resolution": 16, "img_channels": 3,
                        "mapping_kwargs": {"num_layers": 3}, "channel_base": 64, "channel_max": 12}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "one tap": {"resample_filter": None},
    "two taps": {"resample_filter": [1, 1]},
    "three taps": {"resample_filter": [1, 2, 1], "architecture": "resnet"},
    "uneven taps": {"resample_filter": [1, 2, 3, 4]},
    "five taps": {"resample_filter": [1, 4, 6, 4, 1]},
    "eight taps": {"resample_filter": [1, 2, 3, 4, 5, 6, 7, 8], "architecture": "resnet"},
    "no noise": {"use_noise": False},
    "hidden width": {"mapping_kwargs": {"num_layers": 3, "layer_features": 11, "lr_multiplier": 0.02}},
    "embedding": {"c_dim": 4, "mapping_kwargs": {"num_layers": 3, "embed_features": 5}},
}


def tensors_of(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the authors' code for INIT with other options."""
    given = {**INIT, **options}
    mapping = given["mapping_kwargs"]
    network = StyleGAN2Network(
        8, given["c_dim"], 6, 16, 3, 64, 12, 3, mapping.get("layer_features"), 0.01,
        given.get("architecture", "skip"), None, given.get("use_noise", True), 4, mapping.get("embed_features"),
    )  # fmt: skip
    drawn = weights({name: x.shape for name, x in network.state_dict().items()})
    taps = torch.tensor(given.get("resample_filter", [1, 3, 3, 1]) or [1.0]).float()
    taps = taps / taps.sum()
    stored = taps if len(taps) > 7 else torch.outer(taps, taps)
    usual = torch.outer(*(torch.tensor([1.0, 3, 3, 1]) / 8 for _ in range(2)))
    for name in network.state_dict().keys() - drawn.keys():
        drawn[name] = usual if ".conv1." in name else stored
    return drawn


@pytest.mark.parametrize("case", OPTIONS)
def test_options_of_stylegan2_give_the_authors_images(case: str, tmp_path: Path) -> None:
    options = OPTIONS[case]
    file = dump(tmp_path / "a.pkl", {"G_ema": record("Generator", tensors_of(options), INIT | options, BUFFERS)})
    label = 1 if options.get("c_dim") else None
    images = stylegan2("", str(file), label=label).decode(noise("z", 1, 8)) * 2 - 1
    expected = torch.from_numpy(OFFICIAL[case])
    assert expected.abs().max() > 2
    assert (images - expected).abs().max() < 2e-6 * expected.abs().max()


# rosinality's StyleGAN2

WIDTHS = (6, 6, 5)
KERNELS = {"usual": [1, 3, 3, 1], "three": [1, 2, 1], "five": [1, 4, 6, 4, 1]}


def rosinality(kernel: Sequence[float], widths: Sequence[int] = WIDTHS) -> dict[str, Tensor]:
    """g_ema of that code, for images of 16 x 16 from z [7] by three layers; only convolutions have `kernel`."""
    shapes: dict[str, Sequence[int]] = {"input.input": (1, widths[0], 4, 4)}
    for i in range(3):
        shapes |= {f"style.{i + 1}.weight": (7, 7), f"style.{i + 1}.bias": (7,)}

    def modulated(name: str, into: int, out: int, size: int) -> None:
        shapes[f"{name}.conv.weight"] = (1, out, into, size, size)
        shapes.update({f"{name}.conv.modulation.weight": (into, 7), f"{name}.conv.modulation.bias": (into,)})

    for i, name in enumerate(["conv1", "convs.0", "convs.1", "convs.2", "convs.3"]):
        level = (i + 1) // 2
        modulated(name, widths[level - i % 2], widths[level], 3)
        shapes |= {f"{name}.noise.weight": (1,), f"{name}.activate.bias": (widths[level],)}
        shapes[f"noises.noise_{i}"] = (1, 1, 4 << level, 4 << level)
    for level, name in enumerate(["to_rgb1", "to_rgbs.0", "to_rgbs.1"]):
        modulated(name, widths[level], 3, 1)
        shapes[f"{name}.bias"] = (1, 3, 1, 1)
    profiles = {"convs.0.conv.blur": kernel, "convs.2.conv.blur": kernel}
    profiles |= {"to_rgbs.0.upsample": [1, 3, 3, 1], "to_rgbs.1.upsample": [1, 3, 3, 1]}
    planes = {name: torch.outer(*(torch.tensor(taps).float() for _ in range(2))) for name, taps in profiles.items()}
    return weights(shapes) | {f"{name}.kernel": 4 * x / x.sum() for name, x in planes.items()}


def content(kernel: Sequence[float] = KERNELS["usual"], **extra: Any) -> dict[str, Any]:
    return {"g_ema": rosinality(kernel), "latent_avg": noise("latent_avg", 7), **extra}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_file_of_rosinality_gives_the_authors_images(kernel: str, tmp_path: Path) -> None:
    file, z = str(save(tmp_path / "550000.pt", content(KERNELS[kernel], d={}, args={}))), noise("z", 1, 7)
    calls: dict[str, dict[str, Any]] = {"": {}, " at 0.5": {"truncation": 0.5}, " without noise": {"noise": "none"}}
    for name in (name for name in calls if f"rosinality {kernel}{name}" in OFFICIAL):
        expected = torch.from_numpy(OFFICIAL[f"rosinality {kernel}{name}"])
        images = stylegan2("", file, **calls[name]).decode(z) * 2 - 1
        assert (images - expected).abs().max() < 2e-6 * expected.abs().max()
    assert len([name for name in OFFICIAL if name.startswith("rosinality")]) == 5
    card = stylegan2("", file).card  # type: ignore[attr-defined]
    assert card["network"]["widths"] == list(WIDTHS)
    assert card["discriminator"] == "in the file, not opened (another layout)"


def test_without_a_mean_in_the_file_truncation_takes_one_of_seeded_codes(tmp_path: Path) -> None:
    """4,096 codes: the mean of 200 others lies within five standard errors, a false alarm in 10^5 draws of the seed."""
    file = str(save(tmp_path / "a.pt", {"g_ema": rosinality([1, 3, 3, 1])}))
    w = stylegan2("", file).latents(range(200), "w")
    collapsed = stylegan2("", file, truncation=0.0).latents([3], "w")[0]
    assert ((collapsed - w.mean(0)).abs() < 5 * w.std(0) / 200**0.5).all()
    assert torch.equal(collapsed, stylegan2("", file, truncation=0.0).latents([4], "w")[0])
    assert "4,096 codes" in stylegan2("", file, truncation=0.5).card["mean_w"]  # type: ignore[attr-defined]


def test_what_a_file_of_rosinality_lacks_or_has_too_much_is_named(tmp_path: Path) -> None:
    whole = content()

    def opened(noise: str = "const", **changes: Any) -> Any:
        tensors = {name: x for name, x in {**whole["g_ema"], **changes}.items() if x is not None}
        return stylegan2("", str(save(tmp_path / "a.pt", whole | {"g_ema": tensors})), noise=noise)

    quiet = {f"noises.noise_{i}": None for i in range(5)}
    with pytest.raises(ValueError, match=r"it has no noise maps .*choose generator\.stylegan2\.noise=none"):
        opened(**quiet)
    z = noise("z", 1, 7)
    assert torch.equal(opened("none", **quiet).decode(z), opened("none").decode(z))
    with pytest.raises(ValueError, match=r"unexpected tensors such as iwt\.kernel"):
        opened(**{"iwt.kernel": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"it has no 'convs\.2\.activate\.bias'"):
        opened(**{"convs.2.activate.bias": None})
    with pytest.raises(ValueError, match=r"holds another network"):
        opened(**{"convs.2.activate.bias": torch.zeros(10**6)})
    with pytest.raises(ValueError, match=r"a smoothing kernel of size 999"):
        opened(**{"to_rgbs.0.upsample.kernel": torch.zeros(999, 999)})


# Stems of StyleGAN-XL

STEM: dict[str, Any] = {"z_dim": 8, "c_dim": 0, "w_dim": 10, "img_resolution": 32, "img_channels": 3,
                        "mapping_kwargs": {"num_layers": 2, "rand_embedding": False}, "num_layers": 5,
                        "margin_size": 3, "channel_base": 128, "channel_max": 6, "conv_kernel": 1,
                        "use_radial_filters": True}  # fmt: skip


def stem(classes: int) -> dict[str, Tensor]:
    network = StyleGAN3Network(
        8, classes, 10, 32, 3, base=128, max_channels=6, layers=5, margin=3, kernel=1, radial=True,
        table=[1000, 320] if classes else None,
    )  # fmt: skip
    shapes: dict[str, Sequence[int]] = {name: x.shape for name, x in network.state_dict().items()}
    return weights(shapes | {"mapping.embed.weight": (1000, 320)})


def stem_file(path: Path, classes: int, **changes: Any) -> str:
    init = STEM | {"c_dim": classes} | changes
    inner = {"mapping.embed": "Embedding"}
    return str(dump(path, {"G_ema": record("Generator", stem(classes), init, BUFFERS, inner)}))


def test_a_stem_of_stylegan_xl_without_classes_is_a_stylegan3(tmp_path: Path) -> None:
    """Its table of classes is in the file all the same."""
    images = stylegan3("", stem_file(tmp_path / "a.pkl", 0)).decode(noise("z", 1, 8)) * 2 - 1
    expected = torch.from_numpy(OFFICIAL["stem"])
    assert (images - expected).abs().max() < 5e-6 * expected.abs().max()


@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_a_stem_of_stylegan_xl_with_classes_has_a_mean_for_each(psi: float, tmp_path: Path) -> None:
    file, z = stem_file(tmp_path / "a.pkl", 4), noise("z", 1, 8)
    expected = torch.from_numpy(OFFICIAL[f"stem of class 3 at {psi}"])
    images = stylegan3("", file, truncation=psi, label=3).decode(z) * 2 - 1
    assert (images - expected).abs().max() < 5e-6 * expected.abs().max()
    drawn, chosen = stylegan3("", file, truncation=psi), stylegan3("", file, truncation=psi, label=3)
    assert torch.allclose(drawn.latents([7], "w"), chosen.latents([7], "w"), atol=1e-6)


def test_layers_after_a_stem_are_refused_by_their_class(tmp_path: Path) -> None:
    init = {"img_resolution": 64, "path_stem": "stem.pkl", "head_layers": 7, "up_factor": 2}
    whole = record("SuperresGenerator", stem(0), init, BUFFERS)
    with pytest.raises(ValueError, match="its class SuperresGenerator, layers of StyleGAN-XL after a stem"):
        stylegan3("", str(dump(tmp_path / "a.pkl", {"G_ema": whole})))
    with pytest.raises(ValueError, match="its table of classes has 1000 rows for 2000 classes"):
        stylegan3("", stem_file(tmp_path / "b.pkl", 4, c_dim=2000))
