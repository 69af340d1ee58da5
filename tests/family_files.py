"""One small file of each family that opens other people's checkpoints, as the tests of the families write them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

import assay
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import GENERATORS, discover

from . import compvis
from .generators import (
    test_adm,
    test_consistency,
    test_dcgan,
    test_dit,
    test_edm,
    test_edm2,
    test_fastgan,
    test_official_gans,
    test_progan,
    test_sdf_stylegan,
    test_stable_diffusion_file,
    test_stylegan3,
)
from .nvlabs import dump, record, save
from .official import drawn


class Family(NamedTuple):
    """write: makes the file in a folder and returns its path; generator: the one that opens it; needs: the options that
    its opening needs, as paths in that folder; options: others; told: whether the file tells its family.
    """

    write: Callable[[Path], str]
    generator: str
    needs: Mapping[str, str] = {}
    options: Mapping[str, Any] = {}
    told: bool = True

    def open(self, path: Path) -> Generator:
        """As `assay.load` does; one that does not tell its family by the name of that."""
        options = {**{name: str(path.parent / where) for name, where in self.needs.items()}, **self.options}
        if self.told:
            return assay.load(path, **options)
        discover()
        found: Generator = GENERATORS[self.generator].function("", str(path), **options)
        return found


def with_flags(folder: Path, content: Any, flags: Mapping[str, Any]) -> str:
    torch.save(content, folder / "model.pt")
    (folder / "model.args.json").write_text(json.dumps(flags))
    return str(folder / "model.pt")


def nvidia(folder: Path) -> str:
    options = test_official_gans.OPTIONS["embedding"]
    tensors = test_official_gans.tensors_of(options)
    ema = record("Generator", tensors, test_official_gans.INIT | options, test_official_gans.BUFFERS)
    return str(dump(folder / "a.pkl", {"G_ema": ema}))


def progan_of_tensorflow(folder: Path) -> str:
    return test_progan.tensorflow_file(folder / "a.pkl", test_progan.tensorflow_weights(fused=True))


def sdf(folder: Path) -> str:
    shape = {**test_sdf_stylegan.SHAPE, "data": "/data/chairs"}
    content = {"epoch": 3, "state_dict": test_sdf_stylegan.tensors(), "hyper_parameters": shape}
    torch.save(content, folder / "epoch.ckpt")
    return str(folder / "epoch.ckpt")


def compvis_case(name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        found = compvis.case(name)
        return compvis.write(folder, found.tensors, found.config)

    return write


def single_file(folder: Path) -> str:
    """Stable Diffusion, with its tokenizer beside it."""
    test_stable_diffusion_file.write_tokenizer(folder / "tokenizer")
    torch.save({"state_dict": test_stable_diffusion_file.state(), "global_step": 3}, folder / "model.ckpt")
    (folder / "model.args.json").write_text(json.dumps(test_stable_diffusion_file.FLAGS))
    return str(folder / "model.ckpt")


def vae(folder: Path) -> str:
    """The AutoencoderKL that the authors' code of EDM2 was given."""
    from diffusers import AutoencoderKL

    made: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4,
    )  # fmt: skip
    made.load_state_dict(drawn({name: t.shape for name, t in made.state_dict().items()}))
    made.save_pretrained(folder / "vae")
    return str(folder / "vae")


def on_codes(write: Callable[[Path], str]) -> Callable[[Path], str]:
    """With the autoencoder beside it."""

    def both(folder: Path) -> str:
        vae(folder)
        return write(folder)

    return both


def dit(folder: Path) -> str:
    return test_dit.written(folder, drawn(test_dit.shapes()))


VAE = {"vae": "vae"}
FAMILIES: Mapping[str, Family] = {
    "stylegan2, NVIDIA": Family(nvidia, "stylegan2"),
    "stylegan2, rosinality": Family(lambda f: str(save(f / "a.pt", test_official_gans.content())), "stylegan2"),
    "stylegan3": Family(lambda f: test_stylegan3.written(f / "a.pkl", test_stylegan3.weights()), "stylegan3"),
    "stylegan3, stem of XL": Family(lambda f: test_official_gans.stem_file(f / "a.pkl", 4), "stylegan3"),
    "fastgan": Family(lambda f: test_fastgan.written(f / "a.pkl", test_fastgan.slow()), "fastgan"),
    "progan, GAN Zoo": Family(lambda f: test_progan.pytorch_file(f / "a.pth", test_progan.pytorch_weights()), "progan"),
    "progan, TensorFlow": Family(progan_of_tensorflow, "progan"),
    "dcgan": Family(test_dcgan.written, "dcgan"),
    "adm": Family(lambda f: with_flags(f, test_adm.tensors(), test_adm.FLAGS), "adm"),
    "consistency": Family(
        lambda f: with_flags(f, drawn(test_consistency.shapes(0)), test_consistency.FLAGS), "consistency"
    ),
    "edm": Family(lambda f: test_edm.written(f, "ddpmpp"), "edm"),
    "edm2, pixels": Family(lambda f: test_edm2.written(f, "plain"), "edm2"),
    "edm2, codes": Family(on_codes(lambda f: test_edm2.written(f, "cond")), "edm2", VAE),
    "dit": Family(on_codes(dit), "dit", VAE, {"heads": test_dit.HEADS}, told=False),
    "ldm, classes": Family(compvis_case("cin"), "ldm"),
    "first_stage, KL": Family(compvis_case("kl16"), "first_stage"),
    "first_stage, VQGAN": Family(compvis_case("taming"), "first_stage"),
    "stable_diffusion, file": Family(single_file, "stable_diffusion", {"tokenizer": "tokenizer"}),
    "sdf_stylegan": Family(sdf, "sdf_stylegan"),
}
"""By name."""
