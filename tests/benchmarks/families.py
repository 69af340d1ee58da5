"""Each family of generators on a small file: the largest error, the latents it offers, and one command that scores it.

    .venv/bin/python -m tests.benchmarks.families              # some minutes
    .venv/bin/python -m tests.benchmarks.families --only edm

Writes results/benchmarks/families.csv and .md (or --out). The files are those of the tests, with random weights.
`error` is the largest difference over the largest expected number: what the authors' code gave for the same file, run
apart from this project, or a slow float64 version of the text where `beside` says so. The command is run, and `value`
is its number. With --only, the other rows of the table stay.
"""

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from assay.generators.autoencoder import autoencoder
from assay.generators.consistency import consistency
from assay.generators.diffusers_pipeline import from_pipeline
from assay.generators.dit import dit
from assay.generators.edm import edm
from assay.generators.edm2 import edm2
from assay.generators.first_stage import first_stage
from assay.generators.ldm import ldm
from assay.generators.sit import sit
from assay.generators.stable_diffusion import stable_diffusion
from assay.generators.stylegan2 import stylegan2
from assay.generators.stylegan3 import stylegan3
from assay.harness import cli
from assay.harness.core.registry import GENERATORS, discover

from .. import compvis
from ..family_files import FAMILIES, vae, with_flags
from ..generators import (
    test_adm,
    test_autoencoder,
    test_consistency,
    test_dcgan,
    test_deepsdf,
    test_diffusers_pipeline,
    test_dit,
    test_edm,
    test_edm2,
    test_fastgan,
    test_first_stage,
    test_official_gans,
    test_progan,
    test_sdf_stylegan,
    test_stable_diffusion_file,
    test_stylegan3,
)
from ..nvlabs import dump, record, save
from ..official import drawn, noise
from ..tiny_pipelines import MAKERS, tiny
from .tables import arguments, publish

AUTHORS, TEXT, DIFFUSERS = "the authors' code", "float64 by the text", "the call of diffusers"
Pairs = Iterator[tuple[str, Any, Any]]
"""What was compared: a name, what was found, and what was expected."""


class Compared(NamedTuple):
    """pairs: of what a file in a folder gives; beside: what the expected numbers are of."""

    pairs: Callable[[Path], Pairs]
    beside: str = AUTHORS


def of_stylegan2(folder: Path) -> Pairs:
    for case, options in test_official_gans.OPTIONS.items():
        init = test_official_gans.INIT | options
        tensors = test_official_gans.tensors_of(options)
        file = dump(folder / "a.pkl", {"G_ema": record("Generator", tensors, init, test_official_gans.BUFFERS)})
        images = stylegan2("", str(file), label=1 if options.get("c_dim") else None).decode(noise("z", 1, 8)) * 2 - 1
        yield case, images, test_official_gans.OFFICIAL[case]


def of_rosinality(folder: Path) -> Pairs:
    for kernel, taps in test_official_gans.KERNELS.items():
        file = str(save(folder / "a.pt", test_official_gans.content(taps)))
        yield kernel, stylegan2("", file).decode(noise("z", 1, 7)) * 2 - 1, official_gan(f"rosinality {kernel}")


def official_gan(name: str) -> Any:
    return test_official_gans.OFFICIAL[name]


def of_stylegan3(folder: Path) -> Pairs:
    for name, (shape, init) in (("T", test_stylegan3.T), ("R", test_stylegan3.RADIAL)):
        tensors = test_stylegan3.weights(shape=shape)
        model = stylegan3("", test_stylegan3.written(folder / "a.pkl", tensors, init=init))
        ws = torch.randn(3, test_stylegan3.LAYERS + 2, 10, generator=torch.Generator().manual_seed(1))
        expected = test_stylegan3.slow(tensors, ws, shape.get("kernel", 3), shape.get("radial", False))
        yield name, model.decode(ws, "w+") * 2 - 1, expected


def of_stems(folder: Path) -> Pairs:
    plain = stylegan3("", test_official_gans.stem_file(folder / "a.pkl", 0))
    yield "stem", plain.decode(noise("z", 1, 8)) * 2 - 1, official_gan("stem")
    for psi in (1.0, 0.5):
        model = stylegan3("", test_official_gans.stem_file(folder / "b.pkl", 4), truncation=psi, label=3)
        yield f"classes, {psi}", model.decode(noise("z", 1, 8)) * 2 - 1, official_gan(f"stem of class 3 at {psi}")


