"""Every registered metric against its formula in float64 differences, on random sets on which numbers go wrong.

`python tests/metrics/test_exactness.py --draws 20000` tries more draws and prints a table.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.harness.core.registry import METRICS, discover

if not __package__:
    sys.path.insert(0, str(Path(__file__).parent))
    from exact.cases import CASES, NO_FORMULA, Case, float64  # type: ignore[import-not-found]
else:
    from .exact.cases import CASES, NO_FORMULA, Case, float64

DRAWS = 500


def attempt(name: str, case: Case, seed: int) -> tuple[str, str]:
    """ "equal", "refused" or "differs", and what was drawn."""
    sets, kind = case.make(np.random.default_rng(seed))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            answer = METRICS[name].function(*sets, **case.options)
        except ValueError as error:
            return "refused", f"seed {seed}, {kind}: {error}"
        except Exception as error:  # the table names what fails in another way, and goes on
            return "differs", f"{name}, seed {seed}, {kind}, {case.options}: {error!r}"
        wanted = case.want(*float64(sets))
    want, tolerance = wanted if isinstance(wanted, tuple) else (wanted, 0.0)
    got = np.asarray(answer.numpy() if isinstance(answer, torch.Tensor) else answer.value, dtype=float)
    want = np.asarray(want, dtype=float)
    fits = (
        np.isclose(got, want, rtol=case.relative, atol=tolerance, equal_nan=True)
        if got.shape == want.shape
        else [False]
    )
    outcome = "equal" if np.all(fits) else "differs"
    return outcome, f"{name}, seed {seed}, {kind}, {case.options}: {got.ravel()[:3]} for {want.ravel()[:3]}"


def outcomes(name: str, draws: int) -> list[tuple[str, str]]:
    cases = CASES[name]
    return [attempt(name, cases[seed % len(cases)], seed) for seed in range(draws)]


discover()
REGISTERED = sorted(name for name, metric in METRICS.items() if metric.function.__module__.startswith("assay.metrics"))


def test_every_metric_has_a_formula_or_a_reason() -> None:
    assert set(CASES) | set(NO_FORMULA) == set(REGISTERED)


@pytest.mark.parametrize("name", sorted(CASES))
def test_metric_is_its_formula_or_refuses(name: str) -> None:
    found = outcomes(name, max(8, DRAWS // len(CASES)))
    assert [what for outcome, what in found if outcome == "differs"] == []
    assert any(outcome == "equal" for outcome, _ in found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--show", action="store_true", help="print the first disagreement of each metric")
    options = parser.parse_args()
    print(f"{'metric':30} | draws | refused | disagreements")
    for name in sorted(CASES):
        found = outcomes(name, max(1, options.draws // len(CASES)))
        refused, differs = ([what for outcome, what in found if outcome == kind] for kind in ("refused", "differs"))
        print(f"{name:30} | {len(found):5} | {len(refused):7} | {len(differs):5}", flush=True)
        if options.show and differs:
            print("   ", differs[0])
        if options.show and refused:
            print("    refused:", refused[0][:200])


if __name__ == "__main__":
    main()
