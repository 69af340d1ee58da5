"""Calls from Python: one number whatever form samples have, nothing left behind, and errors that name the argument."""

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import assay
from assay.datasets.digits import digits
from assay.generators.networks.seeds import normal
from assay.generators.vae import vae
from assay.harness.arrays.records import read_records
from assay.harness.arrays.shards import SEEDS
from assay.harness.core.protocols import Estimate, Record
from assay.harness.core.registry import METRICS
from assay.metrics.frechet import frechet_distance
from assay.metrics.neighbours import precision, realism

from .conftest import FAKES, FORMS, SIDE, Net, Pair, as_folder, channels_first, function_of, random_states

NUMBER = "frechet_distance"
evaluate = partial(assay.evaluate, features="pixels")
compare = partial(assay.compare, features="pixels")
select = partial(assay.select, features="pixels")


def number(record: Record) -> Estimate:
    assert record.status == "ok", record.error
    (found,) = record.values.values()
    return found


def pixels(images: NDArray[np.uint8]) -> Tensor:
    return (channels_first(images) / 255).flatten(1)


# One number whatever form the samples have


@pytest.fixture(scope="module")
def of_folders(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Estimate:
    top = tmp_path_factory.mktemp("folders")
    fake, real = (as_folder(images, top / name) for name, images in zip(Pair._fields, pair, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(top / "cache"))
        return number(evaluate(NUMBER, fake, str(real)))


def test_folders_give_the_value_of_the_formula(pair: Pair, of_folders: Estimate) -> None:
    assert of_folders.value == pytest.approx(frechet_distance(pixels(pair.fake), pixels(pair.real)).value, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_number_of_the_folders(form: str, pair: Pair, of_folders: Estimate) -> None:
    """To the last digit, interval and all: the content decides the order."""
    assert number(evaluate(NUMBER, FORMS[form](pair.fake), FORMS[form](pair.real))) == of_folders


def test_files_give_the_number_of_the_folders(pair: Pair, of_folders: Estimate, tmp_path: Path) -> None:
    np.savez(tmp_path / "fake.npz", arr_0=pair.fake)
    np.save(tmp_path / "real.npy", pair.real)
    found = number(evaluate(NUMBER, "fake.npz", Path("real.npy")))
    assert found.value == pytest.approx(of_folders.value, rel=1e-9)


def test_a_function_of_seeds_gives_the_number_of_its_images(pair: Pair, of_folders: Estimate) -> None:
    asked: list[int] = []

    def make(seeds: list[int]) -> Tensor:
        asked.extend(seeds)
        return function_of(pair.fake)(seeds)

    assert number(evaluate(NUMBER, make, pair.real, n=FAKES, seed=5)) == of_folders
    assert asked == list(range(5 * SEEDS, 5 * SEEDS + FAKES))


def test_grey_pictures_have_one_channel_as_in_a_folder(pair: Pair, tmp_path: Path) -> None:
    grey = [Image.fromarray(image[..., 0]) for image in (*pair.fake, *pair.real)]
    mixed = [grey[0].convert("RGB"), *grey[1:FAKES]]
    record = evaluate(NUMBER, mixed, pair.real[..., 0])
    reals = grey[FAKES:]
    assert number(record) == number(evaluate(NUMBER, pair.fake[..., :1], reals))


def test_a_subset_is_drawn_by_the_seed_and_an_iterator_is_read_to_n(pair: Pair) -> None:
    some = number(evaluate(NUMBER, pair.fake, pair.real, n=20))
    assert some != number(evaluate(NUMBER, pair.fake[:20], pair.real))
    assert some == number(evaluate(NUMBER, pair.fake[::-1], pair.real, n=20))

    def endless() -> Iterator[Tensor]:
        with torch.no_grad():
            while True:
                yield channels_first(pair.fake[:16])

    twice = pair.fake[[*range(16), *range(4)]]
    assert number(evaluate(NUMBER, endless(), pair.real, n=20)) == number(evaluate(NUMBER, twice, pair.real))
    assert torch.is_grad_enabled()


def test_a_module_is_a_decoder_of_normal_latents(pair: Pair) -> None:
    """In evaluation mode, and left as it was: mode by part, parameters, no gradients."""
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    record = evaluate(NUMBER, net, pair.real, n=30, seed=2, latent=4, value_range=(-1, 1))
    assert (net.training, net.norm.training, net.drop.training, net.linear.training) == (True, False, True, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.linear.weight.grad is None
    with torch.no_grad():
        images = (net.eval()(normal([2 * SEEDS + i for i in range(30)], 4)) + 1) / 2
    assert number(record).value == pytest.approx(number(evaluate(NUMBER, images, pair.real)).value, rel=1e-9)


def test_a_module_has_latents_and_a_prior(pair: Pair) -> None:
    net = torch.nn.Sequential(Net(), torch.nn.ReLU())
    record = evaluate("hubness", net, pair.real, n=30, latent=(4,))
    codes = normal(range(30), 4)
    assert number(record).value == pytest.approx(float(METRICS["hubness"].function(codes).mean()))
    knn = evaluate("latent_knn", net, pair.real, n=30, latent=4)
    assert (knn.status, knn.cell.label) == ("ok", "latent_knn(encode=prior)")


def test_an_object_that_is_a_generator_or_a_data_set_is_taken_as_it_is() -> None:
    objects = assay.evaluate("latent_density", vae("digits"), digits(), n=30)
    names = assay.evaluate("latent_density", "vae", "digits", n=30)
    assert objects.status == names.status == "ok"
    assert (objects.values, objects.inputs) == (names.values, names.inputs)


def test_a_pipeline_of_diffusers_goes_to_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the options beside it, if there are any."""
    pipe, seen = type("FluxPipeline", (type("DiffusionPipeline", (), {}),), {})(), []

    def from_pipeline(given: object, **options: Any) -> Any:
        seen.append((given, options))
        return vae("digits")

    monkeypatch.setitem(
        sys.modules, "assay.generators.diffusers_pipeline", SimpleNamespace(from_pipeline=from_pipeline)
    )
    found = [evaluate("precision", given, "digits", n=20) for given in (pipe, (pipe, {"steps": 3}))]
    assert seen == [(pipe, {}), (pipe, {"steps": 3})]
    assert {record.cell.generator.partition("#")[0] for record in found} == {"FluxPipeline"}
    assert found[0].values == found[1].values == evaluate("precision", "vae", "digits", n=20).values


def test_splits_labels_and_classes_are_known(pair: Pair) -> None:
    """Class names of the data set, held-out images from the second split."""
    held = evaluate("nearest_pixel", pair.fake, {"train": pair.real, "test": pair.fake[:5]})
    assert number(held).n == FAKES
    failed = evaluate("nearest_pixel", pair.fake, pair.real)
    assert failed.status == "failed"
    assert "has no held-out samples" in str(failed.error)
    assert "{'train': ..., 'test': ...}" in str(failed.error)


def test_names_and_options_in_all_forms() -> None:
    forms = ["precision(k=3, space=pixels)", ("precision", {"k": 3, "space": "pixels"}), {"precision": {"k": 3}}]
    given: list[Any] = ["vae(temperature=0.7)", ("vae", {"temperature": 0.7}), {"vae": {"temperature": 0.7}}]
    records = [
        assay.evaluate(metric, generator, "digits", n=20, space="pixels")  # type: ignore[call-overload]
        for metric, generator in zip(forms, given, strict=True)
    ]
    assert {record.cell.label for record in records} == {"precision(k=3, space=pixels)"}
    assert {record.cell.generator for record in records} == {"vae(temperature=0.7)"}
    assert len({record.values["precision"] for record in records}) == 1
    assert evaluate(precision, "vae", "digits", n=20).values == evaluate("precision", "vae", "digits", n=20).values


def test_a_list_of_metrics_gives_a_table_in_its_order(pair: Pair) -> None:
    table = evaluate(["recall", "precision(k=3)", "mean_intensity"], {"epoch 3": pair.fake}, pair.real, k=4)
    assert isinstance(table, pd.DataFrame)
    assert table.metric.tolist() == ["recall(k=4)", "precision(k=3)", "mean_intensity"]
    assert set(table.generator) == {"epoch 3"}
    assert set(table.status) == {"ok"}
    one = evaluate("recall", pair.fake, pair.real, k=4)
    assert table.value[0] == number(one).value


# Where things are written


def kept(folder: Path) -> list[dict[Any, Estimate]]:
    return [record.values for record in read_records(folder)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", ["array NHWC", "iterator", "DataLoader of pairs, shuffled"])
def test_nothing_is_written_without_out(form: str, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("assay.harness.objects.calls._of_this_process", lambda: tmp_path / "temporary" / "process")
    evaluate(["precision", "realism"], FORMS[form](pair.fake), FORMS[form](pair.real))
    compare(FORMS[form](pair.fake), pair.fake, FORMS[form](pair.real), "precision")
    select(FORMS[form](pair.fake), "realism", 3, real=FORMS[form](pair.real))
    assay.score("precision", FORMS[form](pair.fake), FORMS[form](pair.real), features="pixels")
    left = files(tmp_path)
    assert left
    assert all(path.is_relative_to(tmp_path / "temporary" / "process") for path in left)  # of the real samples alone


def test_with_out_there_is_a_record_which_is_found_again(pair: Pair, tmp_path: Path) -> None:
    record = evaluate(NUMBER, pair.fake, pair.real, out=tmp_path / "run")
    assert kept(tmp_path / "run") == [record.values]
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    assert (
        evaluate(NUMBER, pair.fake.copy(), FORMS["list of pictures"](pair.real), out=tmp_path / "run").values
        == record.values
    )
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path)} == before


def test_other_content_is_another_record(pair: Pair, tmp_path: Path) -> None:
    """Also where the label is the same, as that of a network that has learned."""
    net = Net()
    call = partial(evaluate, NUMBER, dataset=pair.real, out=tmp_path / "run", n=20, latent=4, value_range=(-1, 1))
    first = call({"net": net})
    with torch.no_grad():
        net.linear.bias += 0.3
    second = call({"net": net})
    assert first.values != second.values
    assert kept(tmp_path / "run") == [second.values]
    alone = evaluate(NUMBER, net, pair.real, n=20, latent=4, value_range=(-1, 1))
    assert alone.values == second.values


# What was as it was


def test_random_generators_and_modes_stay_as_they_were(pair: Pair) -> None:
    random.seed(1)
    torch.manual_seed(1)
    before = random_states()

    def fails() -> None:
        with pytest.raises(ValueError, match="generator"):
            evaluate(NUMBER, lambda seeds: np.random.rand(len(seeds), 3), pair.real)  # noqa: NPY002

    for call in (
        lambda: evaluate(NUMBER, lambda seeds: torch.rand(len(seeds), 3, SIDE, SIDE), pair.real, n=20),
        lambda: evaluate(NUMBER, FORMS["DataLoader of pairs, shuffled"](pair.fake), pair.real),
        lambda: compare(pair.fake, pair.fake, pair.real, "precision"),
        lambda: select(pair.fake, "realism", 2, real=pair.real),
        lambda: assay.score("sliced_distance", pair.fake, pair.real, features="pixels"),
        fails,
    ):
        with torch.no_grad():
            call()
            assert not torch.is_grad_enabled()
        assert random_states() == before
        assert torch.is_grad_enabled()


def test_noise_that_the_caller_does_not_seed_is_the_same_each_time(pair: Pair) -> None:
    def make(seeds: list[int]) -> Tensor:
        return torch.rand(len(seeds), 3, SIDE, SIDE)

    one, same = (number(evaluate(NUMBER, make, pair.real, n=20)) for _ in range(2))
    other = number(evaluate(NUMBER, make, pair.real, n=20, seed=1))
    assert one == same != other


def test_arrays_are_left_alone(pair: Pair) -> None:
    fake, real = pair.fake.copy(), torch.from_numpy(pair.real.copy())
    fake.setflags(write=False)
    evaluate(["precision", "mean_intensity"], fake, real)
    assert np.array_equal(fake, pair.fake)
    assert np.array_equal(real.numpy(), pair.real)
    assert torch.inference_mode(mode=True).__enter__() is None
    try:
        assert evaluate(NUMBER, channels_first(pair.fake) + 0, real).status == "ok"
    finally:
        torch.inference_mode(mode=False).__enter__()


def test_nothing_is_said_of_work_that_takes_a_moment_but_failures_are(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(["precision", "mean_intensity"], pair.fake, pair.real)
    compare(pair.fake, pair.fake, pair.real, "precision")
    assert capsys.readouterr() == ("", "")
    evaluate("latent_density", pair.fake, pair.real)
    assert "latent_density(encode=prior): FAILED, replayed samples have no latent codes" in capsys.readouterr().err


# score, compare, select


def test_score_brings_images_to_features_and_takes_features_as_they_are(pair: Pair, tmp_path: Path) -> None:
    expected = precision(pixels(pair.fake), pixels(pair.real), k=3)
    folder = as_folder(pair.fake[:1].repeat(3, 0), tmp_path / "one")
    for fake in (pair.fake, FORMS["iterator"](pair.fake), FORMS["list of pictures"](pair.fake), pixels(pair.fake)):
        assert assay.score("precision", fake, pair.real, features="pixels", k=3) == expected
    assert assay.score("precision", folder, pair.real, features="pixels", k=3).value in (0, 1)
    both = assay.score(["precision", "recall(k=2)"], pair.fake, pair.real, features="pixels", k=3)
    assert list(both) == ["precision", "recall"]
    assert both["precision"] == expected
    means = assay.score("mean_intensity", FORMS["iterator"](pair.fake))
    assert means.numpy() == pytest.approx(pair.fake.mean((1, 2, 3)) / 255, rel=1e-5)
    points = torch.arange(8.0)[:, None]
    assert assay.score("precision", points, points + 0.1, k=2).value == 1


def test_score_of_fid_extracts_or_tells_how(pair: Pair, monkeypatch: pytest.MonkeyPatch, own_registries: None) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights of 'inception'.*extractors=\{'inception'"):
        assay.score("fid", pair.fake, pair.real)

    class Wide:
        fingerprint, preprocessing = "wide", "none"

        def __call__(self, images: Tensor) -> Tensor:
            return torch.nn.functional.pad(images.flatten(1), (0, 2048 - 3 * SIDE * SIDE))

    @assay.extractor(replace=True)
    def inception(dataset: str) -> Wide:
        return Wide()

    wide = [Wide()(channels_first(images) / 255) for images in pair]
    assert assay.score("fid", pair.fake, pair.real) == assay.score("fid", *wide)
    assert compare(pair.fake, pair.fake, pair.real, "fid").difference[0] == 0


def test_score_refuses_other_numbers_of_arrays(pair: Pair) -> None:
    with pytest.raises(ValueError, match=r"precision takes 2 arrays \(fake, real\), and 1 were given"):
        assay.score("precision", pair.fake)
    with pytest.raises(ValueError, match=r"^fake is None"):
        assay.score("precision", None, pair.real)
    with pytest.raises(ValueError, match="unknown option of metric precision: 'q'"):
        assay.score("precision", pair.fake, pair.real, q=1)


def test_compare_is_the_study(tmp_path: Path) -> None:
    """The same difference, interval and correction as the study's table of the same generators."""
    from assay.harness.open_run import open_run
    from assay.harness.report.tables import study_tables
    from assay.harness.studies.carry_out import carry_out

    metrics = ["precision", "recall"]
    found = assay.compare("vae", "vae(temperature=0.5)", "digits", metrics, n=60, seed=1, halves=5)
    run = open_run(
        {"digits": {}}, {"vae": {}}, tmp_path / "run", store=tmp_path / "store", n=60, seed=1, set_metrics=metrics
    )
    records = carry_out(run, "compare", to=[{"vae": {"temperature": 0.5}}], halves=5)
    table = study_tables(records)["compare"]
    for subject, names in (
        ("this", ("a", "a_low", "a_high")),
        ("other", ("b", "b_low", "b_high")),
        ("difference", ("difference", "low", "high")),
    ):
        rows = table[table.subject == subject].set_index("metric").loc[metrics]
        assert np.array_equal(found[[*names]].to_numpy(), rows[["value", "low", "high"]].to_numpy())
    rows = table[table.subject == "difference"].set_index("metric").loc[metrics]
    assert np.array_equal(found.holm_p.to_numpy(), rows.holm_p.to_numpy())


def test_compare_says_which_is_better(pair: Pair) -> None:
    rng = np.random.default_rng(1)
    good = rng.integers(0, 256, (50, SIDE, SIDE, 3), dtype=np.uint8)
    table = compare(pair.fake, good, pair.real, ["frechet_distance"])
    assert table.verdict.tolist() == ["b is better"]
    assert table.better.tolist() == ["lower"]
    assert compare(good, pair.fake, pair.real, "frechet_distance").verdict.tolist() == ["a is better"]
    same = compare(good, good[::-1], pair.real, ["precision", "frechet_distance"])
    assert same.difference.tolist() == [0, 0]
    assert set(same.verdict) == {"not decided"}


def test_select_gives_the_best_rows_and_files(pair: Pair, tmp_path: Path) -> None:
    real = pair.real[:FAKES]  # of more, as many would be drawn
    scores = realism(pixels(pair.fake), pixels(real))
    best = scores.argsort(descending=True)[:5]
    found = select(pair.fake, "realism", k=5, real=real)
    assert found.indices.tolist() == best.tolist()
    assert torch.equal(found.images, channels_first(pair.fake)[best])
    assert found.scores == pytest.approx(scores[best].numpy(), rel=1e-5)
    share = select(channels_first(pair.fake), "realism", share=0.125, real=real)
    assert share.indices.tolist() == best.tolist()
    files = select(as_folder(pair.fake, tmp_path / "fake"), "realism", k=5, real=real)
    assert list(files.names) == [f"{i:03d}.png" for i in best.tolist()]
    lower = select(pair.fake, "nearest_pixel", k=1, real={"train": pair.real, "test": pair.real[:7]})
    distances = torch.cdist(pixels(pair.fake), pixels(pair.real[:7])).amin(1)
    assert lower.indices.tolist() == [int(distances.argmin())]


def test_select_among_n_of_stored_samples_and_among_seeds(pair: Pair) -> None:
    found = select(pair.fake, "realism", k=30, real=pair.real[:30], n=30)
    assert len(set(found.indices.tolist())) == 30
    scores = realism(pixels(pair.fake[found.indices]), pixels(pair.real[:30]))
    assert scores.numpy() == pytest.approx(found.scores, rel=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    assert torch.equal(found.images, channels_first(pair.fake)[found.indices])
    made = assay.select("vae", "negative_norm", k=3, real="digits", n=20)
    norms = -vae("digits").latents(range(20), "z").norm(dim=1)
    assert made.indices.tolist() == norms.argsort(descending=True)[:3].tolist()


# What is defined again


NOTEBOOK = """
from assay import metric, View
@metric(better="higher", kind="sample", source="a notebook", fake=View("fake", "images"))
def brightness(fake, power: int = 1):
    return {formula}
"""


def run_cell(text: str, number: int, module: str = "__main__") -> None:
    """As a notebook does: each cell is a file of its own, all of one module."""
    exec(compile(text, f"/tmp/ipykernel_1/{number}.py", "exec"), {"__name__": module})


def test_a_metric_defined_again_in_a_notebook_gives_its_new_number(
    pair: Pair, tmp_path: Path, own_registries: None
) -> None:
    """Nothing of the old one is found again: neither a record nor scores in the store."""
    mean, values = pair.fake.mean() / 255, []
    for i, formula in enumerate(["fake.flatten(1).mean(1) ** power", "1 - fake.flatten(1).mean(1) ** power"]):
        run_cell(NOTEBOOK.format(formula=formula), i)
        record = evaluate("brightness", pair.fake, pair.real, out=tmp_path / "run", store=tmp_path / "store")
        values.append(number(record).value)
        assert kept(tmp_path / "run") == [record.values]
    assert values == pytest.approx([mean, 1 - mean], rel=1e-5)


# Errors: one line that names the argument and the fix


class Bad(torch.nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z


def yields() -> Iterator[int]:
    yield 0


BAD: Mapping[str, tuple[Callable[[NDArray[np.uint8]], Any], Mapping[str, Any], str]] = {
    "None": (lambda x: None, {}, "^generator is None; give"),
    "empty array": (lambda x: x[:0], {}, r"^generator: shape \(0, 8, 8, 3\) is empty"),
    "empty list": (lambda x: [], {}, "^generator gave no images: it is empty, or an iterator that was read before"),
    "exhausted": (lambda x: iter(()), {}, "^generator gave no images"),
    "features": (lambda x: x.reshape(len(x), -1), {}, r"^generator has the shape \[40, 192\].*assay.score"),
    "one image": (lambda x: x[0], {}, "may be one image without the axis"),
    "four channels": (lambda x: x[..., [0, 1, 2, 2]], {}, "blend or drop a fourth channel"),
    "integers": (lambda x: x.astype(int), {}, "^generator: type int64; give uint8"),
    "Booleans": (lambda x: x > 9, {}, "^generator: type bool is no image"),
    "[-1, 1]": (lambda x: x / 127.5 - 1, {}, r"^generator: row 0 of 40 holds.*value_range=\(-1, 1\)"),
    "not finite": (lambda x: np.full(x.shape, np.nan), {"value_range": (-1, 1)}, "holds nan.*must be finite"),
    "bits": (lambda x: (x > 99).astype(np.uint8), {}, "nearly black"),
    "range": (lambda x: x, {"value_range": (1, 1)}, r"^value_range=\(1, 1\) must be"),
    "sparse": (lambda x: channels_first(x).to_sparse(), {}, "^generator is sparse.*to_dense"),
    "meta": (lambda x: channels_first(x).to("meta"), {}, "^generator is on the meta device"),
    "sizes": (lambda x: [x[0], x[0, :4]], {}, r"^generator, after 1 images: they have the shape \[4, 8, 3\]"),
    "picture sizes": (
        lambda x: iter([[Image.new("L", (4, 4)), Image.new("L", (4, 5))]]), {}, "4 x 4 pixels, another 4 x 5; resize"
    ),
    "one picture": (lambda x: Image.fromarray(x[0]), {}, "^generator is one picture; give a list"),
    "names": (lambda x: iter([{"a": x}]), {}, "^generator gives mappings with a; call the images `image`"),
    "no latent": (lambda x: Bad(), {}, r"^generator is a module \(Bad\) and latent=None.*latent=64"),
    "latent": (lambda x: Bad(), {"latent": (0, 3)}, r"latent=\(0, 3\) is no size"),
    "no images": (lambda x: Bad(), {"latent": 3}, r"^generator: Bad returns \[8, 3\] and not a tensor"),
    "class": (lambda x: Bad, {}, r"^generator is the class Bad; make an object of it, Bad\(...\)"),
    "function that yields": (lambda x: yields, {}, r"call it, yields\(\)"),
    "too few": (lambda x: lambda seeds: x[:1], {}, "made 1 images of 8 seeds; it must make one of each"),
    "all of a function": (lambda x: lambda seeds: x[:1], {"n": "all"}, "^n=all: this generator makes its samples"),
    "type": (lambda x: object(), {}, "^generator is of type object; give"),
    "more": (lambda x: x, {"n": 41}, "^n=41: there are 40 generated samples and no more"),
    "name": (lambda x: "vea", {}, "^.?generator: unknown generator 'vea'; did you mean vae"),
    "path": (lambda x: "no/where", {}, "^generator 'no/where' is neither a known name nor a path that exists"),
    "held out": (lambda x: "held_out", {}, "^generator: held_out opens the data set again"),
    "option": (lambda x: "vae(temperature)", {}, r"cannot be read; write it as name\(option=value"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_argument_and_the_fix(case: str, pair: Pair) -> None:
    make, options, message = BAD[case]
    with pytest.raises((ValueError, LookupError, FileNotFoundError), match=message) as caught:
        evaluate(NUMBER, make(pair.fake), pair.real, **options)
    assert "\n" not in str(caught.value)
    if case not in ("no latent", "latent", "no images", "class", "function that yields", "too few", "all of a function",
                    "[-1, 1]", "not finite", "range", "more", "name", "held out", "option", "type"):  # fmt: skip
        with pytest.raises((ValueError, LookupError, FileNotFoundError)) as of_data:
            evaluate(NUMBER, pair.fake, make(pair.fake))
        assert str(of_data.value).startswith("dataset")


def test_errors_of_metrics_and_choices(pair: Pair) -> None:
    for metric, message in (
        ("precison", "unknown metric 'precison'; did you mean precision"),
        (None, "metric=None is no metric"),
        ([], "metric is an empty list"),
        (["precision", "recall"], "unknown option, which none of the metrics has: 'q'"),
        ("precision(k=", r"metric 'precision\(k=' cannot be read"),
    ):
        with pytest.raises((ValueError, LookupError), match=message):
            evaluate(metric, pair.fake, pair.real, q=1)  # type: ignore[call-overload]
    for options, message in (
        ({}, "give either k, a number of samples, or share"),
        ({"k": 1, "share": 0.1}, "give either k"),
        ({"k": 41}, "k=41 must be a whole number of samples, from 1 to n=40"),
        ({"share": 1.5}, r"share=1.5 must be above 0 and at most 1"),
    ):
        with pytest.raises(ValueError, match=message):
            select(pair.fake, "realism", real=pair.real, **options)
    for score, message in (
        ("precision", "'precision' is no per-sample score"),
        (["realism", "rarity"], "names 2 metrics; name one"),
        ("random_score", "random_score has no direction"),
        ("latent_density", "cannot be computed: replayed samples have no latent codes"),
    ):
        with pytest.raises(ValueError, match=message):
            select(pair.fake, score, 2, real=pair.real)
    with pytest.raises(ValueError, match=r"^b is None"):
        compare(pair.fake, None, pair.real)
