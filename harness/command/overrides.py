"""Overrides in Hydra's grammar: what a user may leave out of them, and what is wrong with one, with the way out."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..core.progress import say
from ..core.registry import GROUPS, Registry, unknown

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = {"evaluate": "experiment", "train": "tuning"}
"""The group of ready-made configs of each command."""
LISTS = "networks"
"""The group of lists of networks, which both commands take."""
ENGINE = "engine"
"""The group of who does the work."""
DEFAULT_DATA = "fashion_mnist"
CONFIG_DIR = ("--config-dir", "-cd")
VALUED = (
    *CONFIG_DIR, "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c",
    "--experimental-rerun",
)  # fmt: skip
"""Flags of Hydra whose value is the next argument."""
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What may follow Hydra's flag --info."""


def is_glob(group: str, overrides: Sequence[str]) -> bool:
    """Whether the names of a group are a pattern, group=glob(...), so that nobody asked for any one of them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(without_flags(overrides))
    except OverrideParseException:  # hydra itself says what is wrong, at the place where it is
        return False
    return any(one.key_or_group == group and one.value_type == ValueType.GLOB_CHOICE_SWEEP for one in parsed)


def full_names(overrides: Sequence[str], default: str) -> list[str]:
    """`generator.path=FILE` beside `generator=stylegan2` is `generator.stylegan2.path=FILE`; so in all groups."""
    chosen = {"generator": default, "trainer": default, "dataset": DEFAULT_DATA}
    chosen |= dict(re.findall(r"^(\w+)=(\w+)$", "\n".join(overrides), re.MULTILINE))
    full = []
    for override in overrides:
        group, _, rest = override.partition("=")[0].partition(".")
        name = chosen.get(group)
        is_option = bool(name in GROUPS.get(group, ()) and rest in GROUPS[group][str(name)].options)
        full.append(override.replace(f"{group}.", f"{group}.{name}.", 1) if is_option else override)
    return full


def without_data(overrides: list[str]) -> list[str]:
    """A generator of other people's samples has no data set of ours: it stands alone unless the user names one."""
    chosen = dict(re.findall(r"^(generator|dataset|experiment)=([\w,/-]+)$", "\n".join(overrides), re.MULTILINE))
    name = chosen.get("generator", "vae")
    if "dataset" in chosen or "experiment" in chosen or name not in GROUPS["generator"]:
        return overrides
    path = f"generator.{name}.path="
    ours = GROUPS["generator"][name].options.get("path", "zoo") == "zoo"
    if ours and not any(override.startswith(path) for override in overrides):
        return overrides
    if option := next((override for override in overrides if override.startswith("dataset.")), None):
        given = option.partition("=")[0].rpartition(".")[2]
        raise ValueError(
            f"dataset.{given} is given, and no data set: add dataset=folder for images in a folder (dataset.root=DIR), "
            "dataset=array for a .npy or .npz file (dataset.path=FILE), or dataset=NAME"
        )
    say("no data set was named: the generator is looked at alone (dataset=none)")
    return [*overrides, "dataset=none"]


def with_metrics(overrides: list[str]) -> list[str]:
    """`metric.NAME.OPTION=VALUE` alone chooses that metric, so that the option has its place."""
    keys = [override.partition("=")[0] for override in without_flags(overrides)]
    names = list(dict.fromkeys(re.findall(r"^metric\.(\w+)\.", "\n".join(keys), re.MULTILINE)))
    chosen = {"metric", "experiment"} & set(keys) or any(argument.startswith(VALUED) for argument in overrides)
    return overrides if chosen or not names else [*overrides, f"metric=[{','.join(names)}]"]


