"""Lists of networks: what is missing is trained, what is there stays, what fails is named, each can be evaluated."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.generators import latent_diffusion
from assay.harness.arrays.opened import open_generator
from assay.harness.arrays.records import read_records
from assay.harness.cli import main
from assay.harness.command import networks as module
from assay.harness.command.networks import each_network, networks_of, train_networks
from assay.harness.core.files import sha256_of
from assay.harness.core.registry import DATASETS, GENERATORS, discover
from assay.harness.formats.weights import find_weights
from assay.harness.report.behind import command
from assay.harness.report.networks import networks, training

discover()
LISTED = Path(module.__file__).parents[2] / "configs" / "networks" / "latent_density.yaml"
TINY: dict[str, Any] = {
    "name": "tiny",
    "families": None,
    "datasets": None,
    "seeds": None,
    "trainings": [
        {"trainer": "vae", "dataset": "digits", "seeds": [1, 2], "cpu_minutes": 0.5,
         "options": {"latent_dim": 4, "epochs": 1}},
        {"trainer": "latent_diffusion", "dataset": "digits", "seeds": [1], "cpu_minutes": 2,
         "options": {"epochs": 1, "width": 8, "depth": 1}, "uses": {"vae": "vae"}},
    ],
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def trained(**changes: Any) -> int:
    return train_networks({"networks": TINY | changes, "device": "cpu", "sink": {}}, ["train"])


def table(cache: Path) -> list[dict[str, str]]:
    return read(cache / "networks" / "tiny" / "networks.csv")


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_all_are_trained_once_and_their_table_tells_what_the_cards_tell(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained() == 0
    told = capsys.readouterr().err
    assert "tiny: 0 of 3 networks are there" in told
    assert "1/3 vae on digits, training seed 1: about 0.5 CPU minutes of 3 that are left" in told
    files = sorted((cache / "networks" / "tiny").glob("*.safetensors"))
    assert [file.stem for file in files] == ["latent_diffusion-digits-seed1", "vae-digits-seed1", "vae-digits-seed2"]
    before = {file: (file.read_bytes(), file.with_suffix(".json").read_bytes()) for file in files}
    rows = table(cache)
    for row in rows:
        file = cache / "networks" / "tiny" / f"{row['family']}-{row['dataset']}-seed{row['seed']}.safetensors"
        card = json.loads(file.with_suffix(".json").read_text())
        assert row["status"] == "trained"
        assert (row["sha256"], int(row["parameters"])) == (sha256_of(file), card["parameters"])
        assert float(row["cpu_seconds"]) == card["cpu_seconds"] > 0
        assert set(card["test"]) == {key[5:] for key, value in row.items() if key[:5] == "test_" and value}
    assert rows[0]["test_frechet"] != "" == rows[1]["test_frechet"], "a figure of latent diffusion alone"
    assert trained() == 0
    assert "3 of 3 networks are there" in capsys.readouterr().err
    assert before == {file: (file.read_bytes(), file.with_suffix(".json").read_bytes()) for file in files}
    files[1].write_bytes(b"damaged")
    assert trained() == 0
    assert files[1].read_bytes() == before[files[1]][0], "made again, and the same"


def test_latent_diffusion_learns_on_the_vae_of_its_seed(cache: Path) -> None:
    trained()
    card = json.loads(
        find_weights("generator", "latent_diffusion", "digits", "networks:tiny/seed1").with_suffix(".json").read_text()
    )
    vaes = [sha256_of(find_weights("generator", "vae", "digits", f"networks:tiny/seed{seed}")) for seed in (1, 2)]
    assert card["architecture"]["vae_sha256"] == vaes[0] != vaes[1]


def test_what_a_chosen_network_learns_on_is_trained_with_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(families=["latent_diffusion"]) == 0
    status = {(row["family"], row["seed"]): row["status"] for row in table(cache)}
    assert status == {("latent_diffusion", "1"): "trained", ("vae", "1"): "trained", ("vae", "2"): "missing"}
    assert "tiny: 0 of 2 networks are there" in capsys.readouterr().err


def test_the_table_keeps_what_an_earlier_choice_trained(cache: Path) -> None:
    assert (trained(seeds=[2]), trained(families=["latent_diffusion"])) == (0, 0)
    found = {(row["family"], row["seed"]): row["status"] for row in table(cache)}
    assert found == {("latent_diffusion", "1"): "trained", ("vae", "1"): "trained", ("vae", "2"): "trained"}
    assert trained(seeds=[2]) == 0, "nothing to do"
    assert {row["status"] for row in table(cache)} == {"trained"}


def test_a_failed_network_is_named_and_the_others_are_trained(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also latent diffusion that lacks the VAE which could not be trained."""
    from assay.harness import train as training_module

    whole = training_module.train

    def some(name: str, options: Any, data: Any, seed: int, *rest: Any, **more: Any) -> Path:
        if (name, seed) == ("vae", 1):
            raise RuntimeError("out of order")
        return whole(name, options, data, seed, *rest, **more)

    monkeypatch.setattr(training_module, "train", some)
    assert trained() == 2
    status = {(row["family"], row["seed"]): row["status"] for row in table(cache)}
    assert status["vae", "1"] == "failed: RuntimeError: out of order"
    assert status["latent_diffusion", "1"].startswith("failed: no weights of 'vae' for data set 'digits'")
    assert status["vae", "2"] == "trained"
    assert "failed: vae on digits, training seed 1: RuntimeError: out of order" in capsys.readouterr().err
    monkeypatch.undo()


def test_what_is_expected_is_what_other_seeds_took(cache: Path) -> None:
    every = networks_of(TINY)
    assert [module._expected(one, every) for one in every] == [30, 120, 30]
    trained(seeds=1)
    card = every[0].card()
    assert card
    assert module._expected(every[2], every) == card["cpu_seconds"]


