"""Every generator and feature space at hand on a GPU against the CPU: how many bytes are equal after 8-bit rounding.

Those of the zoo, feature spaces that open without a file, and random small networks whose files are written by the
tests of their families. What needs a package that is not there is named and left out.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from assay.harness.arrays.spaces import eight_bits
from assay.harness.core.protocols import Extractor, Generator
from assay.harness.core.registry import EXTRACTORS, GENERATORS
from assay.harness.formats.weights import ZOO, read_weights
from assay.harness.train import train

from .metrics import Device
from .table import Row

ONE_PASS = 0.99
"""Least share of equal bytes. A byte differs where the image lies within the rounding of float32, some 1e-6, of a limit
between two of 256 levels, which happens to one of a thousand."""
MANY_PASSES = 0.95
"""The same of samplers, whose rounding grows from step to step, and where a codebook entry is chosen."""
SAMPLERS = (
    "latent_diffusion", "adm", "consistency", "edm", "edm2", "dit", "sit", "ldm", "first_stage vq", "pipeline",
)  # fmt: skip
PIPELINES = ("sd", "sdxl", "sd3", "ldm")
Folder = Path


def zoo(kind: str) -> list[tuple[str, str]]:
    """Family and data set of all weights that come with assay."""
    folder = ZOO["generator" if kind == "generator" else "extractor"]
    pairs = [file.stem.partition("-") for file in sorted(folder.glob("*.safetensors"))]
    return [(family, dataset) for family, _, dataset in pairs]


# Small networks in the layouts of other people's files, as the tests of their families write them


def _adm(folder: Folder) -> Generator:
    from ..generators.test_adm import FLAGS, tensors

    return _flagged(GENERATORS["adm"].function, folder, tensors(), FLAGS, steps=10)


def _consistency(folder: Folder) -> Generator:
    from ..generators.test_consistency import FLAGS, drawn, shapes

    return _flagged(GENERATORS["consistency"].function, folder, drawn(shapes(0)), dict(FLAGS))


def _flagged(make: Callable[..., Generator], folder: Folder, content: Any, flags: Any, **options: Any) -> Generator:
    torch.save(content, folder / "model.pt")
    (folder / "model.args.json").write_text(json.dumps(flags))
    return make("", str(folder / "model.pt"), **options)


def _edm(case: str, folder: Folder) -> Generator:
    from ..generators.test_edm import opened, written

    return opened(written(folder, case), steps=6)


def _edm2(folder: Folder) -> Generator:
    from ..generators.test_edm2 import opened, written

    return opened(written(folder, "plain"), steps=6)


def _transformer(family: str, folder: Folder) -> Generator:
    from ..generators import test_dit as of
    from ..tiny_pipelines import vae

    vae().save_pretrained(folder / "vae")
    path = of.written(folder, of.drawn(of.shapes()))
    return {"dit": of.dit_of, "sit": of.sit_of}[family](path, str(folder / "vae"), steps=4)


def _stylegan2(folder: Folder) -> Generator:
    from ..generators.test_stylegan2 import model

    return model()


def _rosinality(folder: Folder) -> Generator:
    from ..generators.test_official_gans import content, save

    return GENERATORS["stylegan2"].function("", str(save(folder / "a.pt", content())))


def _stylegan3(folder: Folder) -> Generator:
    from ..generators.test_stylegan3 import weights, written

    return GENERATORS["stylegan3"].function("", written(folder / "t.pkl", weights()))


def _fastgan(folder: Folder) -> Generator:
    from ..generators.test_fastgan import slow, written

    return GENERATORS["fastgan"].function("", written(folder / "f.pkl", slow()))


def _progan(folder: Folder) -> Generator:
    from ..generators.test_progan import pytorch_file, pytorch_weights

    return GENERATORS["progan"].function("", pytorch_file(folder / "p.pth", pytorch_weights()))


def _dcgan(folder: Folder) -> Generator:
    from ..generators.test_dcgan import written

    return GENERATORS["dcgan"].function("", written(folder))


def _compvis(family: str, name: str, folder: Folder) -> Generator:
    from ..compvis import case, write

    made = case(name)
    options = {"steps": 4, "label": 1} if family == "ldm" else {}
    return GENERATORS[family].function("", write(folder, made.tensors, made.config), **options)


def _deepsdf(folder: Folder) -> Generator:
    from ..generators.test_deepsdf import opened, write

    write(folder)
    return opened(folder, resolution=16)


def _sdf_stylegan(folder: Folder) -> Generator:
    from ..generators.test_sdf_stylegan import SHAPE, opened, tensors

    path = folder / "epoch.ckpt"
    torch.save({"epoch": 3, "state_dict": tensors(), "hyper_parameters": SHAPE}, path)
    return opened(str(path), resolution=16)


def _pipeline(kind: str, folder: Folder) -> Generator:
    from ..generators.test_diffusers_pipeline import determined, from_pipeline, tiny

    return from_pipeline(tiny(kind), **determined(kind))


SMALL: dict[str, Callable[[Folder], Generator]] = {
    "adm": _adm,
    "consistency": _consistency,
    **{f"edm, {case}": partial(_edm, case) for case in ("ddpmpp", "ncsnpp", "ve", "vp_skip", "adm", "iddpm")},
    "edm2": _edm2,
    **{family: partial(_transformer, family) for family in ("dit", "sit")},
    "stylegan2": _stylegan2,
    "stylegan2, rosinality": _rosinality,
    "stylegan3": _stylegan3,
    "fastgan": _fastgan,
    "progan": _progan,
    "dcgan": _dcgan,
    "ldm": partial(_compvis, "ldm", "cin"),
    **{f"first_stage {name}": partial(_compvis, "first_stage", name) for name in ("kl8", "kl16", "vq", "taming")},
    "deepsdf": _deepsdf,
    "sdf_stylegan": _sdf_stylegan,
    **{f"pipeline {kind}": partial(_pipeline, kind) for kind in PIPELINES},
}
"""Random networks by family; each takes an empty folder."""


# Feature spaces


def _pretrained(name: str, folder: Folder) -> Extractor:
    from assay.metrics.extractors import vgg
    from assay.metrics.extractors.inception import InceptionNetwork

    from ..pretrained import clip_state, dinov2_state, he, shapes_of

    with patch.object(vgg, "WIDTHS", (4, 6, 8, 8, 8)), patch.object(vgg, "HIDDEN", 12):
        state = {
            "inception": lambda: he(shapes_of(InceptionNetwork)),
            "vgg16": lambda: he(shapes_of(lambda: vgg.VGGNetwork((2, 2, 3, 3, 3)))),
            "dinov2": dinov2_state,
            "clip": clip_state,
        }[name]()
        torch.save(state, folder / "weights.pth")
        options = {"vgg16": {"size": 64}, "dinov2": {"heads": 4}}.get(name, {})
        return EXTRACTORS[name].function("", str(folder / "weights.pth"), **options)


PRETRAINED = ("inception", "vgg16", "dinov2", "clip")
"""Opened from random weights under their published names; all but Inception are narrow."""


def spaces(folder: Folder) -> Iterator[tuple[str, str, Callable[[], Extractor]]]:
    """Name of a feature space, the data set whose images it takes, and what opens it."""
    trained = zoo("extractor")
    for family, dataset in trained:
        yield family, dataset, partial(EXTRACTORS[family].function, dataset)
    for name in sorted(EXTRACTORS.keys() - {family for family, _ in trained} - set(PRETRAINED)):
        of_shapes = name in ("points", "shaded", "signals")
        yield (
            name,
            "sdf_primitives" if of_shapes else "fashion_mnist",
            partial(EXTRACTORS[name].function, "fashion_mnist"),
        )
    for name in PRETRAINED:
        yield name, "fashion_mnist", partial(_pretrained, name, folder)


def images_like(dataset: str, n: int) -> Tensor:
    """Samples of a generator of the zoo that was trained on a data set, 8 bits deep."""
    family = next(family for family, of in zoo("generator") if of == dataset)
    made = GENERATORS[family].function(dataset)
    images: Tensor = made.decode(made.latents(range(n), made.spaces[0]), made.spaces[0])
    return eight_bits(images).float() / 255


# What is measured


def decoding(device: Device, n: int, only: Callable[[str], bool] = lambda name: True) -> Iterator[Row]:
    """The share of equal bytes of images: on the CPU when they are decoded one by one, on the GPU against the CPU."""
    makers = {f"{family} on {data}, zoo": partial(_of_zoo, family, data) for family, data in zoo("generator")}
    for name, make in {**makers, **SMALL}.items():
        if only(name):
            with tempfile.TemporaryDirectory() as folder:
                yield _row(name, partial(make, Path(folder)), partial(_decoded, device, n))


def _of_zoo(family: str, dataset: str, folder: Folder) -> Generator:
    made: Generator = GENERATORS[family].function(dataset)
    return made


def extracting(device: Device, n: int, only: Callable[[str], bool] = lambda name: True) -> Iterator[Row]:
    """The same of features, rounded to 256 levels between the least and the largest feature."""
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset, make in spaces(Path(folder)):
            told = f"{name}, images like {dataset}"
            if only(told):
                yield _row(told, make, partial(_extracted, device, images_like(dataset, n)))


def _row(name: str, make: Callable[[], Any], measure: Callable[[Any], tuple[str, float, float | None]]) -> Row:
    try:
        made = make()
    except (ImportError, LookupError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        return Row(f"{name}: not at hand", reason.partition(":")[0], None)
    size, cpu, gpu = measure(made)
    bound = MANY_PASSES if name.startswith(SAMPLERS) else ONE_PASS
    return Row(name, size, cpu, gpu=gpu, bound=bound, least=True)


@torch.no_grad()
def _decoded(device: Device, n: int, made: Generator) -> tuple[str, float, float | None]:
    space = made.spaces[0]
    latents = made.latents(range(n), space)
    images = eight_bits(made.decode(latents, space))
    apart = torch.cat([eight_bits(made.decode(part, space)) for part in latents.split(1)])
    gpu = None
    if device is not None:
        if hasattr(made, "to"):
            made.to(device)
        gpu = equal_share(eight_bits(made.decode(latents.to(device), space)).cpu(), images)
    return "x".join(map(str, images.shape)), equal_share(apart, images), gpu


@torch.no_grad()
def _extracted(device: Device, images: Tensor, made: Extractor) -> tuple[str, float, float | None]:
    features = made(images)
    least, most = features.min(), features.max()

    def levels(found: Tensor) -> Tensor:
        return eight_bits((found.cpu() - least) / (most - least).clamp(min=torch.finfo(torch.float32).tiny))

    apart = torch.cat([made(part) for part in images.split(1)])
    gpu = None if device is None else equal_share(levels(made(images.to(device))), levels(features))
    return "x".join(map(str, features.shape)), equal_share(levels(apart), levels(features)), gpu


def equal_share(one: Tensor, other: Tensor) -> float:
    return float((one == other).double().mean())


# Training

TRAINED = 1e-3
"""Bound of the difference of a loss: rounding of one step."""
OTHER_WAY = 0.01
"""Bound of the share of weights that one step moves by another amount. Adam's first step moves each by the learning
rate, whatever the size of its gradient, so those differ whose gradient is within its rounding of 0."""
LR = 2.5e-3


def training(device: Device, batch: int, steps: int) -> Iterator[Row]:
    """Losses of StyleGAN2 after one step and after several, and which way its weights have gone, by `assay train`."""
    cpu = torch.device("cpu")
    first, weights = _trained(cpu, batch, 1)
    several, _ = _trained(cpu, batch, steps)
    on_gpu = None if device is None else (_trained(device, batch, 1), _trained(device, batch, steps))
    size = f"batches of {batch}"
    for key, loss in first.items():
        gpu = None if on_gpu is None else abs(on_gpu[0][0][key] - loss) / max(abs(loss), 1e-6)
        yield Row(f"{key} loss of the first step: its value, the GPU's difference", size, loss, gpu=gpu, bound=TRAINED)
    moved = None if on_gpu is None else _other_way(on_gpu[0][1], weights)
    yield Row("weights moved otherwise in the first step", size, 0.0, gpu=moved, bound=OTHER_WAY)
    for key, loss in several.items():
        gpu = None if on_gpu is None else abs(on_gpu[1][0][key])
        yield Row(f"{key} loss, mean of {steps} steps", size, loss, gpu=gpu, bound=100.0)


def _trained(device: torch.device, batch: int, steps: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The losses of an epoch of so many steps, and the trained weights, those of the generator its average."""
    from assay.harness.core.registry import DATASETS

    options = {"epochs": 1, "batch": batch, "lr": LR, "half_life": 1e-3}  # the average is the newest
    with tempfile.TemporaryDirectory() as folder:
        data = DATASETS["digits"].function()
        path = train("stylegan2", options, data, 0, Path(folder), device, images=batch * steps)
        tensors, _, _ = read_weights(path, "stylegan2")
        (losses,) = json.loads(path.with_suffix(".json").read_text())["losses"]
    return losses, {name: tensor.clone() for name, tensor in tensors.items()}


def _other_way(found: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """Share of learned weights that differ by more than a tenth of the learning rate."""
    pairs = [(found[name], x) for name, x in right.items() if x.is_floating_point()]
    differ = sum(int(((a - b).abs() > LR / 10).sum()) for a, b in pairs)
    return differ / sum(b.numel() for _, b in pairs)