def of_fastgan(folder: Path) -> Pairs:
    reference = test_fastgan.slow()
    model: Any = FAMILIES["fastgan"].open(Path(test_fastgan.written(folder / "a.pkl", reference)))
    z = noise("z", 2, test_fastgan.Z)
    maps = [noise(f"map {i} {k}", 2, 1, 2**i, 2**i) for i in range(3, 8) for k in range(2)]
    yield "images", model.network(z, maps), reference.double()(z.double(), iter(one.double() for one in maps))


def of_progan(folder: Path) -> Pairs:
    weights, z = test_progan.pytorch_weights(), noise("z", 3, test_progan.Z)
    model = FAMILIES["progan, GAN Zoo"].open(Path(test_progan.pytorch_file(folder / "a.pth", weights)))
    yield "GAN Zoo", model.decode(z, "z") * 2 - 1, test_progan.slow_pytorch(weights, z)


def of_progan_tensorflow(folder: Path) -> Pairs:
    z = noise("z", 3, test_progan.Z)
    for fused in (True, False):
        arrays = test_progan.tensorflow_weights(fused)
        model = FAMILIES["progan, TensorFlow"].open(Path(test_progan.tensorflow_file(folder / "a.pkl", arrays)))
        yield f"fused {fused}", model.decode(z, "z") * 2 - 1, test_progan.slow_tensorflow(arrays, z)


def of_dcgan(folder: Path) -> Pairs:
    model = FAMILIES["dcgan"].open(Path(test_dcgan.written(folder)))
    z = model.latents(range(5), "z")
    yield "images", model.decode(z, "z"), (test_dcgan.plain().double()(z.double()[:, :, None, None]) + 1) / 2


def of_sdf_stylegan(folder: Path) -> Pairs:
    found: Any = FAMILIES["sdf_stylegan"].open(Path(FAMILIES["sdf_stylegan"].write(folder)))
    named = {name: x.double() for name, x in test_sdf_stylegan.tensors().items()}
    z, points = found.latents([0], "z"), 2.1 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 1.05
    volume = test_sdf_stylegan.slow_volume(named, test_sdf_stylegan.slow_mapping(named, z[0].double()))
    expected = torch.stack([test_sdf_stylegan.slow_sdf(named, volume, point.double()) for point in points])
    yield "distances", found.sdf(z, "z", points)[0], expected


def of_adm(folder: Path) -> Pairs:
    constant = test_adm.tensors()
    constant["out.2.weight"].zero_()
    constant["out.2.bias"] = torch.tensor([0.3] * 3 + [100.0] * 3)
    flags = {**test_adm.FLAGS, "noise_schedule": "linear", "diffusion_steps": 200}
    model: Any = GENERATORS["adm"].function("", with_flags(folder, constant, flags), steps=4)
    betas = [5 * (1e-4 + (0.02 - 1e-4) * t / 199) for t in range(200)]
    x = torch.linspace(-2, 2, 3 * test_adm.SIZE**2).reshape(1, 3, test_adm.SIZE, test_adm.SIZE)
    expected = [test_adm.by_hand(v, 0.3, betas, [150, 100, 50, 0], True) for v in x.flatten().tolist()]
    yield "DDIM of a constant network", model.decode(x, "x_T").flatten(), expected


def of_edm(folder: Path) -> Pairs:
    for case in test_edm.CASES:
        path = test_edm.written(folder, case)
        for solver in ("heun", "euler"):
            model: Any = edm("", path, steps=5, solver=solver)
            labels = torch.tensor([3, 1]) if model.classes else None
            found = model.sample(noise(case, 2, 3, test_edm.SIZE, test_edm.SIZE), labels)
            yield f"{case}, {solver}", found, test_edm.OFFICIAL[f"{case}/{solver}"]


