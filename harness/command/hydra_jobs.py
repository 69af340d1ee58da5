"""Hydra: what can be chosen, and a job for each combination of what was chosen."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.files import cache_folder, replace
from ..core.progress import say
from ..core.registry import GROUPS
from .overrides import check_names, without_flags

if TYPE_CHECKING:
    from omegaconf import DictConfig

SEVERAL = ("metric", "study")
"""Groups of which any number is chosen, also none."""
CHOSEN = "chosen"
"""A flag of OmegaConf on what was chosen from a group; flags stay where configs are merged, and are never printed."""


def register(overrides: Sequence[str], config_name: str) -> None:
    """Tell Hydra what can be chosen. Raises LookupError and ValueError for overrides that are wrong."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, registry in GROUPS.items():
        every = {name: dict(entry.options) for name, entry in registry.items()}
        for name, options in every.items():
            store.store(group=group, name=name, node=_node({name: options}))
        store.store(group=group, name="all", node=_node(every))
    check_names(overrides, config_name)


def _node(every: dict[str, dict[str, Any]]) -> DictConfig:
    """Options by name, marked as chosen. One whose default is an empty mapping takes any keys, which Hydra refuses."""
    from omegaconf import OmegaConf

    node: DictConfig = OmegaConf.create(every)
    for name, options in every.items():
        node[name]._set_flag(CHOSEN, True)
        for option, default in options.items():
            if default == {}:
                OmegaConf.set_struct(node[name][option], False)
    return node


def plain_config(config: DictConfig) -> dict[str, Any]:
    """A config as plain values, of metrics and studies with those that were chosen."""
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return without_unchosen(plain, config)


def without_unchosen(plain: dict[str, Any], config: DictConfig) -> dict[str, Any]:
    """Plain values without the metrics and studies that were not chosen, whose options an experiment may set.

    plain: the values of `config`, perhaps with some changed.
    """
    from omegaconf import DictConfig

    def is_chosen(group: str, name: str) -> bool:
        node = config[group][name]
        return isinstance(node, DictConfig) and bool(node._get_flag(CHOSEN))

    return plain | {
        group: {name: options for name, options in plain[group].items() if is_chosen(group, name)}
        for group in SEVERAL
        if plain.get(group)
    }


def run_jobs(
    config_name: str,
    overrides: list[str],
    job: Callable[[dict[str, Any]], Any],
    objective: Callable[[dict[str, Any], Any], float] | None = None,
) -> list[Any]:
    """Run a job for each combination that the overrides make. Returns what the jobs returned, as JSON can hold it.

    objective: of a config and what its job returned, the number that an optimising sweeper gets. The best trial is then
    printed, and carried out once more, so that what it wrote is what stands there at the end.
    `hydra.main` returns nothing, and a launcher may run jobs in other processes: so each leaves its answer in a file.
    """
    import hydra

    from ..formats.download import temporary_folder

    register(overrides, config_name)
    plain = without_flags(overrides)
    flags = [argument for argument in overrides if argument not in plain]  # argparse wants them first
    sys.argv = [f"assay {'run' if config_name == 'evaluate' else 'train'}", *flags, *plain]
    with temporary_folder(_place()) as answers:
        if not any(override.lstrip("+").startswith("hydra.sweep.dir=") for override in plain):
            sys.argv.append(f"hydra.sweep.dir='{answers / 'sweep'}'")
        launch = hydra.main(version_base="1.3", config_path="pkg://assay.configs", config_name=config_name)
        launch(_answering(job, answers, objective))()
        found = [json.loads(file.read_text()) for file in sorted(answers.glob("*.json"))]
        best = _best(answers / "sweep" / "optimization_results.yaml")
    if best is None:
        return found
    rest = [one for one in plain if one.partition("=")[0] not in best and not one.lstrip("+").startswith("hydra")]
    return found + run_jobs(config_name, [*rest, *(f"{name}={value}" for name, value in best.items())], job)


def _place() -> Path:
    """The cache, which jobs on other machines may see; where it cannot be written, a folder of this machine."""
    kept = cache_folder() / "jobs"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return kept if os.access(kept, os.W_OK) else Path(tempfile.gettempdir())


def _answering(
    job: Callable[[dict[str, Any]], Any], answers: Path, objective: Callable[[dict[str, Any], Any], float] | None
) -> Callable[[DictConfig], float | None]:
    """The job on a plain config. What it returns goes to a file; what a user can mend is printed in one line."""

    def run(config: DictConfig) -> float | None:
        from omegaconf.errors import OmegaConfBaseException

        try:
            plain = plain_config(config)
            answer = job(plain)
            value = objective(plain, answer) if objective and _optimises() else None
        except (LookupError, OSError, ValueError, OmegaConfBaseException) as error:
            say(f"error: {one_line(error)}")
            raise SystemExit(2) from None
        replace(answers / f"{time.time_ns()}-{os.getpid()}.json", json.dumps(answer).encode())
        return value

    return run


def _optimises() -> bool:
    """Whether the sweeper chooses what to try next by the objective, as all but Hydra's own do."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = HydraConfig.get()
    return config.mode == RunMode.MULTIRUN and not str(config.sweeper._target_).endswith("BasicSweeper")


def _best(file: Path) -> dict[str, Any] | None:
    """What Optuna's sweeper found, from its file: printed, and returned where there is one best trial."""
    import yaml

    if not file.is_file():
        return None
    found = yaml.safe_load(file.read_text())
    trials = found.get("solutions") or [{"params": found["best_params"], "values": [found["best_value"]]}]
    for trial in trials:
        values = ", ".join(f"{value:.6g}" for value in trial["values"])
        say(f"best trial: {' '.join(f'{name}={value}' for name, value in trial['params'].items())}: {values}")
    return dict(trials[0]["params"]) if len(trials) == 1 else None


def one_line(error: Exception) -> str:
    from ..evaluate import reason

    return reason(error)
