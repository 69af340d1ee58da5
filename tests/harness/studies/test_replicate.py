"""What would be so on another network: from records of correlations to sentences."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from assay.harness.arrays.records import read_records, write_record
from assay.harness.core.protocols import Cell, Estimate, Record, Row
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.replicate.measure import Options, family_of, replicate
from assay.harness.studies.replicate.overview import in_w

discover()
HELD = "class + complexity + norm"
LATENT_DENSITY = (-0.06, 0.07, -0.01, -0.03, 0.03)
"""Of five VAEs of Fashion-MNIST that differ by their training seeds."""
POSTERIOR = (0.44, 0.49, 0.46, 0.47, 0.45)


def correlations(folder: Path, dataset: str, values: dict[str, Sequence[float]], family: str = "vae") -> None:
    """Records of correlations and of gains over the first score, of each network, under two conditions."""
    for network in range(len(next(iter(values.values())))):
        for covariates in ("nothing", HELD):
            rows = [
                Row((score, "nearest_pixel"), Estimate(of[network] + 0.2 * (covariates == "nothing"), NAN, 5000))
                for score, of in values.items()
            ]
            rows = [row._replace(estimate=with_interval(row.estimate)) for row in rows]
            setting = {"covariates": covariates, "resamples": 1000}
            label = f"correlate(covariates={covariates}, resamples=1000)"
            generator = f"{family}(path=latent_density/seed{network}#1a2b3c4d)"
            cell = Cell("many", dataset, generator, "correlate", label, 0, 5000, setting, {})
            write_record(folder, Record(cell, 1, "study", "neither", "", ("score", "signal"), rows, "ok", None, {}))
            (first, rival), *others = [(row.keys[0], row.estimate.value) for row in rows]
            gains = [
                Row((score, first, "nearest_pixel"), with_interval(Estimate(value - rival, NAN, 5000)))
                for score, value in others
            ]
            cell = replace(cell, metric="gain", label=label.replace("correlate", "gain"))
            columns = ("score", "against", "signal")
            write_record(folder, Record(cell, 1, "study", "neither", "", columns, gains, "ok", None, {}))


NAN = (math.nan, math.nan)


def with_interval(estimate: Estimate) -> Estimate:
    return estimate._replace(interval=(estimate.value - 0.0275, estimate.value + 0.0275))


def run_in(folder: Path) -> Run:
    return open_run({"none": {}}, {"none": {}}, folder, folder / "store")


def brought_together(folder: Path, **options: object) -> pd.DataFrame:
    found = [row for part in replicate(run_in(folder), Options([str(folder)], **options)) for row in part.rows()]
    columns = ["family", "trained_on", "score", "against", "signal", "quantity"]
    return pd.DataFrame([(*keys, *estimate) for keys, estimate in found], columns=[*columns, *Estimate._fields])


def test_an_accident_of_one_data_set_is_told_from_a_finding(tmp_path: Path) -> None:
    both = {"latent_density": LATENT_DENSITY, "aggregate_posterior": POSTERIOR}
    for dataset in ("fashion_mnist", "mnist", "digits"):
        correlations(tmp_path, dataset, both)
    run = run_in(tmp_path)
    carry_out(run, "replicate", folders=[str(tmp_path)])
    records = [record for record in read_records(tmp_path) if record.cell.metric == "replicate"]
    assert [record.status for record in records] == ["ok"]
    printed = report(tmp_path)
    assert "aggregate_posterior: above latent_density in every family on every data set, after correction." in printed
    assert "aggregate_posterior: holds for vae on digits, fashion_mnist, mnist." in printed
    assert "latent_density: does not hold for vae on digits, fashion_mnist, mnist." in printed
    assert (
        "Gain over latent_density in rank correlation with nearest_pixel, on a new network:\n"
        "  aggregate_posterior: holds for vae on digits, fashion_mnist, mnist." in printed
    )


def selected(folder: Path, dataset: str, gains: dict[str, Sequence[float]], family: str = "vae") -> None:
    """Records of `tradeoff`: of each network the gain in precision of keeping the best 10 % by each score."""
    for network in range(len(next(iter(gains.values())))):
        for method, of in gains.items():
            rows = [
                Row(("share 0.1", quantity), with_interval(Estimate(of[network], NAN, 200)))
                for quantity in ("precision gain", "precision over truncation", "precision")
            ]
            rows.append(Row(("all", "hypervolume gain"), with_interval(Estimate(9.0, NAN, 200))))
            setting = {"method": method, "kept": 200}
            label = f"tradeoff(kept=200, method={method})"
            generator = f"{family}(path=latent_density/seed{network}#1a2b3c4d)"
            cell = Cell("many", dataset, generator, "tradeoff", label, 0, 2000, setting, {})
            columns = ("setting", "quantity")
            write_record(folder, Record(cell, 4, "study", "neither", "", columns, rows, "ok", None, {}))


def test_gains_by_keeping_the_best_are_brought_together_and_corrected_apart(tmp_path: Path) -> None:
    correlations(tmp_path, "digits", {"latent_density": LATENT_DENSITY, "aggregate_posterior": POSTERIOR})
    selected(tmp_path, "digits", {"top aggregate_posterior": POSTERIOR, "truncation z": (9.0,) * 5})
    table = brought_together(tmp_path).set_index(["score", "against", "signal", "quantity"]).value
    key = "aggregate_posterior", "chance", "precision, best 10 %"
    assert table[*key, "median"] == pytest.approx(sorted(POSTERIOR)[2])
    assert ("aggregate_posterior", "truncation", "precision, best 10 %", "median") in table
    assert {signal for _, _, signal, _ in table.index} == {"nearest_pixel", "precision, best 10 %"}
    run = run_in(tmp_path)
    carry_out(run, "replicate", folders=[str(tmp_path)])
    report(tmp_path)
    page = (tmp_path / "report.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| vae, digits |"))
    assert line == "| vae, digits | precision, best 10 %, over chance | precision, best 10 %, over truncation |"
    rows = pd.read_csv(tmp_path / "tables" / "replicate.csv")
    tested = rows[rows.holm_p.notna() & rows.against.isin(["chance", "truncation"])]
    assert tested.quantity.tolist() == ["new network"] * 2
    assert (tested.holm_p < 1e-3).all()
    few = brought_together(tmp_path, scores=["latent_density"])
    assert set(few.score) == {"latent_density"}, "what is kept is of these scores too"


def test_tunings_are_compared_with_plain_training_of_the_same_seed(tmp_path: Path) -> None:
    """Seeds change precision by more than the tuning does; of a Fréchet distance the share that is saved counts."""
    seeds = {0: 0.5, 1: 0.9, 2: 0.1}
    for seed, plain in seeds.items():
        for tuning, gain in (("control", 0.0), ("fidelity", 0.05 + 0.001 * seed)):
            label = tuning if seed == 0 else f"{tuning}(seed={seed})"
            rows = []
            for metric, sign in (("precision", 1), ("frechet_distance", -1)):
                value = plain + gain if sign > 0 else plain * (1 - gain)
                rows.append(Row((metric, "pixels", "nothing"), with_interval(Estimate(value, NAN, 100))))
                difference = with_interval(Estimate(value - seeds[0], NAN, 100))
                rows.append(Row((metric, "pixels", "control, these trainings"), difference))
            setting = {"trainer": "epochs 1", "trainer_seed": seed, "tuning": label}
            cell = Cell("many", "digits", "stylegan2", "fine_tune", f"fine_tune({label})", 0, 100, setting, {})
            columns = ("metric", "space", "against")
            write_record(tmp_path, Record(cell, 3, "study", "neither", "", columns, rows, "ok", None, {}))
    table = brought_together(tmp_path).set_index(["score", "against", "signal", "quantity"])
    signals = {"precision in pixels", "frechet_distance saved in pixels"}
    assert set(table.index.get_level_values("signal")) == signals
    for signal in signals:
        median = table.loc[("fidelity", "plain training", signal, "median")]
        assert median.value == pytest.approx(0.051)
        assert median.n == 3
        mean = table.loc[("fidelity", "plain training", signal, "mean of networks"), "value"]
        assert mean == pytest.approx(0.051, abs=1e-3), "weighted where intervals differ"
    run = run_in(tmp_path)
    carry_out(run, "replicate", folders=[str(tmp_path)])
    printed = report(tmp_path)
    assert "Gain over plain training in precision in pixels, on a new network:\n  fidelity: " in printed


def test_the_overview_has_scores_in_w_in_the_rows_of_other_families(tmp_path: Path) -> None:
    in_z, w = "latent_density(encode=prior)", "latent_density(space=latent:w, encode=prior)"
    correlations(tmp_path, "digits", {"latent_density": LATENT_DENSITY, "latent_density(bandwidth=0.5)": POSTERIOR})
    correlations(tmp_path, "digits", {w: POSTERIOR, in_z: LATENT_DENSITY}, family="stylegan2")
    run = run_in(tmp_path)
    carry_out(run, "replicate", folders=[str(tmp_path)])
    report(tmp_path)
    page = (tmp_path / "report.md").read_text().split("### All comparisons")[0]
    rows = {line.split(" | ")[0].strip("| *"): line for line in page.splitlines() if line.startswith("| ")}
    assert "stylegan2, digits | vae, digits" in rows["score"]
    assert rows["latent_density"].startswith("| **latent_density** | **0.46 (")
    assert rows["latent_density"].count("\u2713") == 1, "in w it holds, in z of the VAE it does not"
    assert rows["latent_density(bandwidth=0.5)"].startswith("| **latent_density(bandwidth=0.5)** | - | **0.46 (")
    assert rows["latent_density(encode=prior), in z"].startswith("| latent_density(encode=prior), in z | -0.01 (")
    assert rows["latent_density tells quality"].split(" | ")[1:] == ["**holds**", "**does not hold** |"]


def test_rows_of_the_overview_are_scores_where_they_make_sense() -> None:
    w = "space=latent:w"
    assert in_w(["latent_density(encode=prior)", f"latent_density({w}, encode=prior)", "discriminator_logit"]) == {
        "latent_density": f"latent_density({w}, encode=prior)",
        "latent_density(encode=prior), in z": "latent_density(encode=prior)",
        "discriminator_logit": "discriminator_logit",
    }
    assert in_w([f"volume_corrected_density(form=standardised, {w})"]) == {
        "volume_corrected_density(form=standardised)": f"volume_corrected_density(form=standardised, {w})"
    }
    assert in_w(["latent_density", "latent_density(encode=prior)"]) == {
        "latent_density": "latent_density", "latent_density(encode=prior)": "latent_density(encode=prior)"
    }  # fmt: skip


def test_what_most_is_held_fixed_is_taken_and_not_the_raw_correlation(tmp_path: Path) -> None:
    correlations(tmp_path, "digits", {"latent_density": LATENT_DENSITY})
    for covariates, middle in (("", -0.01), (HELD, -0.01), ("nothing", 0.19)):
        table = brought_together(tmp_path, covariates=covariates)
        assert table[table.quantity == "median"].value.tolist() == pytest.approx([middle])


def test_gains_are_brought_together_as_differences(tmp_path: Path) -> None:
    correlations(tmp_path, "digits", {"latent_density": LATENT_DENSITY, "aggregate_posterior": POSTERIOR})
    table = brought_together(tmp_path)
    gains = table[(table.against == "latent_density") & (table.trained_on == "digits")].set_index("quantity")
    differences = [a - b for a, b in zip(POSTERIOR, LATENT_DENSITY, strict=True)]
    assert gains.loc["median", "value"] == pytest.approx(sorted(differences)[2])
    assert gains.loc["mean of networks", "value"] == pytest.approx(sum(differences) / 5, abs=0.01)


def test_networks_without_a_correlation_are_counted_as_missing(tmp_path: Path) -> None:
    correlations(tmp_path, "digits", {"a": (0.3, 0.32, math.nan), "b": (math.nan,) * 3})
    table = brought_together(tmp_path)
    chosen = (table.quantity == "new network") & (table.trained_on == "digits") & (table.against == "")
    new = table[chosen].set_index("score")
    assert new.loc["a", ["n", "missing"]].tolist() == [2, 1]
    assert new.loc["b", ["n", "missing"]].tolist() == [0, 3]
    assert math.isnan(new.loc["b", "value"])


def test_a_claim_over_data_sets_needs_as_many_of_them(tmp_path: Path) -> None:
    correlations(tmp_path, "digits", {"a": POSTERIOR})
    correlations(tmp_path, "mnist", {"a": POSTERIOR})
    assert not brought_together(tmp_path).quantity.str.startswith("fewer").any()
    table = brought_together(tmp_path, at_least=2)
    (p,) = table[table.quantity == "fewer than 2"].value
    assert 0 < p < 0.01


def test_families_are_told_apart_by_all_options_but_the_path() -> None:
    assert family_of("vae(path=latent_density/seed3#1a2b3c4d)") == "vae"
    assert family_of("vae(path=a, b/seed3#1a2b3c4d, temperature=0.7)") == "vae(temperature=0.7)"
    assert family_of("stylegan2(truncation=0.5)") == "stylegan2(truncation=0.5)"
    assert family_of("vae") == "vae"


def test_the_variance_of_the_reals_widens_intervals_and_names_without_networks_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two data sets, one of which has it: by the shared variance where five networks differ by little."""
    correlations(tmp_path, "digits", {"a": POSTERIOR})
    correlations(tmp_path, "mnist", {"a": POSTERIOR})

    def width(**options: object) -> dict[str, float]:
        found = brought_together(tmp_path, **options)
        mean = found[found.quantity == "mean of networks"].set_index("trained_on")
        return {name: math.atanh(row.interval[1]) - math.atanh(row.interval[0]) for name, row in mean.iterrows()}

    plain, wide = width(), width(shared={"digits": 0.05**2, "digit": 0.1})
    assert wide["digits"] > 1.5 * plain["digits"]
    assert wide["mnist"] == pytest.approx(plain["mnist"], rel=0.3)
    assert (
        "shared names 'digit', of which there are no networks; there are 'digits', 'mnist'" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scores": ["b"]}, "no correlations with score 'b'; there are 'a'"),
        ({"signals": ["b"]}, "no correlations with signal 'b'; there are 'nearest_pixel'"),
        (
            {"covariates": "b"},
            "no correlations with covariates 'b'; there are 'class \\+ complexity \\+ norm', 'nothing'",
        ),
        ({"prior": 0.0}, "prior=0.0 must be greater than 0"),
        ({"shared": {"digits": -1.0}}, "digits: variances must be 0 or greater"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, object], why: str) -> None:
    correlations(tmp_path, "digits", {"a": POSTERIOR})
    with pytest.raises(ValueError, match=why):
        brought_together(tmp_path, **options)


def test_a_folder_without_correlations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no records in"):
        brought_together(tmp_path)
    with pytest.raises(ValueError, match="folders is empty"):
        list(replicate(run_in(tmp_path), Options()))
