"""Views: arrays made in shards, once, the same whoever asks and however many are asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.harness.protocols import View
from assay.harness.views import Views

IMAGES, LATENT, FEATURES = View("fake", "images"), View("fake", "latent"), View("fake", "features")
Open = Callable[..., Views]


def test_more_samples_are_the_same_samples_and_some(open_views: Open, plain: Any) -> None:
    few = open_views(plain).tensor(IMAGES, 0, 1500)
    assert sum(plain.decoded) == 1500
    more = open_views(plain).tensor(IMAGES, 0, 2500)
    assert torch.equal(more[:1500], few)
    assert sum(plain.decoded) == 1500 + 1500, "the first thousand is shared, the half shard is not"
    assert max(plain.decoded) <= 250


def test_latents_depend_on_their_own_seed_alone(open_views: Open, plain: Any) -> None:
    parts = [plain.latents([0, 1], "z"), plain.latents([2, 3], "z")]
    assert torch.equal(open_views(plain).tensor(LATENT, 0, 4), torch.cat(parts))


def test_a_named_space_is_that_space_and_no_name_is_the_first(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    z, w = views.tensor(LATENT, 0, 10), views.tensor(View("fake", "latent:w"), 0, 10)
    assert torch.equal(w, 2 * z)
    assert views.digest(LATENT, 0, 10) == views.digest(View("fake", "latent:z"), 0, 10)


def test_repeats_share_no_seed(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    seeds = []
    for repeat in (0, 1, 7):
        plain.asked.clear()
        views.tensor(LATENT, repeat, 1200)
        seeds.append(set(plain.asked))
    assert [len(asked) for asked in seeds] == [1200, 1200, 1200]
    assert len(set.union(*seeds)) == 3600


def test_images_are_clamped_and_8_bits_deep(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    raw = plain.decode(views.tensor(LATENT, 0, 100), "z")
    assert float(raw.min()) < 0
    assert float(raw.max()) > 1
    stored = (raw.clamp(0, 1) * 255).round()
    assert torch.equal(views.tensor(IMAGES, 0, 100), stored / 255)
    assert torch.equal(views.images("fake", 0, 100, [5, 99]), stored[[5, 99]].byte())


def test_generated_and_real_images_take_the_same_way_to_features(open_views: Open) -> None:
    views = open_views()
    assert torch.equal(views.tensor(FEATURES, 0, 100), 2 * views.tensor(IMAGES, 0, 100).flatten(1))
    real = views.tensor(View("real", "features"), 0, 100)
    assert torch.equal(real, (2 * torch.arange(100)[:, None].float() / 255).expand(-1, 4))


@pytest.mark.parametrize(("n", "expected"), [("same", 30), ("all", 2600), (7, 7), (9999, 2600)])
def test_how_many_real_samples(open_views: Open, n: Any, expected: int) -> None:
    assert len(open_views().tensor(View("real", "features", n=n), 0, 30)) == expected


def test_held_out_samples_are_the_test_split_and_no_more(open_views: Open) -> None:
    assert len(open_views().tensor(View("holdout", "features"), 0, 1500)) == 40


def test_real_samples_do_not_depend_on_the_repeat(open_views: Open) -> None:
    views, real = open_views(), View("real", "features", n="all")
    assert views.digest(real, 0, 10) == views.digest(real, 5, 2000)


def test_labels_are_those_of_the_data_and_generated_samples_have_none(open_views: Open) -> None:
    views = open_views()
    assert torch.equal(views.tensor(View("real", "labels"), 0, 1500), torch.arange(1500) % 3)
    with pytest.raises(ValueError, match="no labels"):
        views.tensor(View("fake", "labels"), 0, 10)


def test_codes_of_real_samples(open_views: Open, with_encoder: Any) -> None:
    views = open_views(with_encoder)
    mean, sample, logvar = (
        views.tensor(View("real", "latent", encode=how), 0, 1500) for how in ("mean", "sample", "logvar")
    )
    assert torch.equal(mean[:256], (2 * torch.arange(256)[:, None].float() / 255 - 1).expand(-1, 4))
    assert (logvar == -2).all()
    residual = (sample - mean) * torch.e
    # 6000 standard normal numbers: their variance leaves 1 ± 0.08 once in 10,000 seeds; the seeds are fixed.
    assert abs(float(residual.var()) - 1) < 0.08
    assert len(torch.unique(residual[:, 0])) > 1400, "each sample has noise of its own"
    longer = open_views(with_encoder).tensor(View("real", "latent", encode="sample"), 0, 2500)
    assert torch.equal(longer[:1500], sample)


def test_posterior_noise_is_not_that_of_generated_samples(open_views: Open, with_encoder: Any) -> None:
    views = open_views(with_encoder)
    mean, sample = (views.tensor(View("real", "latent", encode=how), 0, 500) for how in ("mean", "sample"))
    noise, generated = (sample - mean) * torch.e, views.tensor(LATENT, 0, 500)
    # Independent columns of 500: |r| > 0.2 once in 100,000; the same seeds would give r = 1.
    assert abs(float(torch.corrcoef(torch.stack([noise[:, 0], generated[:, 0]]))[0, 1])) < 0.2


def test_an_unknown_space_is_told_the_known_ones(open_views: Open) -> None:
    with pytest.raises(ValueError, match=r"unknown latent space 'ww'; did you mean w\? Known: z, w"):
        open_views().tensor(View("fake", "latent:ww"), 0, 10)
    with pytest.raises(LookupError, match=r"unknown extractor 'doubledd'; did you mean doubled"):
        open_views().tensor(View("fake", "doubledd"), 0, 10)


def test_a_generator_without_encoder_has_no_codes_of_real_samples(open_views: Open) -> None:
    with pytest.raises(ValueError, match=r"no encoder.*through="):
        open_views().tensor(View("real", "latent"), 0, 10)


def test_a_digest_makes_nothing_and_tells_all_apart(open_views: Open, with_encoder: Any, tmp_path: Path) -> None:
    views = open_views(with_encoder)
    digests = [
        views.digest(view, seed, n)
        for view in (IMAGES, LATENT, FEATURES, View("real", "latent"), View("real", "latent", encode="sample"))
        for seed, n in ((0, 10), (0, 11))
    ]
    digests += [views.digest(IMAGES, 1, 10), views.digest(View("holdout", "features"), 0, 10)]
    assert len(set(digests)) == len(digests)
    assert views.digest(IMAGES, 0, 10) == open_views(with_encoder).digest(IMAGES, 0, 10)
    assert not (tmp_path / "store").exists()


def test_another_generator_has_other_digests(open_views: Open, plain: Any, with_encoder: Any) -> None:
    assert open_views(plain).digest(IMAGES, 0, 10) != open_views(with_encoder).digest(IMAGES, 0, 10)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")], ids=["missing", "damaged"])
def test_only_the_bad_shard_is_made_again(open_views: Open, plain: Any, tmp_path: Path, damage: Any) -> None:
    open_views(plain).tensor(IMAGES, 0, 2500)
    shards = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.npy")}
    assert len(shards) == 3
    written = {path: path.stat().st_mtime_ns for path in shards}
    full = [path for path, content in shards.items() if len(content) > 3000]
    damage(full[0])
    plain.decoded.clear()
    open_views(plain).complete(IMAGES, 0, 2500)
    assert sum(plain.decoded) == 1000
    assert {path: path.read_bytes() for path in shards} == shards
    assert {path for path in shards if path.stat().st_mtime_ns != written[path]} == {full[0]}


def test_recoded_samples_are_their_stored_images_through_the_encoder(open_views: Open, with_encoder: Any) -> None:
    """The encoder inverts `decode` but for clamping and rounding to 8 bits, as stored images have it."""
    views = open_views(with_encoder)
    z, recoded = (views.tensor(View("fake", through), 0, 30) for through in ("latent", "recoded"))
    stored = ((z / 2 + 0.5).clamp(0, 1) * 255).round() / 255
    torch.testing.assert_close(recoded, 2 * (stored - 0.5))


def test_recoding_needs_an_encoder(open_views: Open, plain: Any) -> None:
    with pytest.raises(ValueError, match="no encoder"):
        open_views(plain).tensor(View("fake", "recoded"), 0, 4)
