"""The configs of all jobs of a command, as Hydra composes them, before the first job starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..core.registry import GROUPS
from .hydra_jobs import plain_config, without_unchosen
from .overrides import ENGINE, PRESETS, config_folders, without_flags

if TYPE_CHECKING:
    from omegaconf import DictConfig

BASIC = ("BasicLauncher", "BasicSweeper")
"""Hydra's own launcher and sweeper, for which jobs are combinations of values, run one after the other here."""
MULTIRUN = ("-m", "--multirun")


def configs(config_name: str, arguments: Sequence[str]) -> list[dict[str, Any]] | None:
    """The plain config of each job in order; None where Hydra itself must run them, by a launcher or sweeper chosen.

    Composing takes Hydra a third of a second. So jobs that differ by values alone, not by what is chosen from a group,
    share a composition: the values are set in a copy of it. Raises ValueError for what Hydra cannot compose.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return _composed(config_name, arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _composed(config_name: str, arguments: Sequence[str]) -> list[dict[str, Any]] | None:
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = without_flags(arguments)
    folders = [str(folder.absolute()) for folder in config_folders(arguments)]
    flags = [argument for argument in arguments if argument.startswith("-")]
    known = [flag for flag in flags if flag in MULTIRUN or flag.split("=")[0] in ("--config-dir", "-cd")]
    if len(flags) > len(known) or any(override.lstrip("+~").startswith("hydra") for override in overrides):
        return None
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders)}]"] if folders else []
    with initialize_config_module("assay.configs", version_base="1.3", job_name="assay"):
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        parsed = parser.parse_overrides(overrides)
        first = [str(one.input_line) if not one.is_sweep_override() else _first(one) for one in parsed]
        hydra = compose(config_name, [*first, *search], return_hydra_config=True).hydra
        if not all(str(node._target_).endswith(BASIC) for node in (hydra.launcher, hydra.sweeper)):
            return None
        if not set(MULTIRUN) & set(flags) and hydra.mode is None:
            return (
                None
                if any(one.is_sweep_override() for one in parsed)
                else [plain_config(compose(config_name, [*overrides, *search]))]
            )
        params = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
        return list(_combinations(config_name, parser.parse_overrides([*params, *overrides]), search, parser))


def _first(override: Any) -> str:
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _combinations(
    config_name: str, overrides: Sequence[Any], search: Sequence[str], parser: Any
) -> Iterator[dict[str, Any]]:
    from hydra import compose
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from omegaconf import OmegaConf

    composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]] | None] = {}
    parse = cache(parser.parse_override)
    (jobs,) = BasicSweeper.split_arguments(list(overrides), None)
    for job in jobs:
        parsed = [parse(text) for text in job]
        values = [one for one in parsed if _sets_a_value(one)]
        chosen = tuple(str(one.input_line) for one in parsed if one not in values)
        if (shared := composed.get(chosen)) is None:
            config = compose(config_name, [*job, *search])
            plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
            composed[chosen] = None if _refers(OmegaConf.to_container(config)) else (config, plain)
        else:
            config, plain = shared
            for one in values:
                plain = _with_value(plain, one.key_or_group.split("."), one.value())
        yield without_unchosen(plain, config)


def _sets_a_value(override: Any) -> bool:
    """Whether an override sets one value, rather than choosing from a group, adding, deleting or merging."""
    chooses = override.key_or_group in (*GROUPS, *PRESETS.values(), ENGINE) or "/" in override.key_or_group
    plain = not override.is_add() and not override.is_delete() and override.package is None
    return plain and not chooses and not isinstance(override.value(), dict)


def _with_value(node: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """The same with another value at a path; what does not change is shared."""
    name, *rest = path
    return node | {name: _with_value(node[name], rest, value) if rest else value}


def _refers(node: Any) -> bool:
    """Whether an unresolved config refers to other values of its own, so that it must be composed for each job."""
    if isinstance(node, dict):
        return any(map(_refers, node.values()))
    if isinstance(node, list):
        return any(map(_refers, node))
    return isinstance(node, str) and "${" in node.replace("${oc.env:", "")
