"""On how many trained networks a finding rests."""

import pytest

from assay.harness.core.registry import discover
from assay.harness.report.networks import networks, on_networks


@pytest.fixture(scope="module", autouse=True)
def discovered() -> None:
    discover()


def test_options_other_than_the_file_make_no_other_network() -> None:
    pairs = [
        ("vae", "mnist"), ("vae(temperature=0.7)", "mnist"), ("vae(path=b.pt#12345678, temperature=2)", "mnist"),
        ("vae", "digits"), ("held_out", "mnist"), ("replay(path=samples.npy#1)", "mnist"), ("replay(path=x)", "mnist"),
    ]  # fmt: skip
    assert networks(pairs) == {("vae", "mnist"): 2, ("vae", "digits"): 1}


def test_the_sentence_is_that_of_the_number() -> None:
    limits = "intervals hold for other samples, not for another training."
    assert on_networks([("vae", "mnist")]) == f"On this trained network (vae on mnist): {limits}"
    assert on_networks([("vae", "mnist"), ("stylegan2", "mnist")]) == (
        f"On these trained networks, one each (vae on mnist; stylegan2 on mnist): {limits}"
    )
    two = [("vae(path=a#1)", "mnist"), ("vae(path=b#2)", "mnist")]
    assert on_networks(two) == "On 2 trained networks of vae on mnist."
    assert on_networks([("held_out", "mnist"), ("faulty", "digits")]) == ""
