"""`assay select`: what it is short for, and from an empty folder to kept samples."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from assay.harness.cli import main
from assay.harness.command.select import HELP, as_run
from assay.harness.core.registry import STUDIES, discover

discover()
BEST = ["study=select", "name=select"]
PROMISED = ["study=guarantee", "name=select", "study.guarantee.write=true"]


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ("score=realism generator=vae n=9", [*BEST, "scores=[realism]", "generator=vae", "n=9"]),
        ("scores=[a,b] count=7", [*BEST, "scores=[a,b]", "study.select.count=7"]),
        ("score=a worst=true name=x", ["study=select", "scores=[a]", "study.select.worst=true", "name=x"]),
        ("score=a alpha=.05", [*PROMISED, "scores=[a]", "study.guarantee.alpha=[.05]"]),
        ("score={metric:a,k:3} alpha=[.1,.2]", [*PROMISED, "scores=[{metric:a,k:3}]", "study.guarantee.alpha=[.1,.2]"]),
        ("--fake score=DIR --real R -m score=a", [*BEST, "--fake", "score=DIR", "--real", "R", "-m", "scores=[a]"]),
        (
            "score=a alpha=.1 quality=realism least=2 delta=.2 count=9",
            [*PROMISED, "scores=[a]", "study.guarantee.alpha=[.1]", "study.guarantee.quality=realism",
             "study.guarantee.least=2", "study.guarantee.delta=.2", "study.guarantee.count=9"],
        ),
    ],
)  # fmt: skip
def test_what_it_is_short_for(words: str, run: list[str]) -> None:
    assert as_run(words.split()) == run


@pytest.mark.parametrize(
    "path", ["labels.csv", "my labels, 2 (a)=b.csv", 'a"b.csv', "~/ü#[1]{2}.csv", "a\\b.csv", "a\\", "'x'"]
)
def test_any_path_is_taken_as_it_is(path: str) -> None:
    parsed = OverridesParser.create().parse_override(as_run(["score=a", "alpha=.1", f"labels={path}"])[-1])
    assert (parsed.key_or_group, parsed.value()) == ("study.guarantee.labels", path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("alpha=.1", "score=NAME is missing"),
        ("score=a study=select", "leave out study"),
        ("score=a labels=x.csv", "'labels'. Known: count, worst; add alpha=.05"),
        ("score=a alpha=.1 worst=true", "'worst'. Known: alpha, count, delta, .*leave it out"),
    ],
)
def test_what_makes_no_sense_is_refused(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_run(words.split())


def test_its_help_tells_the_defaults_of_the_studies() -> None:
    for study in ("guarantee", "select"):
        for option, default in STUDIES[study].options.items():
            if option not in ("alpha", "labels", "scores", "splits", "write"):
                shown = f"{default:g}".lstrip("0") if option == "delta" else str(default).lower()
                assert f"\n  {option}={shown} " in HELP, option


def test_from_nothing_to_kept_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 samples of a VAE, of which somebody calls none bad, and then all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_STORE", str(tmp_path / "store"))
    call = ["generator=vae", "dataset=digits", "n=60", "score=mean_intensity", "alpha=.2", "count=40", "labels=l.csv"]

    def select() -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", "select", *call])
        with pytest.raises(SystemExit) as finished:
            main()
        return int(str(finished.value.code)), *capsys.readouterr()

    code, _, err = select()
    assert code == 0, err
    assert "40 of the 60 samples" in err
    assert "give the same command again" in err
    labels = pd.read_csv("l.csv")
    code, out, err = select()
    assert (code, out) == (2, "")
    assert "l.csv: bad is empty in line 2" in err
    labels.assign(bad=0).to_csv("l.csv", index=False)
    code, out, err = select()
    assert code == 0, err
    assert "At most 20% bad: it can be promised; mean_intensity keeps" in out
    (folder,) = Path("outputs/select/guarantee").glob("*/*/*")
    kept, certificate = pd.read_csv(folder / "kept.csv"), json.loads((folder / "certificate.json").read_text())
    assert (certificate["labels"], certificate["bad"]) == (40, 0)
    assert len(kept) == len(list(folder.glob("*.png"))) == certificate["kept"] > 40
    pictures = dict(zip(labels["sample"], labels["picture"], strict=True))
    for row in kept.itertuples():
        pixels = np.asarray(Image.open(folder / str(row.file)), dtype=float)
        assert row.mean_intensity == pytest.approx(pixels.mean() / 255, abs=1e-6)
        if row.sample in pictures:  # what was labelled is what is kept: the same seeds were drawn again
            assert (pixels == np.asarray(Image.open(pictures[row.sample]))).all()
    labels.assign(bad=1).to_csv("l.csv", index=False)
    code, out, err = select()
    assert code == 0, err
    assert "At most 20% bad: mean_intensity cannot promise it; no number of labels would do" in out
    assert list(folder.iterdir()) == []