def of_edm2(folder: Path) -> Pairs:
    side = test_edm2.SIZE
    for case, options in (("plain", {}), ("cond", {"vae": vae(folder)})):
        model: Any = edm2("", test_edm2.written(folder, case), steps=5, **options)
        x = noise(case, 2, model.shape[0], side, side)
        found = model.sample(x, test_edm2.LABELS if model.classes else None)
        yield case, found, test_edm2.OFFICIAL[f"{case}/heun"]
    guide = test_edm2.written(folder, "plain", img_channels=4)
    guided: Any = edm2("", test_edm2.written(folder, "cond"), steps=5, vae=vae(folder), guidance=1.4, guide=guide)
    found = guided.sample(noise("cond", 2, 4, side, side), test_edm2.LABELS)
    yield "guided by a second file", found, test_edm2.OFFICIAL["guided/heun"]


def of_consistency(folder: Path) -> Pairs:
    side = test_consistency.SIZE
    draws = torch.stack([noise(f"cm{i}", 2, 3, side, side) for i in range(3)], 1)
    for case, classes in (("cond", test_consistency.CLASSES), ("plain", 0)):
        path = with_flags(folder, drawn(test_consistency.shapes(classes)), test_consistency.FLAGS)
        labels = torch.tensor([3, 1]) if classes else None
        one: Any = consistency("", path)
        yield f"{case}, one step", one.sample(draws[:, 0], labels), test_consistency.OFFICIAL[f"{case}/clip/onestep"]
        many: Any = consistency("", path, ts=[0, 22, 31, 39])
        yield f"{case}, several", many.sample(draws, labels), test_consistency.OFFICIAL[f"{case}/clip/multistep"]


def of_dit(folder: Path) -> Pairs:
    path, decoder = test_dit.written(folder, drawn(test_dit.shapes())), vae(folder)
    x = noise("DiT", 2, 4, test_dit.SIDE, test_dit.SIDE)
    for steps in (4, 7):
        model: Any = dit("", path, decoder, heads=test_dit.HEADS, steps=steps, guidance=1.7)
        yield f"DDIM, {steps}", model.sample(x, test_dit.LABELS), test_dit.OFFICIAL["dit"][f"ddim{steps}"]


def of_sit(folder: Path) -> Pairs:
    path, decoder = test_dit.written(folder, drawn(test_dit.shapes())), vae(folder)
    x = noise("SiT", 2, 4, test_dit.SIDE, test_dit.SIDE)
    for solver, name in (("euler", "euler"), ("heun", "heun2")):
        model: Any = sit("", path, decoder, heads=test_dit.HEADS, steps=5, guidance=1.7, solver=solver)
        yield solver, model.sample(x, test_dit.LABELS), test_dit.OFFICIAL["sit"][name]


def of_ldm(folder: Path) -> Pairs:
    for name, guidance, steps in (("cin", 1, 4), ("cin", 3, 6), ("cin_width", 3, 4), ("cin_kl", 3, 4)):
        tensors, config, found = compvis.case(name)
        path = compvis.write(folder, tensors, config)
        for i, label in enumerate(found["labels"].tolist()):
            null = None if name == "cin" else 4
            model = ldm("", path, steps=steps, label=label, null_label=null, guidance=guidance)
            images = model.decode(found["x"][i : i + 1], "x_T")
            yield f"{name}, {label}", images, found[f"images_{guidance}_{steps}"][i : i + 1]


def of_first_stage(folder: Path) -> Pairs:
    for name in test_first_stage.NAMES:
        tensors, config, found = compvis.case(name)
        model: Any = first_stage("", compvis.write(folder, tensors, config))
        codes = model.encode(test_first_stage.IMAGES)
        yield f"{name}, codes", codes, found["mean"]
        yield f"{name}, images", model.decode(codes), found["rec"]


def of_stable_diffusion(folder: Path) -> Pairs:
    path = FAMILIES["stable_diffusion, file"].write(folder)
    tensors, words = test_stable_diffusion_file.state(), str(folder / "tokenizer")
    (folder / "configs").mkdir()
    pipe = test_stable_diffusion_file.from_single_file(tensors, words, folder / "configs")
    for guidance in (5.0, 1.0):
        model: Any = stable_diffusion("", path, tokenizer=words, prompt="a cat", steps=4, guidance=guidance)
        x = model.latents(range(2), "x_T")
        given = {"prompt": ["a cat"] * 2, "guidance_scale": guidance, "num_inference_steps": 4, "output_type": "pt"}
        yield f"guidance {guidance}", model.decode(x, "x_T").clamp(0, 1), pipe(**given, latents=x.clone()).images


