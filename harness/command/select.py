"""`assay select`: samples that are worth keeping, as files. It is short for `assay run` with one of two studies."""

import re
from collections.abc import Mapping, Sequence

from ..core.registry import STUDIES, unknown

BEST, PROMISED = "select", "guarantee"
"""Studies: a number of the best samples, or as many as a promise allows."""
PATHS = ("--fake", "--real")
"""Flags whose value is the next word."""
HELP = """assay select: keep the samples that a score calls good, as files

  assay select generator=vae dataset=fashion_mnist score=latent_density            the 50 best of 5,000
  assay select --fake FOLDER --real REALS score=realism count=200                  the 200 best of your own

With alpha it keeps as many as it can promise to be good: of all samples that score so much, at most a share alpha is
bad.

  assay select generator=vae dataset=fashion_mnist score=latent_density alpha=.05 labels=labels.csv

The first time, labels.csv does not exist. It is written with 300 samples drawn at random, beside a folder of their
pictures. Fill its column bad, 1 for a bad sample and 0 for a good one, and give the same command again. You get the
kept samples as PNG (shapes as OBJ), kept.csv with their numbers, which are their seeds, and certificate.json with the
promise.
Where no threshold can promise it, nothing is kept, and the last lines say how many labels would do; the exit code is 0.
Whoever tries again with more labels, or with another score, looks twice: halve delta for both.

  score=NAME        a metric of kind sample (assay list metrics); with options: 'score={metric: NAME, OPTION: VALUE}'
  n=5000            how many samples there are to choose from; seed=0: which
  out=outputs       the files are below outputs/select; name=NAME: below outputs/NAME
with alpha:
  alpha=.05         share of bad samples that you accept among the kept
  delta=.1          chance that the promise is wrong
  count=300         how many samples get a label
  labels=FILE.csv   columns bad and sample, or name; without it:
  quality=realism   a sample is bad where this score, which looks at it, is below
  least=1.0         this; of 'quality={metric: realism, prune: false}', 1 is the border of all balls around real samples
without alpha:
  count=50          how many samples are written
  worst=false       the worst instead of the best

All else is as in `assay run`, for which this is short: study=guarantee with alpha, else study=select."""


def as_run(words: Sequence[str]) -> list[str]:
    """The words of `assay run` for which those of `assay select` stand. The studies must be discovered before.

    Raises ValueError where no score is given, for a study, and for an option of the other way to select.
    """
    given = [word for before, word in zip(["", *words], words, strict=False) if before not in PATHS and word[:1] != "-"]
    keys = {word.partition("=")[0] for word in given}
    if not keys & {"score", "scores"}:
        raise ValueError("score=NAME is missing: by which score? `assay list metrics` shows those of kind sample")
    if "study" in keys:
        raise ValueError("assay select chooses the study itself, by whether alpha is given: leave out study")
    chosen, other = (PROMISED, BEST) if "alpha" in keys else (BEST, PROMISED)
    options: Mapping[str, object] = STUDIES[chosen].options
    run = [f"study={chosen}", *([] if "name" in keys else ["name=select"])]
    run += [f"study.{chosen}.write=true"] if chosen == PROMISED else []
    for before, word in zip(["", *words], words, strict=False):
        key, equals, value = word.partition("=")
        if before in PATHS or not equals or key.startswith("-"):
            run.append(word)
        elif key == "score":
            run.append(f"scores={_listed(value)}")
        elif key == "scores" or key not in {*options, *STUDIES[other].options}:
            run.append(word)
        elif key not in options:
            without = "without a promise" if chosen == BEST else "of a promise"
            fix = "add alpha=.05 for a promise" if chosen == BEST else "leave it out, or leave out alpha"
            raise ValueError(f"{unknown(f'option {without}:', key, sorted({*options} - {'scores', 'write'}))}; {fix}")
        else:
            run.append(f"study.{chosen}.{key}={_value(key, value)}")
    return run


def _value(key: str, value: str) -> str:
    """A value in Hydra's grammar: shares as a list, and a path in quotes, whatever is in it."""
    if key == "labels":
        inner = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + found[2].replace('"', r"\""), value)
        return f'"{inner}"'
    return _listed(value) if key == "alpha" else value


def _listed(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"
