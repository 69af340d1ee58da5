"""Views: arrays made in shards, once, the same whoever asks and however many are asked for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.harness.arrays import spaces
from assay.harness.arrays.inversion import invert
from assay.harness.arrays.shards import whole_shards
from assay.harness.arrays.subsets import Subset
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import View

IMAGES, LATENT, FEATURES = View("fake", "images"), View("fake", "latent"), View("fake", "features")
SIZE_ASKED = 1
"""Images decoded once by each Views to learn how large they are."""
Open = Callable[..., Views]


def test_more_samples_are_the_same_samples_and_some(open_views: Open, plain: Any) -> None:
    few = open_views(plain).tensor(IMAGES, 0, 1500)
    assert sum(plain.decoded) == 1500 + SIZE_ASKED
    more = open_views(plain).tensor(IMAGES, 0, 2500)
    assert torch.equal(more[:1500], few)
    again = 1500 + SIZE_ASKED
    assert sum(plain.decoded) == 1500 + SIZE_ASKED + again, "the first thousand is shared, the half shard is not"
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
    real = views.tensor(View("real", "features", n="all"), 0, 100)
    assert torch.equal(real[:100], (2 * torch.arange(100)[:, None].float() / 255).expand(-1, 4))


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
    assert torch.equal(views.tensor(View("real", "labels", n="all"), 0, 1500), torch.arange(2600) % 3)
    with pytest.raises(ValueError, match="no labels"):
        views.tensor(View("fake", "labels"), 0, 10)


def test_codes_of_real_samples(open_views: Open, with_encoder: Any) -> None:
    views = open_views(with_encoder)
    mean, sample, logvar = (
        views.tensor(View("real", "latent", n="all", encode=how), 0, 1500) for how in ("mean", "sample", "logvar")
    )
    assert torch.equal(mean[:256], (2 * torch.arange(256)[:, None].float() / 255 - 1).expand(-1, 4))
    assert (logvar == -2).all()
    residual = (sample - mean) * torch.e
    # 6000 standard normal numbers: their variance leaves 1 ± 0.08 once in 10,000 seeds; the seeds are fixed.
    assert abs(float(residual.var()) - 1) < 0.08
    assert len(torch.unique(residual[:, 0])) > 2500, "each sample has noise of its own"


def test_an_encoder_that_gives_posteriors_sees_each_real_image_once(open_views: Open, with_encoder: Any) -> None:
    """Whatever codes are asked for, and of whichever of the generators that share it; the codes are those of encode."""
    seen: list[int] = []

    class Posterior(type(with_encoder)):  # type: ignore[misc]
        encoder_fingerprint = "posterior"

        def posterior(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images

        def codes(self, posterior: torch.Tensor, how: Any, seeds: Any) -> torch.Tensor:
            codes: torch.Tensor = self.encode(posterior, how, seeds)
            return codes

    for generator in (Posterior(), Posterior()):
        for how in ("mean", "sample", "logvar"):
            view = View("real", "latent", n=1500, encode=how)
            expected = open_views(with_encoder).tensor(view, 0, 20)
            assert torch.equal(open_views(generator).tensor(view, 0, 20), expected)
            assert open_views(generator).digest(view, 0, 20) != open_views(with_encoder).digest(view, 0, 20)
    assert sum(seen) == 1500


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
    with pytest.raises(ValueError, match=r"no encoder.*space="):
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
    assert sum(plain.decoded) == 1000 + SIZE_ASKED
    assert {path: path.read_bytes() for path in shards} == shards
    assert {path for path in shards if path.stat().st_mtime_ns != written[path]} == {full[0]}


def test_reencoded_samples_are_the_codes_of_their_stored_images(open_views: Open, with_encoder: Any) -> None:
    """The encoder inverts `decode` but for clamping and rounding to 8 bits, as stored images have it."""
    views = open_views(with_encoder)
    z, reencoded = (views.tensor(View("fake", space), 0, 30) for space in ("latent", "reencoded"))
    stored = ((z / 2 + 0.5).clamp(0, 1) * 255).round() / 255
    torch.testing.assert_close(reencoded, 2 * (stored - 0.5))


def test_reencoding_needs_an_encoder(open_views: Open, plain: Any) -> None:
    with pytest.raises(ValueError, match="no encoder"):
        open_views(plain).tensor(View("fake", "reencoded"), 0, 4)


# Reference codes without an encoder


def test_codes_of_the_prior_are_fresh_draws(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    prior = views.tensor(View("real", "latent:w", n="all", encode="prior"), 0, 30)
    fake = views.tensor(View("fake", "latent:w"), 0, 30)
    assert prior.shape == (50_000, 4)
    assert not (prior[:1000, None] == fake).all(2).any()
    assert abs(float(prior.std()) - 2) < 0.02  # w = 2z; 200,000 normals: five standard errors are 0.016
    same = views.tensor(View("real", "latent:w", encode="prior"), 7, 30)
    assert torch.equal(same, prior[:30]), "the reference does not change with the repeat"


def test_inversion_finds_the_codes_of_images_the_generator_made(open_views: Open, plain: Any) -> None:
    """`decode` is linear and one to one, so the optimum is the code itself."""
    wanted = plain.latents(range(8), "w")
    found = invert(plain, plain.decode(wanted, "w"), "w")
    assert torch.allclose(found, wanted, atol=0.02)
    one = invert(plain, plain.decode(wanted[3:4], "w"), "w")
    assert torch.allclose(one[0], found[3], atol=1e-5), "an image is optimised for itself"


def test_inverted_codes_leave_the_residual_they_say(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    codes = views.tensor(View("holdout", "latent:w", encode="inversion"), 0, 60)
    images = views.tensor(View("holdout", "images"), 0, 60)
    residual = views.tensor(View("holdout", "residual:w", encode="inversion"), 0, 60)
    assert len(codes) == 40, "all that are held out"
    assert torch.allclose(residual[:, 0], (plain.decode(codes, "w") - images).square().mean((1, 2, 3)))
    assert float(residual.max()) < 1e-3


def test_a_generator_of_other_images_cannot_be_inverted(plain: Any) -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 2\), these are \(3, 2, 2\)"):
        invert(plain, torch.rand(2, 3, 2, 2), "w")


def test_a_residual_is_that_of_an_image(open_views: Open, with_encoder: Any, plain: Any) -> None:
    views = open_views(with_encoder)
    for view in (View("fake", "residual", encode="inversion"), View("real", "residual", encode="prior")):
        with pytest.raises(ValueError, match="that of an image"):
            views.tensor(view, 0, 5)
    with pytest.raises(ValueError, match="no encoder"):
        open_views(plain).tensor(View("fake", "residual"), 0, 5)
    assert float(views.tensor(View("real", "residual"), 0, 5).max()) < 1e-10
    assert float(views.tensor(View("fake", "residual"), 0, 5).max()) < 1e-10
    with_encoder.encode = lambda images, how, seeds: 0 * images.flatten(1)  # then all become grey
    found = open_views(with_encoder).tensor(View("fake", "residual"), 0, 7)
    expected = (open_views(with_encoder).tensor(View("fake", "images"), 0, 7) - 0.5).square().mean((1, 2, 3))
    assert torch.allclose(found[:, 0], expected)


# What comes with a generator


def test_a_discriminator_sees_stored_images(open_views: Open, plain: Any) -> None:
    with pytest.raises(ValueError, match="without a discriminator"):
        open_views(plain).tensor(View("fake", "discriminator"), 0, 5)
    plain.discriminate = lambda images: images.sum((1, 2, 3))
    views = open_views(plain)
    logits = views.tensor(View("fake", "discriminator"), 0, 5)
    assert torch.allclose(logits[:, 0], views.tensor(IMAGES, 0, 5).sum((1, 2, 3)))


def test_large_images_are_decoded_a_few_at_a_time(open_views: Open, plain: Any) -> None:
    asked: list[int] = []

    def decode(latents: torch.Tensor, space: str) -> torch.Tensor:
        asked.append(len(latents))
        return latents[:, :1, None, None].expand(-1, 1, 512, 512)

    plain.decode = decode
    assert open_views(plain).tensor(IMAGES, 0, 10).shape == (10, 1, 512, 512)
    assert asked == [1, 4, 4, 2]


def test_a_view_tells_how_its_extractor_sees(open_views: Open, plain: Any) -> None:
    views = open_views(plain)
    assert views.preprocessing(View("real", "pixels")).startswith("pixels: ")
    assert [views.preprocessing(view) for view in (IMAGES, LATENT)] == ["", ""]


def test_pictures_of_volumes_are_their_shaded_surfaces(open_views: Open, plain: Any) -> None:
    def ball(latents: torch.Tensor, space: str) -> torch.Tensor:
        axis = torch.linspace(-1, 1, 16)
        distance = torch.cartesian_prod(axis, axis, axis).norm(dim=1).reshape(1, 1, 16, 16, 16) - 0.6
        return (0.5 - distance / (8 / 15)).expand(len(latents), -1, -1, -1, -1)

    plain.decode = ball
    picture = open_views(plain).images("fake", 0, 2, [1])
    assert picture.shape == (1, 1, 128, 128)
    assert picture.dtype == torch.uint8
    assert picture[0, 0, 0, 0] == 255, "white behind"
    assert picture[0, 0, 64, 64] < 255


def test_given_latents_lead_to_what_views_hold_of_the_same(open_views: Open, with_encoder: Any) -> None:
    with_encoder.encode = lambda images, how, seeds: images.flatten(1) / 2  # so that residuals are not 0
    views = open_views(with_encoder)
    z = views.tensor(LATENT, 0, 300)
    for space in ("images", "features", "reencoded", "residual", "residual:z", "latent", "latent:z", "pixels"):
        torch.testing.assert_close(views.of_latents(z, "z", space), views.tensor(View("fake", space), 0, 300))
    torch.testing.assert_close(views.of_latents(z[7:9], "z", "features"), views.tensor(FEATURES, 0, 300)[7:9])
    images = views.tensor(IMAGES, 0, 300).flatten(1)
    expected = (images / 4 + 0.5 - images).square().mean(1, keepdim=True)
    torch.testing.assert_close(views.of_latents(z, "z", "residual"), expected)


def test_given_latents_have_no_codes_elsewhere(open_views: Open, with_encoder: Any, plain: Any) -> None:
    views, z = open_views(with_encoder), with_encoder.latents(range(3), "z")
    with pytest.raises(ValueError, match="these samples have codes in 'z' alone; 'latent:w' asks for others"):
        views.of_latents(z, "z", "latent:w")
    with pytest.raises(ValueError, match="without a discriminator"):
        views.of_latents(z, "z", "discriminator")
    with pytest.raises(ValueError, match="no labels"):
        views.of_latents(z, "z", "labels")
    with pytest.raises(ValueError, match="no encoder"):
        open_views(plain).of_latents(z, "z", "residual")


def test_inverted_codes_are_optimised_once(open_views: Open, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(generator: Any, images: torch.Tensor, space: str) -> torch.Tensor:
        calls.append(len(images))
        return images.flatten(1)

    monkeypatch.setattr(spaces, "invert", counted)
    views = open_views(plain)
    views.tensor(View("holdout", "residual:w", encode="inversion"), 0, 40)
    views.tensor(View("holdout", "latent:w", encode="inversion"), 0, 40)
    assert calls == [40]


def test_importing_views_opens_neither_figures_nor_meshes() -> None:
    code = "import sys; from assay.harness.arrays import views; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "assay.harness.arrays.views" in loaded
    assert not {"matplotlib", "open3d", "pandas"} & loaded


def test_shards_that_are_missing_come_with_their_images_first_and_are_made_one_by_one(open_views: Open) -> None:
    views, view = open_views(), View("fake", "features")
    missing = views.missing(view, 0, 2500)
    told = [(one.space, key.space, key.start, key.stop) for one, key in missing]
    ranges = [(0, 1000), (1000, 2000), (2000, 2500)]
    assert told == [("images", "images", *range) for range in ranges] + [
        ("features", "doubled", *range) for range in ranges
    ]
    views.fill(*missing[4])
    left = [(key.space, key.start) for _, key in views.missing(view, 0, 2500)]
    assert left == [("images", 0), ("images", 2000), ("doubled", 0), ("doubled", 2000)]
    views.complete(view, 0, 2500)
    assert views.missing(view, 0, 2500) == []
    assert views.missing(View("real", "features", n="moments"), 0, 10) == []


def test_rows_of_a_subset_lie_in_shards_of_the_whole_set(open_views: Open) -> None:
    views, view = open_views(), View("real", "features")
    ((_, key),) = views.missing_of(view, Subset("real", 2600, 5, 3))
    shards = whole_shards(key)
    assert {int(number) // 1000 * 1000 for number in key.numbers} == {shard.start for shard in shards}
    assert all(shard.drawn is None for shard in shards)
    whole = [key for _, key in views.missing_of(view, Subset("real", 2600, 2600, 3))]
    assert set(shards) <= set(whole)
    assert whole_shards(whole[0]) == []