def of_autoencoder(kind: str) -> Callable[[Path], Pairs]:
    def pairs(folder: Path) -> Pairs:
        made = autoencoder_file(kind, folder)
        model: Any = autoencoder("", str(folder), size=16)
        z = model.latents([0, 1], "z")
        shift = 0.1 if kind == "AutoencoderKL" else 0.0
        yield "images", model.decode(z, "z"), made.decode(z / 0.4 + shift).sample / 2 + 0.5

    return pairs


def autoencoder_file(kind: str, folder: Path) -> Any:
    made = getattr(test_autoencoder.d, kind)(**test_autoencoder.KINDS[kind]).eval()
    made.save_pretrained(folder)
    return made


def of_deepsdf(folder: Path) -> Pairs:
    for kind, changes in test_deepsdf.KINDS.items():
        named = {name: x.double() for name, x in test_deepsdf.write(folder / kind, **changes).items()}
        found, specs = test_deepsdf.opened(folder / kind), {**test_deepsdf.PLAIN, **changes}
        points = torch.rand(15, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
        code = named["codes"][0]
        expected = torch.stack([test_deepsdf.slow(named, specs, torch.cat([code, p.double()])) for p in points])
        yield kind, found.sdf(code[None].float(), "z", points)[0], expected


def of_pipeline(kind: str) -> Callable[[Path], Pairs]:
    def pairs(_: Path) -> Pairs:
        pipe, options = tiny(kind), test_diffusers_pipeline.options(kind)
        model = from_pipeline(pipe, **options)
        images = model.decode(model.latents([0, 1, 5], model.spaces[0]), model.spaces[0]).clamp(0, 1)
        yield kind, images, test_diffusers_pipeline.official(pipe, [0, 1, 5], options)

    return pairs


COMPARED = {
    "stylegan2, NVIDIA": Compared(of_stylegan2),
    "stylegan2, rosinality": Compared(of_rosinality),
    "stylegan3": Compared(of_stylegan3, TEXT),
    "stylegan3, stem of XL": Compared(of_stems),
    "fastgan": Compared(of_fastgan, TEXT),
    "progan, GAN Zoo": Compared(of_progan, TEXT),
    "progan, TensorFlow": Compared(of_progan_tensorflow, TEXT),
    "dcgan": Compared(of_dcgan, TEXT),
    "adm": Compared(of_adm, TEXT),
    "consistency": Compared(of_consistency),
    "edm": Compared(of_edm),
    "edm2, codes": Compared(of_edm2),
    "dit": Compared(of_dit),
    "sit": Compared(of_sit),
    "ldm, classes": Compared(of_ldm),
    "first_stage, KL": Compared(of_first_stage),
    "stable_diffusion, file": Compared(of_stable_diffusion, DIFFUSERS),
    **{f"autoencoder, {kind}": Compared(of_autoencoder(kind), DIFFUSERS) for kind in test_autoencoder.KINDS},
    "deepsdf": Compared(of_deepsdf, TEXT),
    "sdf_stylegan": Compared(of_sdf_stylegan, TEXT),
    **{f"pipeline, {kind}": Compared(of_pipeline(kind), DIFFUSERS) for kind in MAKERS},
}
"""How each is compared; the names are those of FAMILIES where a file is opened."""
PIPELINE_OPTIONS = ("steps", "prompt", "negative_prompt", "guidance", "height", "width", "label", "arguments")
LIKE = {"sit": "dit"}
"""Families that open the file of another one."""


def error(folder: Path, compared: Compared) -> tuple[int, float]:
    """How many files or settings were compared, and the largest error."""
    errors = []
    for _, found, expected in compared.pairs(folder):
        expected = torch.as_tensor(expected).double()
        errors.append(float((torch.as_tensor(found).double() - expected).abs().max() / expected.abs().max()))
    return len(errors), max(errors)


class Opened(NamedTuple):
    """model: of a file of this family; generator: who opens it; options: those of the command, `path` among them."""

    model: Any
    generator: str
    options: dict[str, object]


def opened(name: str, where: Path) -> Opened:
    """A file of a family, written to a folder and opened."""
    where.mkdir(exist_ok=True)
    kind = name.partition(", ")[2]
    if name.startswith("pipeline"):
        tiny(kind).save_pretrained(where / "folder")
        known = {k: x for k, x in test_diffusers_pipeline.determined(kind).items() if k in PIPELINE_OPTIONS and x != ""}
        return Opened(from_pipeline(tiny(kind), **known), "pipeline", {"path": where / "folder", **known})
    if name.startswith("autoencoder"):
        autoencoder_file(kind, where / "folder")
        options: dict[str, object] = {"path": where / "folder", "size": 16}
        return Opened(autoencoder("", str(where / "folder"), size=16), "autoencoder", options)
    if name == "deepsdf":
        test_deepsdf.write(where / "folder")
        return Opened(test_deepsdf.opened(where / "folder"), "deepsdf", {"path": where / "folder"})
    family = FAMILIES[LIKE.get(name, name)]
    path = Path(family.write(where))
    family = family._replace(generator=name if name in LIKE else family.generator)
    options = {"path": path, **{key: path.parent / value for key, value in family.needs.items()}, **family.options}
    return Opened(family.open(path), family.generator, options)


def scored(name: str) -> tuple[str, str, str]:
    """The latents of a family, one command, and its number, or why it has none; run where the command says."""
    where = Path(name.replace(", ", "_").replace(" ", "_"))
    model, generator, options = opened(name, where)
    given = {key: str(value).replace("'", "") for key, value in options.items()}
    words = [f"generator={generator}", *(f"generator.{generator}.{key}={value}" for key, value in given.items())]
    if generator in ("sdf_stylegan", "deepsdf"):  # shapes are compared with shapes
        few = ["dataset.sdf_primitives.train=20", "dataset.sdf_primitives.test=5"]
        words += ["n=2", "dataset=sdf_primitives", *few, "metric=solid_volume"]
    else:
        reals = pictures(model, where / "reals")
        metric = "reconstruction_error" if generator in ("first_stage", "autoencoder") else "frechet_distance"
        words += ["n=12", f"metric={metric}", "features=pixels", f"--real={reals}"]
    sys.argv = ["assay", "run", *words, "out=out", "floor=false"]
    command = "assay run " + " ".join(f"'{word}'" if " " in word else word for word in words)
    with suppress(SystemExit):
        cli.main()
    (table,) = Path("out").glob("*/tables/metrics.csv")
    value = pd.read_csv(table)["value"].iloc[0]
    shutil.rmtree("out")
    shutil.rmtree("out.plan", ignore_errors=True)
    return ", ".join(model.spaces), command, f"{float(value):.5g}"


def pictures(model: Any, folder: Path) -> Path:
    """Twenty pictures of noise, as large as those of a generator."""
    space = next(iter(model.spaces))
    side = model.decode(model.latents([0], space), space).shape
    folder.mkdir(exist_ok=True)
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (side[2], side[3], side[1]), dtype=np.uint8)
        Image.fromarray(pixels.squeeze()).save(folder / f"{i}.png")
    return folder


def main() -> None:
    chosen = arguments(__doc__).parse_args()
    out = chosen.out.absolute()
    discover()
    with tempfile.TemporaryDirectory() as folder, chdir(folder), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["ASSAY_CACHE"] = f"{folder}/cache"
        for name, compared in COMPARED.items():
            if chosen.only not in name:
                continue
            apart = Path(tempfile.mkdtemp(dir=folder))  # flags of another family must not lie beside a file
            count, largest = error(apart, compared)
            latents, command, value = scored(name)
            row = {"family": name, "beside": compared.beside, "compared": count, "error": f"{largest:.1e}"}
            write({**row, "latents": latents, "command": command, "value": value}, out)


def write(row: dict[str, Any], out: Path) -> None:
    """A row of the table, in place of what stands there."""
    file = out / "families.csv"
    known = pd.read_csv(file, dtype=str, keep_default_na=False).to_dict("records") if file.exists() else []
    rows = {one["family"]: one for one in known} | {row["family"]: row}
    frame = pd.DataFrame([rows[name] for name in COMPARED if name in rows])
    publish(frame, out, "families", "    .venv/bin/python -m tests.benchmarks.families")
    print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
