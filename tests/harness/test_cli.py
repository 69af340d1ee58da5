"""What the command answers before it works: what it refuses, what it lists, and its help."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay import __version__
from assay.harness.cli import main
from assay.harness.command.hydra_jobs import run_jobs
from assay.harness.core.discovery import PLUGINS, discover
from assay.harness.core.renamed import renamed

from .shell import TINY, Finished, Shell, is_one_line

discover()
WRONG_NAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "command": (("rum",), "unknown command 'rum'; did you mean run"),
    "kind": (("list", "metric"), "unknown kind 'metric'; did you mean metrics"),
    "metric": (("run", "metric=precison", *TINY), "unknown metric 'precison'; did you mean precision"),
    "dataset": (("run", "metric=precision", "dataset=digts"), "unknown dataset 'digts'; did you mean digits"),
    "generator": (("run", "generator=va", *TINY), "unknown generator 'va'; did you mean vae"),
    "option": (("run", "metric=latent_knn", "metric.latent_knn.kk=1", *TINY), "'kk'; did you mean k"),
    "setting": (("run", "metric=precision", "sed=3", *TINY), "'sed'; did you mean seed"),
    "experiment": (("run", "experiment=quickstar", *TINY), "'quickstar'; did you mean quickstart"),
    "hyphen": (("run", "experiment=quick-start", *TINY), "'quick-start'; did you mean quickstart"),
    "trainer": (("train", "generator=vea", "dataset=digits"), "'vea'; did you mean vae"),
    "plugin": (("run", "--plugin", "absent.py", *TINY), "absent.py does not exist"),
    "folder": (("report", "absent"), "no records in absent"),
}
WRONG_VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "metric": WRONG_NAMES["metric"],
    "number": (("run", "metric=precision", *TINY, "n=many"), "n="),
    "fixed features": (("run", "metric=fid", "space=pixels", *TINY), "fid is defined in inception alone"),
    "yes or no": (
        ("run", "metric=[precision,coverage]", "metric.coverage.strict=no", *TINY),
        "strict='no' must be true",
    ),
    "study": (("run", "study=groups", "study.groups.share=half", *TINY), "share='half' must be a finite number"),
    "score": (("run", "study=groups", "scores=[{metric:rarity,strict:off}]", *TINY), "strict='off' must be true"),
    "extractor": (("run", "metric=precision", "extractor.random.seed=x", *TINY), "seed='x' must be a whole number"),
    "trainer": (("train", "generator=vae", "generator.vae.epochs=many", "dataset=digits"), "epochs='many' must be"),
    "unwritable": (("run", "metric=precision", "out=plugin.py/below", *TINY), "choose another folder with out=DIR"),
}


@pytest.mark.parametrize("what", WRONG_NAMES)
def test_a_wrong_name_is_told_in_one_line_and_the_nearest_first(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, since none of these calls comes as far as work."""
    arguments, expected = WRONG_NAMES[what]
    monkeypatch.setattr(sys, "argv", ["assay", *arguments])
    monkeypatch.setenv(PLUGINS, "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as finished:
        main()
    out, err = capsys.readouterr()
    assert finished.value.code == 2
    assert expected in err
    assert is_one_line(err), err
    assert (out, list(tmp_path.iterdir())) == ("", [])


@pytest.fixture(scope="module")
def refusals(assay: Shell) -> dict[str, Finished]:
    return assay.together({name: arguments for name, (arguments, _) in WRONG_VALUES.items()})


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_a_wrong_call_is_told_in_one_line(refusals: dict[str, Finished], what: str) -> None:
    finished, expected = refusals[what], WRONG_VALUES[what][1]
    assert finished.returncode in (1, 2)
    assert expected in finished.stderr
    assert is_one_line(finished.stderr), finished.stderr
    assert finished.stdout == ""


def test_without_arguments_it_says_what_it_can_do(assay: Shell) -> None:
    finished = assay()
    assert finished.returncode == 0
    assert all(f"assay {command}" in finished.stdout for command in ("run", "report", "list", "train"))
    assert finished.stderr == ""


HEAVY = {"torch", "pandas", "scipy", "sklearn", "hydra", "matplotlib"}
NOT_IMPORTED = {
    "--help": HEAVY,
    "--version": HEAVY,
    "list experiments": HEAVY,
    "list tunings": HEAVY,
    "list datasets": HEAVY - {"torch", "scipy"},
}


@pytest.mark.parametrize("arguments", NOT_IMPORTED)
def test_a_command_does_not_wait_for_what_it_does_not_need(arguments: str) -> None:
    code = f"""
import sys
sys.argv = ["assay", *{arguments.split()}]
from assay.harness.cli import main
try:
    main()
finally:
    print(sorted({NOT_IMPORTED[arguments]} & sys.modules.keys()))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, imported = finished.stdout.splitlines()
    assert said
    assert imported == "[]"


def test_the_package_runs_as_the_command() -> None:
    finished = subprocess.run([sys.executable, "-m", "assay", "--version"], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == __version__


def test_where_nobody_reads_the_output_there_is_no_error() -> None:
    command = f"{sys.executable} -m assay --help | true; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (finished.stderr, finished.stdout) == ("", "141\n")


def test_old_names_compose_as_new_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["task=groups", "task.groups.share=0.1", "metric=ink", "through=pixels", "reals=9", "given.norm=rarity"]
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    run_jobs("evaluate", renamed(overrides), found.append)
    (config,) = found
    assert (config["study"], config["metric"]) == ({"groups": {"share": 0.1, "scores": []}}, {"mean_intensity": {}})
    assert (config["space"], config["n_real"], config["covariates"]["norm"]) == ("pixels", 9, "rarity")
    assert len(capsys.readouterr().err.splitlines()) == 6 - 1, "task is told once"


def test_tasks_are_listed_as_studies(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["assay", "list", "tasks"])
    with pytest.raises(SystemExit) as finished:
        main()
    out, err = capsys.readouterr()
    assert finished.value.code == 0
    assert "groups" in out
    assert err == "tasks is called studies now; the old name still works\n"


def test_everything_is_listed_and_no_name_is_broken(assay: Shell) -> None:
    listed = assay("list", "--plugin", "plugin.py")
    assert listed.returncode == 0
    names = ("negative_distance_to_mean", "vae", "fashion_mnist", "classifier", "correlate", "quickstart")
    for name in (*names, "first_feature", "power=1"):
        assert name in listed.stdout, name


@pytest.mark.parametrize("name", ["../../escaped", "${oc.env:HOME}", "a/b"])
def test_a_name_does_not_lead_out_of_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["assay", "run", "metric=random_score", *TINY, f"name={name}"])
    with pytest.raises(SystemExit) as finished:
        main()
    assert finished.value.code == 2
    assert "must be a plain name, without folders in it; choose the folder with out=DIR" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_command_answers_help(assay: Shell) -> None:
    for arguments in (["--help"], ["report", "--help"]):
        finished = assay(*arguments)
        assert finished.returncode == 0
        assert "assay report [DIR]" in finished.stdout
    assert "usage: assay list" in assay("list", "-h").stdout
