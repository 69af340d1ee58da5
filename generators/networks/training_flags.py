"""Flags of OpenAI's scripts and configs of latent-diffusion: what the weights of a network do not contain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...harness.formats.settings import read_settings
from .openai_unet import Heads

T = TypeVar("T", int, bool, str)
UNSET = -1
"""What stands for a number of heads, or of their channels, that is not set."""
HEADS = {"num_heads", "num_head_channels"}


def read_flags(checkpoint: Path, args: str, family: str) -> dict[str, Any]:
    """The settings that are not in the weights: flags of OpenAI's scripts, or a config of latent-diffusion.

    args: a JSON or YAML file; "" for FILE.args.EXT or STEM.args.EXT beside the checkpoint, EXT being json, yaml or yml,
    or a config of latent-diffusion in STEM.yaml or config.yaml.
    Raises ValueError when there is no such file, it does not contain a mapping, or two such files disagree.
    """
    if (flags := find_flags(checkpoint, args, family)) is None:
        raise ValueError(
            f"{checkpoint} does not contain the training flags of its network: write them to "
            f"{checkpoint.stem}.args.json beside it, or give generator.{family}.args=FILE (JSON or YAML)"
        )
    return flags


def find_flags(checkpoint: Path, args: str, family: str) -> dict[str, Any] | None:
    """`read_flags`, or None when `args` is empty and there is no such file beside the checkpoint."""
    stems = (checkpoint.name, checkpoint.stem)
    own = [checkpoint.with_name(f"{stem}.args.{end}") for end in ("json", "yaml", "yml") for stem in stems]
    configs = [checkpoint.with_name(name) for name in (f"{checkpoint.stem}.yaml", "config.yaml")]
    if args:
        if not (file := Path(args).expanduser()).is_file():
            raise ValueError(f"{args} does not exist; give generator.{family}.args=FILE")
        return _flags_in(file)
    found = {file: _flags_in(file) for file in (*own, *configs) if file.is_file()}
    known = {file: flags for file, flags in found.items() if file in own or "model" in flags}
    _require_agreement(known, family)
    return next(iter(known.values()), None)


def _require_agreement(known: Mapping[Path, Mapping[str, Any]], family: str) -> None:
    """Raises ValueError where a file beside a checkpoint states other settings than the one that would be taken."""
    if len(known) < 2:
        return
    (taken, flags), *others = known.items()
    for file, other in others:
        shared = flags.keys() & other.keys()
        if HEADS & flags.keys() and HEADS & other.keys():
            shared |= HEADS & (flags.keys() | other.keys())
        for name in sorted(shared):
            if (one := flags.get(name, UNSET)) != (two := other.get(name, UNSET)):
                raise ValueError(
                    f"{taken.name} and {file.name} lie beside the checkpoint and disagree: {name} is {one} and {two}; "
                    f"remove the one that belongs to another file, or give generator.{family}.args=FILE"
                )


def _flags_in(file: Path) -> dict[str, Any]:
    try:
        flags = read_settings(file)
        outer = flags["model"]["params"] if "model" in flags else {}
        inner = outer["unet_config"]["params"] if "unet_config" in outer else {}
        return {**flags, **outer, **inner}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file} holds no settings in JSON or YAML that are flags or a config of latent-diffusion ({error})"
        ) from None


def flag(flags: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A required flag of type `kind`. Raises ValueError with its name when it is missing or has another type."""
    if name not in flags:
        raise ValueError(f"the training flags lack {name}, which the weights do not contain; add it")
    value = flags[name]
    if type(value) is not kind:
        raise ValueError(f"training flag {name}={value!r} must be of type {kind.__name__}")
    return value


def heads_of(flags: Mapping[str, Any]) -> Heads:
    """The heads from the flags num_head_channels, num_heads, num_heads_upsample and use_new_attention_order.

    As in the public scripts, -1 means that a number is not set, and the default order is the legacy one.
    """
    count, width, count_up = (
        flag(flags, name, int) if flags.get(name, UNSET) != UNSET else None
        for name in ("num_heads", "num_head_channels", "num_heads_upsample")
    )
    for name, number in (("num_heads", count), ("num_head_channels", width), ("num_heads_upsample", count_up)):
        if number is not None and number < 1:
            raise ValueError(f"training flag {name}={number} must be positive, or -1 where it is not set")
    if count is None and width is None:
        raise ValueError("the training flags lack num_heads and num_head_channels, which the weights do not contain")
    new_order = flag({"use_new_attention_order": False, **flags}, "use_new_attention_order", bool)
    return Heads(count, width, count_up, new_order)
