"""Hydra: what can be chosen, and a job for each combination of what was chosen."""

from __future__ import annotations

import json
import os
import sys
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


def register(overrides: Sequence[str], config_name: str) -> None:
    """Tell Hydra what can be chosen. Raises LookupError and ValueError for overrides that are wrong."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, registry in GROUPS.items():
        every = {name: dict(entry.options) for name, entry in registry.items()}
        for name, options in every.items():
            store.store(group=group, name=name, node={name: options})
        store.store(group=group, name="all", node=every)
    check_names(overrides, config_name)


def run_jobs(config_name: str, overrides: list[str], job: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Run a job for each combination that the overrides make. Returns what the jobs returned, as JSON can hold it.

    `hydra.main` returns nothing, and a launcher may run jobs in other processes: so each leaves its answer in a file.
    """
    import hydra

    from ..formats.download import temporary_folder

    register(overrides, config_name)
    plain = without_flags(overrides)
    flags = [argument for argument in overrides if argument not in plain]  # argparse wants them first
    sys.argv = [f"assay {'run' if config_name == 'evaluate' else 'train'}", *flags, *plain]
    with temporary_folder(cache_folder() / "jobs") as answers:
        launch = hydra.main(version_base="1.3", config_path="pkg://assay.configs", config_name=config_name)
        launch(_answering(job, answers))()
        return [json.loads(file.read_text()) for file in sorted(answers.glob("*.json"))]


def _answering(job: Callable[[dict[str, Any]], Any], answers: Path) -> Callable[[DictConfig], None]:
    """The job on a plain config. What it returns goes to a file; what a user can mend is printed in one line."""

    def run(config: DictConfig) -> None:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            answer = job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        except (LookupError, OSError, ValueError, OmegaConfBaseException) as error:
            say(f"error: {one_line(error)}")
            raise SystemExit(2) from None
        replace(answers / f"{time.time_ns()}-{os.getpid()}.json", json.dumps(answer).encode())

    return run


def one_line(error: Exception) -> str:
    from ..evaluate import reason

    return reason(error)