def check_names(overrides: Sequence[str], config_name: str) -> None:
    """Raise LookupError for a name that nothing knows; hydra's own message would not say which are near."""
    from omegaconf import OmegaConf

    preset = PRESETS[config_name]
    folders = [CONFIGS, *config_folders(overrides)]
    presets, lists = (
        sorted(file.stem for folder in folders for file in (folder / group).glob("*.yaml")) for group in (preset, LISTS)
    )
    options = [str(key) for key in OmegaConf.load(CONFIGS / f"{config_name}.yaml") if key != "defaults"]
    overrides = without_flags(overrides)
    check_grammar(overrides)
    _check_chosen(overrides)
    for override in overrides:
        if override.startswith(("+", "~", "hydra")):
            continue
        key, equals, value = override.partition("=")
        group, *rest = key.split(".")
        if not equals:
            raise ValueError(f"{override!r} is no override; write option=value")
        if group == preset and re.fullmatch(r"[\w-]+", value) and value not in [*presets, "null"]:
            raise LookupError(unknown(preset, value, presets))
        if group == LISTS and not rest and re.fullmatch(r"[\w-]+", value) and value not in lists:
            raise LookupError(unknown("list of networks", value, lists))
        if group not in (known := [*options, *GROUPS, preset, LISTS, ENGINE]):
            raise LookupError(unknown("option", group, known))
        if group == ENGINE:
            _check_engine(overrides)
        if group not in GROUPS:
            continue
        registry: Registry = GROUPS[group]
        names = rest[:1] if rest else re.findall(r"\w+", value) if "(" not in value and value != "null" else []
        for name in names:
            if name != "all":
                registry[name]
        if len(rest) > 1 and rest[1] not in registry[rest[0]].options:
            raise LookupError(unknown(f"option of {group} {rest[0]}:", rest[1], sorted(registry[rest[0]].options)))


def check_grammar(overrides: Sequence[str]) -> None:
    """Raise ValueError with the way out for a value that Hydra's grammar does not take, as paths often are."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    for override in overrides:
        try:
            OverridesParser.create().parse_overrides([override])
        except OverrideParseException:
            key, equals, value = override.partition("=")
            if not equals:
                raise ValueError(f"{override!r} is no override; write option=value") from None
            inner = value.strip("\"'").replace('"', r"\"")
            quoted = shlex.quote(f'{key}="{inner}"')
            raise ValueError(
                f"{key}={value} is not in Hydra's grammar: quote the value, {quoted}; or give folders and files "
                "just as they are with --fake PATH and --real PATH"
            ) from None


def _check_engine(overrides: Sequence[str]) -> None:
    """Raise LookupError for an unknown engine, or an option that the chosen one does not have."""
    from omegaconf import OmegaConf

    chosen = dict(override.split("=", 1) for override in overrides if override.startswith(ENGINE))
    engines = {file.stem: file for file in sorted((CONFIGS / ENGINE).glob("*.yaml"))}
    name = chosen.pop(ENGINE, "local")
    if not re.fullmatch(r"\w+", name):  # several, of which Hydra makes jobs
        return
    if name not in engines:
        raise LookupError(unknown("engine", name, list(engines)))
    options = [str(key) for key in OmegaConf.load(engines[name])]
    for option in chosen:
        if (key := option.split(".")[1]) not in options:
            raise LookupError(unknown(f"option of engine {name}:", key, options))


def is_left_out(name: str, chosen: str) -> bool:
    """Whether the value of `study=[...]` and the like is without a name; a pattern or a sweep may have any."""
    return "(" not in chosen and not {name, "all"} & set(re.findall(r"\w+", chosen))


def _check_chosen(overrides: Sequence[str]) -> None:
    """Raise ValueError for an option of a generator, data set, sink, metric or study that was not chosen."""
    chosen = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    for override in overrides:
        group, _, rest = override.partition("=")[0].partition(".")
        name = rest.partition(".")[0]
        if group in ("generator", "dataset", "sink", "metric", "study") and name in GROUPS[group] and group in chosen:
            if is_left_out(name, chosen[group]):
                raise ValueError(f"{override} is an option of {name}, and {group}={chosen[group]} was chosen")
        elif group == "sink" and name in GROUPS[group] and not {"sink", "experiment"} & chosen.keys():
            raise ValueError(f"{override} is an option of {name}, which was not chosen: add sink={name}")
        elif group == "dataset" and name in GROUPS[group] and "experiment" not in chosen and name != DEFAULT_DATA:
            raise ValueError(f"{override} is an option of {name}, which was not chosen: add dataset={name}")


def without_flags(arguments: Sequence[str]) -> list[str]:
    """The overrides among arguments of Hydra: neither its flags nor their values."""
    values = {i + 1 for i, argument in enumerate(arguments) if argument in VALUED}
    values |= {i + 1 for i, one in enumerate(arguments[:-1]) if one in ("--info", "-i") and arguments[i + 1] in INFO}
    return [text for i, text in enumerate(arguments) if i not in values and not text.startswith("-")]


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """Folders of configs of the user's own."""
    pairs = [(one, other) for one, other in zip(arguments, [*arguments[1:], ""], strict=True) if one in CONFIG_DIR]
    joined = [tuple(one.split("=", 1)) for one in arguments if one.startswith(tuple(f"{name}=" for name in CONFIG_DIR))]
    return [Path(folder) for _, folder in [*pairs, *joined]]