def test_a_part_of_a_list_can_be_chosen_and_nothing_else() -> None:
    assert [one.title for one in networks_of(TINY | {"families": ["vae"], "seeds": [2]})] == [
        "vae on digits, training seed 2"
    ]
    with pytest.raises(ValueError, match=r"networks.seeds=7: tiny has 1, 2"):
        networks_of(TINY | {"seeds": [7]})
    with pytest.raises(ValueError, match="unknown option of trainer vae: 'epoch'; did you mean epochs"):
        networks_of(TINY | {"trainings": [TINY["trainings"][0] | {"options": {"epoch": 1}}]})
    with pytest.raises(ValueError, match="same family, data set and seed"):
        networks_of(TINY | {"trainings": [TINY["trainings"][0]] * 2})


def test_each_network_is_a_job_whose_records_name_list_and_training_seed(cache: Path) -> None:
    trained()
    jobs = each_network({"networks": TINY, "generator": {"vae": {}}, "dataset": {"mnist": {}}, "n": 5}, ["n=5"])
    opened = [open_generator("digits", job["generator"]) for job in jobs]
    assert [job["n"] for job in jobs] == [5, 5, 5]
    fewer = each_network({"networks": TINY | {"at_most": {"vae": 3}}, "n": None}, [])
    assert [job["n"] for job in fewer] == [3, None, 3]
    assert [(set(job), list(job["dataset"])) for job in jobs] == [({"generator", "dataset", "n"}, ["digits"])] * 3
    found = [training(one.name) for one in opened]
    assert [(one.family, one.listed, one.seed) for one in found if one] == [
        ("vae", "tiny", 1), ("latent_diffusion", "tiny", 1), ("vae", "tiny", 2)
    ]  # fmt: skip
    assert all(one and GENERATORS[one.family].function("digits", path=one.path) for one in found), "the way back"
    assert isinstance(opened[1].it, latent_diffusion.LatentDiffusion)
    assert networks([(one.name, "digits") for one in opened]) == {
        ("vae", "digits"): 2, ("latent_diffusion", "digits"): 1
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"generator=vae and networks=tiny both say what is evaluated"):
        each_network({"networks": TINY, "n": 5}, ["n=5", "generator=vae"])


def test_other_generators_are_no_networks_of_a_list() -> None:
    for name in ("vae", "vae(temperature=0.7)", "vae(path=seed1.safetensors#12345678)", "replay(path=a#12345678)"):
        assert training(name) is None
    found = training("vae(path=some_list/seed12#0a1b2c3d, temperature=0.7)")
    assert found is not None
    assert (found.listed, found.seed, found.path) == ("some_list", 12, "networks:some_list/seed12")


def test_a_network_that_is_not_there_names_the_command_and_bad_names_are_refused(cache: Path) -> None:
    with pytest.raises(LookupError, match=r"networks:tiny/seed9 has no weights of 'vae'.*assay train networks=tiny"):
        find_weights("generator", "vae", "digits", "networks:tiny/seed9")
    for path in ("networks:../tiny/seed1", "networks:tiny", "networks:tiny/../seed1", "networks:/seed1"):
        with pytest.raises(ValueError, match="must be a plain name"):
            find_weights("generator", "vae", "digits", path)


def test_the_command_trains_and_evaluates_a_list_of_ones_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache.parent / "networks").mkdir()
    (cache.parent / "networks" / "tiny.yaml").write_text(f"# a tiny list\n{yaml.dump(TINY)}")

    def assay(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["assay", words[0], "--config-dir", str(cache.parent), *words[1:]])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capsys.readouterr().err

    choice = ("networks=tiny", "networks.families=[vae]")
    assert assay("train", *choice)[0] == 0
    code, told = assay("run", *choice, "metric=negative_norm", "n=20", "device=cpu")
    assert code == 0, told
    rows = read(Path("outputs/run/tables/metrics.csv"))
    assert [training(row["generator"]) for row in rows] == [
        ("vae", "tiny", s, f"networks:tiny/seed{s}") for s in (1, 2)
    ]
    commands = [command(record) for record in read_records(Path("outputs/run"))]
    assert sum("generator.vae.path=networks:tiny/seed2 " in one for one in commands) == 1, "what the page tells"
    code, told = assay("run", "networks=tiny", "dataset=mnist")
    assert code == 2
    assert "dataset=mnist and networks=tiny both say" in told
    code, told = assay("train", "networks=tiny", "trainer.vae.epochs=3")
    assert code == 2
    assert "trainer.vae.epochs=3 is of single trainings, and networks=tiny is a list of them: leave it out" in told
    code, told = assay("train", "networks=tyni")
    assert code == 2
    assert "unknown list of networks 'tyni'; did you mean tiny?" in told


def test_the_published_list_is_whole() -> None:
    """At least five seeds of each VAE and sdf_vae, and three of the others, as the issue asks."""
    every = networks_of(yaml.safe_load(LISTED.read_text()))
    seeds: dict[tuple[str, str], list[int]] = {}
    for one in every:
        assert one.dataset in DATASETS
        seeds.setdefault((one.family, one.dataset), []).append(one.seed)
    images = ("digits", "mnist", "fashion_mnist")
    assert seeds.keys() == {
        (family, data) for family in ("vae", "stylegan2", "latent_diffusion") for data in images
    } | {("sdf_vae", "sdf_primitives")}
    assert {len(found) for (family, _), found in seeds.items() if family.endswith("vae")} == {5}
    assert {len(found) for (family, _), found in seeds.items() if not family.endswith("vae")} == {3}
