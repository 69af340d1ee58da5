"""Lists of networks: `assay train networks=LIST` trains each, `assay run networks=LIST` evaluates each."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.claims import claimed
from ..core.escapes import for_csv
from ..core.files import replace, sha256_of
from ..core.progress import say
from ..core.registry import DATASETS, GENERATORS, TRAINERS, check_options, unknown
from ..formats.weights import NETWORKS, network_file

CHOICES = {"families": "family", "datasets": "dataset", "seeds": "seed"}
"""Options by which a part of a list is chosen, and what of a network they name."""
BESIDE = ("networks", "device", "sink")
"""Options that the training of a list takes."""
FIELDS = ("family", "dataset", "seed", "status", "parameters", "cpu_seconds", "sha256")
"""Columns of the table, before those of the test figures."""


@dataclass(frozen=True)
class Network:
    """One network of a list.

    data: options of the data set; options: of the trainer, those that differ from its defaults. uses: an option of the
    trainer that takes the weights of another network, and the family of that one: of the same list, data set and seed.
    expected: CPU seconds that the list gives for its training.
    """

    listed: str
    family: str
    dataset: str
    seed: int
    data: Mapping[str, Any]
    options: Mapping[str, Any]
    uses: Mapping[str, str]
    expected: float

    @property
    def tag(self) -> str:
        return f"seed{self.seed}"

    @property
    def file(self) -> Path:
        return network_file(self.listed, self.family, self.dataset, self.tag)

    @property
    def title(self) -> str:
        return f"{self.family} on {self.dataset}, training seed {self.seed}"

    def card(self) -> dict[str, Any] | None:
        """The card of finished weights; None where there are none, or where they are not those of the card."""
        try:
            card: dict[str, Any] = json.loads(self.file.with_suffix(".json").read_bytes())
            return card if card["sha256"] == sha256_of(self.file) else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def trainer(self) -> dict[str, Any]:
        """All options of its trainer."""
        others = {
            option: str(network_file(self.listed, family, self.dataset, self.tag))
            for option, family in self.uses.items()
        }
        return {**TRAINERS[self.family].options, **self.options, **others}


def networks_of(node: Mapping[str, Any]) -> list[Network]:
    """The networks of a list, as far as they are chosen: the first seed of every training, then the second, and so on.

    Raises LookupError for an unknown trainer or data set, ValueError for wrong options, for two networks of one name,
    and for a choice that names nothing of the list.
    """
    found = []
    for entry in node["trainings"]:
        family, dataset = entry["trainer"], entry["dataset"]
        data, options, uses = (dict(entry.get(key) or {}) for key in ("data", "options", "uses"))
        for group, name, given in (("trainer", family, options | uses), ("dataset", dataset, data)):
            registry = {"trainer": TRAINERS, "dataset": DATASETS}[group]
            known = registry[name].options
            if wrong := sorted(given.keys() - known.keys()):
                raise ValueError(unknown(f"option of {group} {name}:", wrong[0], sorted(known)))
        check_options({"trainer": {family: options}, "dataset": {dataset: data}})
        for seed in entry["seeds"]:
            found.append(
                Network(node["name"], family, dataset, seed, data, options, uses, 60 * float(entry["cpu_minutes"]))
            )
    if not found:
        raise ValueError(f"networks={node['name']} lists no trainings")
    found.sort(key=lambda network: network.seed)
    if len({network.file for network in found}) < len(found):
        raise ValueError(f"networks={node['name']}: two trainings have the same family, data set and seed")
    for option, about in CHOICES.items():
        if (chosen := node.get(option)) is None:
            continue
        wanted = chosen if isinstance(chosen, list) else [chosen]
        known = dict.fromkeys(getattr(network, about) for network in found)
        for one in wanted:
            if one not in known:
                raise ValueError(f"networks.{option}={one}: {node['name']} has {', '.join(map(str, known))}")
        found = [network for network in found if getattr(network, about) in wanted]
    return found


def each_network(config: dict[str, Any], overrides: Sequence[str]) -> list[dict[str, Any]]:
    """A config of `assay run` for each network of its list, or the one there is.

    Of families that the list names under `at_most`, so many samples are evaluated at most.
    Raises ValueError where the overrides also choose a generator or a data set.
    """
    if not config.get("networks"):
        return [config]
    from ..open_run import MADE

    name = config["networks"]["name"]
    for override in overrides:
        if re.split(r"[.=]", override)[0] in ("generator", "dataset"):
            raise ValueError(
                f"{override} and networks={name} both say what is evaluated: choose from the list with "
                "networks.families=[...], networks.datasets=[...] and networks.seeds=[...], or leave it out with "
                "networks=[]"
            )
    rest = {key: value for key, value in config.items() if key != "networks"}
    every = networks_of(config["networks"])
    most = config["networks"].get("at_most") or {}
    n = MADE if config["n"] is None else config["n"]
    order = list(dict.fromkeys(one.dataset for one in every))  # a data set is opened once for the jobs in a row on it
    return [
        rest
        | {
            "dataset": {one.dataset: {**DATASETS[one.dataset].options, **one.data}},
            "generator": {one.family: {**GENERATORS[one.family].options, "path": f"{NETWORKS}{name}/{one.tag}"}},
            "n": min(n, most[one.family]) if one.family in most and isinstance(n, int) else config["n"],
        }
        for one in sorted(every, key=lambda one: order.index(one.dataset))
    ]


def train_networks(plain: Mapping[str, Any], words: Sequence[str]) -> int:
    """Train those networks of a list that are missing, one after the other; returns how many could not be trained.

    Those that a chosen one is trained on are chosen, too. One that fails is named, and the others go on. Weights, cards
    and the table of the whole list go to the folder of the list in the cache. A training that was killed goes on after
    its last epoch. words: those of the command.
    Raises ValueError for an option of single trainings among them, and as `networks_of` does.
    """
    from ..core.protocols import pick_device
    from ..sinks.jobs import log_of_training
    from ..train import train

    whole, every = _whole(plain["networks"]), _with_used(plain["networks"])
    name, folder = plain["networks"]["name"], every[0].file.parent
    for word in words:
        if "=" in word and re.split(r"[.=]", word.lstrip("+"))[0] not in (*BESIDE, "hydra") and word[0] != "-":
            raise ValueError(f"{word} is of single trainings, and networks={name} is a list of them: leave it out")
    failed: dict[str, str] = {}
    missing = [one for one in every if one.card() is None]
    say(f"{name}: {len(every) - len(missing)} of {len(every)} networks are there ({folder})")
    for i, one in enumerate(missing):
        left = sum(_expected(other, every) for other in missing[i:]) / 60
        here = _expected(one, every) / 60
        say(f"{i + 1}/{len(missing)} {one.title}: about {here:.1f} CPU minutes of {left:.0f} that are left")
        waiting = f"{one.title}: another process is at work on it; this one waits for it"
        try:
            with claimed(folder / ".claims", one.file.name, waiting):
                data = DATASETS[one.dataset].function(**{**DATASETS[one.dataset].options, **one.data})
                with log_of_training(one.title, folder, dict(plain), list(words)) as log:
                    train(
                        one.family, one.trainer(), data, one.seed, folder, pick_device(plain["device"]), one.data,
                        tag=one.tag, log=log,
                    )  # fmt: skip
        except Exception as failure:  # whatever one network fails for, the others can be trained
            from ..evaluate import reason

            failed[one.title] = reason(failure)
            say(f"failed: {one.title}: {failed[one.title]}")
        _write_table(folder, whole, failed)
    _write_table(folder, whole, failed)
    done = sum(one.card() is not None for one in every)
    say(f"{done} of {len(every)} networks are there, their cards in {folder / 'networks.csv'}")
    for title, why in failed.items():
        say(f"failed: {title}: {why}")
    return len(failed)


def _with_used(node: Mapping[str, Any]) -> list[Network]:
    """The chosen networks of a list and those that they use, in its order."""
    chosen = networks_of(node)
    files = {one.file for one in chosen}
    files |= {network_file(one.listed, family, one.dataset, one.tag) for one in chosen for family in one.uses.values()}
    return [one for one in _whole(node) if one.file in files]


def _whole(node: Mapping[str, Any]) -> list[Network]:
    """The networks of a list, whatever is chosen of them."""
    return networks_of({**node, **dict.fromkeys(CHOICES)})


def _expected(one: Network, every: Sequence[Network]) -> float:
    """CPU seconds of a training: the median of those of other seeds that were measured here, else those of the list."""
    same = [other for other in every if (other.family, other.dataset) == (one.family, one.dataset)]
    known = [card["cpu_seconds"] for other in same if (card := other.card()) and "cpu_seconds" in card]
    return statistics.median(known) if known else one.expected


def _write_table(folder: Path, every: Sequence[Network], failed: Mapping[str, str]) -> None:
    rows = list(_rows(every, failed))
    columns = [*FIELDS, *dict.fromkeys(name for row in rows for name in row if name not in FIELDS)]
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace(folder / "networks.csv", content.getvalue().encode())


def _rows(every: Sequence[Network], failed: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A row for each network; CPU seconds are empty where a card of an older release does not tell them."""
    for one in sorted(every, key=lambda one: (one.family, one.dataset, one.seed)):
        card = one.card()
        status = "trained" if card else f"failed: {failed[one.title]}" if one.title in failed else "missing"
        row = {"family": one.family, "dataset": one.dataset, "seed": one.seed, "status": for_csv(status)}
        if card:
            row |= {name: card.get(name, "") for name in ("parameters", "cpu_seconds", "sha256")}
            row |= {f"test_{name}": value for name, value in card.get("test", {}).items()}
        yield row
