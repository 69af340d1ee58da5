"""Subsets of stored sets: drawn by the seed from all samples, the same whoever makes them, and told as they are."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.subsets import Subset, in_words, taken
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Samples, Split, View

Open = Callable[..., Views]
REAL = View("real", "features")
FAKE = View("fake", "images")


class Stored:
    """Sixty samples, sorted: sample i is an image of the grey value i; noted is every number that was decoded."""

    spaces: Sequence[str] = ("sample",)
    fingerprint, total = "sixty", 60

    def __init__(self) -> None:
        self.noted: list[int] = []

    def latents(self, seeds: Sequence[int], space: str = "sample") -> Tensor:
        assert all(0 <= seed < 60 for seed in seeds)
        return torch.tensor(list(seeds), dtype=torch.float64)[:, None]

    def decode(self, latents: Tensor, space: str = "sample") -> Tensor:
        self.noted += [int(number) for number in latents[:, 0]]
        return (latents[:, :1, None, None] / 255).float().expand(-1, 1, 2, 2)


class Sorted:
    """A data set of 60 dark images, then 60 bright ones; each is a grey value of its own, 0..59 and 180..239."""

    name, fingerprint, classes = "sorted", "dark, then bright", ("dark", "bright")

    def count(self, split: Split) -> int:
        return {"train": 120, "test": 0}[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        assert 0 <= start < stop <= 120
        number = torch.arange(start, stop)
        grey = torch.where(number < 60, number, number + 120)
        return Samples(grey.byte()[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), (number >= 60).long())


def greys(images: Tensor) -> list[int]:
    return [round(float(image.mean()) * 255) for image in images]


@pytest.fixture
def stored(open_views: Open) -> Views:
    """Views of the sixty stored samples beside the sorted data set."""
    views = open_views(Stored())
    return Views(Sorted(), views.generator, "doubled", views.store, views.device)


def test_a_subset_has_no_sample_twice_and_ascends() -> None:
    numbers = Subset("real", 1000, 300, 7).numbers
    assert len(set(numbers.tolist())) == 300
    assert (np.diff(numbers) > 0).all()
    assert numbers[0] >= 0
    assert numbers[-1] < 1000


def test_every_sample_has_the_same_chance() -> None:
    """Each of 40 samples is among 10 drawn in a quarter of 4,000 seeds; beyond 5 errors once in 40,000."""
    counts = np.zeros(40)
    for seed in range(4000):
        counts[Subset("real", 40, 10, seed).numbers] += 1
    assert np.abs(counts / 4000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_subsets_of_one_seed_nest_and_later_places_are_others() -> None:
    few, more, later = Subset("real", 500, 100, 3), Subset("real", 500, 200, 3), Subset("real", 500, 100, 3, first=100)
    assert set(few.numbers) | set(later.numbers) == set(more.numbers)
    assert not set(few.numbers) & set(later.numbers)


def test_two_sources_of_one_size_are_not_paired() -> None:
    """Of two independent halves of 1,000, half are shared: beyond 5 standard deviations (7.9) once in a million."""
    fake, real = (set(Subset(source, 1000, 500, 0).numbers) for source in ("fake", "real"))
    assert abs(len(fake & real) - 250) < 40


def test_a_subset_is_told_with_its_rule() -> None:
    assert in_words(Subset("real", 60000, 5000, 2).counts) == "found 60,000, used 5,000, drawn with seed 2"
    assert in_words(Subset("real", 700, 700, 2).counts) == "found 700, used 700"
    assert in_words({"made": 5000}) == "made 5,000"


def test_reals_beside_fewer_generated_samples_come_from_all_classes(stored: Views) -> None:
    """The first 60 are dark. Of 60 drawn from 120, fewer than 15 or more than 45 are bright in 1 of 10^8 seeds."""
    labels = stored.tensor(View("real", "labels"), 0, 60)
    assert len(labels) == 60
    assert 15 <= int(labels.sum()) <= 45


def test_a_number_of_reals_is_drawn_too(stored: Views) -> None:
    """n_real, and metrics that read a fixed number."""
    ten = stored.tensor(View("real", "images", n=10), 0, 60)
    assert greys(ten) == [number if number < 60 else number + 120 for number in Subset("real", 120, 10, 0).numbers]


def test_the_seed_draws_and_the_whole_set_knows_none(stored: Views) -> None:
    assert stored.digest(REAL, 0, 50) != stored.digest(REAL, 1, 50)
    assert stored.digest(REAL, 0, 120) == stored.digest(REAL, 1, 120) == stored.digest(REAL, 5, 9999)
    assert stored.digest(FAKE, 0, 60) == stored.digest(FAKE, 9, 60)
    assert stored.digest(FAKE, 0, 59) != stored.digest(FAKE, 9, 59)


def test_stored_samples_are_drawn_and_seeds_tell_which(stored: Views) -> None:
    drawn = Subset("fake", 60, 20, 4).numbers.tolist()
    assert greys(stored.tensor(FAKE, 4, 20)) == drawn
    assert stored.seeds(4, 20) == drawn
    assert stored.seeds(4, 60) == list(range(60))
    assert drawn != list(range(20))


def test_samples_that_are_made_have_seeds_of_their_repeat(open_views: Open, plain: Any) -> None:
    assert open_views(plain).seeds(3, 5) == [3 * 2**32 + i for i in range(5)]
    assert open_views(plain).samples(FAKE, 3, 5) == {"made": 5}


def test_more_than_there_are_is_refused_with_the_way_out(stored: Views) -> None:
    with pytest.raises(ValueError, match="n=61: there are 60 generated samples and no more; leave n out"):
        stored.tensor(FAKE, 0, 61)


def test_what_is_told_is_what_is_read(stored: Views) -> None:
    for view, n in ((REAL, 60), (REAL, 500), (FAKE, 60), (FAKE, 7), (View("real", "labels", n="all"), 3)):
        counts = stored.samples(view, 1, n)
        assert counts["used"] == len(stored.tensor(view, 1, n))
        assert counts["found"] == (60 if view.source == "fake" else 120)
        assert ("seed" in counts) == (counts["used"] < counts["found"])
    assert stored.used == {
        "real": dict.fromkeys(
            [
                "found 120, used 60, drawn with seed 1",
                "found 120, used 120, fewer than the 500 generated",
                "found 120, used 120",
            ]
        ),
        "generated": dict.fromkeys(["found 60, used 60", "found 60, used 7, drawn with seed 1"]),
    }


def test_rows_of_the_whole_set_are_taken_over(open_views: Open) -> None:
    """Neither the network nor the data set is asked again where the store has all that a subset needs."""
    views = open_views()
    whole = views.tensor(View("real", "features", n="all"), 0, 30)
    views.data.take = None  # type: ignore[method-assign,assignment]
    numbers = Subset("real", 2600, 1500, 3).numbers
    assert torch.equal(views.tensor(REAL, 3, 1500), whole[numbers])


def test_rows_that_are_made_alone_are_those_of_the_whole_set(
    open_views: Open, with_encoder: Any, tmp_path: Path
) -> None:
    """In every space, the noise of sampled codes included."""
    views = open_views(with_encoder)
    drawn = {
        how: views.tensor(View("real", space, encode=how), 2, 1100)
        for space, how in (("latent", "mean"), ("latent", "sample"))
    }
    numbers = Subset("real", 2600, 1100, 2).numbers
    for how, rows in drawn.items():
        assert torch.equal(rows, views.tensor(View("real", "latent", n="all", encode=how), 2, 9)[numbers])  # type: ignore[arg-type]


def test_pictures_of_stored_samples_are_drawn_and_of_made_ones_the_first(stored: Views, open_views: Open) -> None:
    assert stored.shown("fake", 0, 60, 12) != list(range(12))
    assert len(set(stored.shown("fake", 0, 60, 12))) == 12
    assert stored.shown("fake", 0, 10, 12) == list(range(10))
    assert open_views().shown("fake", 0, 60, 12) == list(range(12))


def test_samples_are_taken_in_stretches() -> None:
    asked: list[tuple[int, int]] = []

    class Noted(Sorted):
        def take(self, split: Split, start: int, stop: int) -> Samples:
            asked.append((start, stop))
            return super().take(split, start, stop)

    found = taken(Noted(), "train", np.array([3, 4, 5, 60, 118, 119]))
    assert asked == [(3, 6), (60, 61), (118, 120)]
    assert torch.cat([part.images[:, 0, 0, 0] for part in found]).tolist() == [3, 4, 5, 180, 238, 239]


def test_no_held_out_samples_names_the_option_that_makes_some(stored: Views) -> None:
    with pytest.raises(ValueError, match=r"data set .sorted. has no held-out samples.*choose one with dataset=NAME"):
        stored.tensor(View("holdout", "features"), 0, 5)
    stored.data.name = "folder"
    with pytest.raises(ValueError, match=r"hold some back with dataset\.folder\.holdout=0\.1"):
        stored.tensor(View("holdout", "features"), 0, 5)
