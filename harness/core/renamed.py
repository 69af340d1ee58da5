"""Names of the first release on the command line: they keep working, with a notice of today's name, once each."""

import re
from collections.abc import Mapping, Sequence

from .progress import say

OPTIONS: Mapping[str, str] = {
    "task": "study",
    "through": "space",
    "reals": "n_real",
    "sets": "set_metrics",
    "signals": "quality_signals",
    "given": "covariates",
    "metric.ink": "metric.mean_intensity",
    "extractor.shaded.through": "extractor.shaded.extractor",
    "generator.autoencoder_kl": "generator.autoencoder",
    "generator.rate": "generator.lr",
    "generator.conditional_vae.rate": "generator.conditional_vae.lr",
    "study.perturb.through": "study.perturb.judge_space",
    "study.tradeoff.through": "study.tradeoff.judge_space",
    "study.interpolate.rate": "study.interpolate.lr",
    "study.fine_tune.trainers.*.rate": "study.fine_tune.trainers.*.lr",
    "study.fine_tune.trainers.*.most": "study.fine_tune.trainers.*.max_channels",
    "trainer.rate": "trainer.lr",
    "trainer.most": "trainer.max_channels",
    "trainer.*.rate": "trainer.*.lr",
    "trainer.*.most": "trainer.*.max_channels",
    "importance.through": "importance.space",
    "measure.through": "measure.spaces",
}
"""Options and groups, from the left, in the order in which they are renamed. A star is any one name."""
VALUES: Mapping[str, str] = {"ink": "mean_intensity", "recoded": "reencoded", "through": "space"}
"""Words in what options are set to."""
GENERATORS: Mapping[str, str] = {"autoencoder_kl": "autoencoder"}
"""The same in `generator=`."""
NAMING = ("metric", "scores", "quality_signals", "classes", "covariates", "set_metrics", "space", "study", "measure")
"""Options and groups whose values name metrics and spaces, and no files."""
KINDS: Mapping[str, str] = {"tasks": "studies"}
"""What `assay list` lists."""


def renamed(overrides: Sequence[str]) -> list[str]:
    """Overrides with the names of today."""
    changes: dict[str, str] = {}
    new = [override if override.startswith("-") else _renamed(override, changes) for override in overrides]
    for old, now in changes.items():
        say_renamed(old, now)
    return new


def say_renamed(old: str, new: str) -> None:
    say(f"{old} is called {new} now; the old name still works")


def _renamed(override: str, changes: dict[str, str]) -> str:
    whole = re.fullmatch(r"([+~]*)([^=]*)(.*)", override, re.DOTALL)
    assert whole
    change, key, value = whole.groups()
    for old, new in OPTIONS.items():
        found = re.match(rf"{re.escape(old)}(?=$|\.)".replace(r"\*", r"(\w+)"), key)
        if found:
            now = new.replace("*", found[1]) if "*" in new else new
            changes[found[0]] = now
            key = now + key[found.end() :]
    group = key.partition(".")[0]
    words = VALUES if group in NAMING else GENERATORS if key == "generator" else {}
    for old, new in words.items():
        value, count = re.subn(rf"(?<![\w./-]){old}(?![\w./-])", new, value)
        if count:
            changes[old] = new
    return f"{change}{key}{value}"
