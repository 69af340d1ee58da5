"""StyleGAN2 files of NVIDIA's PyTorch code (ADA, and the code of StyleGAN3): their options, understood or refused."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...harness.formats.built import whole
from ...harness.formats.checkpoint import tensors_of
from .published import load_network
from .stored_options import arguments, number, require_understood, section, yes
from .stylegan2_layers import widened
from .stylegan2_networks import Discriminator

FIR = [1, 3, 3, 1]
TAPS = 64
"""Largest size of a smoothing kernel."""
TOP = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs")
MAPPING = ("num_layers", "embed_features", "layer_features", "lr_multiplier", "w_avg_beta")
SYNTHESIS = ("channel_base", "channel_max", "architecture", "conv_clamp", "use_noise", "resample_filter")
DISCRIMINATOR = ("img_resolution", "img_channels", "channel_base", "channel_max", "conv_clamp", "cmap_dim",
                 "mapping_kwargs", "block_kwargs", "epilogue_kwargs")  # fmt: skip
"""Options of a discriminator; those for labels do nothing without classes."""
LRELU = {"activation": "lrelu"}
PRECISION = ("num_fp16_res", "use_fp16", "fp16_channels_last", "channels_last", "fused_modconv_default")
"""Options that change only rounding: assay computes in float32."""


def sizes_of(init: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of latents, labels and images among the constructor arguments of a NVIDIA generator."""
    return {
        "z_dim": whole(init["z_dim"], "z_dim"),
        "c_dim": whole(init["c_dim"], "c_dim", least=0),
        "w_dim": whole(init["w_dim"], "w_dim"),
        "resolution": whole(init["img_resolution"], "img_resolution"),
        "image_channels": whole(init["img_channels"], "img_channels"),
    }


def nvidia_network(record: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of StyleGAN2Network and its state dict, from the record of a generator.

    Raises ValueError with the option that is not understood.
    """
    init = arguments(record)
    ada = "synthesis_kwargs" in init
    mapping, rest = section(init, "mapping_kwargs"), {name: value for name, value in init.items() if name not in TOP}
    synthesis = section(init, "synthesis_kwargs") if ada else rest
    if ada:
        require_understood(rest, ("synthesis_kwargs",))
    require_understood(mapping, MAPPING, LRELU)
    require_understood(synthesis, (*SYNTHESIS, *PRECISION), LRELU | {"kernel_size": 3})
    architecture = synthesis.get("architecture", "skip")
    if architecture not in ("skip", "resnet"):
        raise ValueError(f"option architecture={architecture!r} must be 'skip' or 'resnet'")
    clamp = synthesis.get("conv_clamp", None if ada else 256)
    taps = taps_of(synthesis.get("resample_filter", FIR))
    shape = {
        **sizes_of(init),
        "base": whole(synthesis.get("channel_base", 32768), "channel_base"),
        "max_channels": whole(synthesis.get("channel_max", 512), "channel_max"),
        "mapping_layers": whole(mapping.get("num_layers", 8), "num_layers"),
        "mapping_width": _width(mapping, "layer_features"),
        "embedding": _width(mapping, "embed_features"),
        "mapping_lr": number(mapping.get("lr_multiplier", 0.01), "lr_multiplier"),
        "architecture": architecture,
        "clamp": None if clamp is None else number(clamp, "conv_clamp", least=0),
        "noisy": yes(synthesis.get("use_noise", True), "use_noise"),
        "taps": taps,
    }
    filters = re.compile(r"synthesis\..*resample_filter")
    tensors = tensors_of(record)
    return shape, {
        name: widened(x, taps) if filters.fullmatch(name) and x.ndim and max(x.shape) <= taps else x
        for name, x in tensors.items()
    }


def nvidia_discriminator(record: Any, ada: bool, path: str) -> tuple[Discriminator | None, str]:
    """The discriminator of a file, and a note for the card. Only the unconditional residual one can be opened.

    ada: whether the file comes from the code of ADA, whose default for conv_clamp differs.
    """
    if record is None:
        return None, "none in the file"
    try:
        init = arguments(record)
        block, epilogue = section(init, "block_kwargs"), section(init, "epilogue_kwargs")
        require_understood(init, (*DISCRIMINATOR, *PRECISION), {"c_dim": 0, "architecture": "resnet"})
        require_understood(block, (*PRECISION, "freeze_layers"), LRELU | {"resample_filter": FIR})
        require_understood(epilogue, ("mbstd_group_size",), LRELU | {"mbstd_num_channels": 1})
        clamp, group = init.get("conv_clamp", None if ada else 256), epilogue.get("mbstd_group_size", 4)
        if group is None:
            raise ValueError("mbstd_group_size=None: its logits depend on the whole batch")
        shape = (
            whole(init["img_resolution"], "img_resolution"),
            whole(init["img_channels"], "img_channels"),
            whole(init.get("channel_base", 32768), "channel_base"),
            whole(init.get("channel_max", 512), "channel_max"),
            whole(group, "mbstd_group_size"),
            None if clamp is None else number(clamp, "conv_clamp", least=0),
        )
        # Blocks of the published discriminator store a filter that only the other architectures use.
        unused = re.compile(r"b\d+\.resample_filter")
        tensors = {name: tensor for name, tensor in tensors_of(record).items() if not unused.fullmatch(name)}
        return load_network(
            lambda: Discriminator(*shape), tensors, path
        ), "in the file (not proven equal to the published code)"
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return None, f"in the file, not opened ({' '.join(str(error).split())[:200].removeprefix(f'{path} ')})"


def _width(options: Mapping[str, Any], name: str) -> int | None:
    """An option for which None stands for the width of w."""
    return None if options.get(name) is None else whole(options[name], name)


def taps_of(option: Any) -> int:
    """The even size, at least 4, of a kernel that holds the filter of an option; None is no smoothing, one tap."""
    count = len(option) if isinstance(option, list | tuple) else 1
    if not 1 <= count <= TAPS or not (option is None or isinstance(option, list | tuple | int | float)):
        raise ValueError(f"option resample_filter must be a list of 1 to {TAPS} numbers")
    return max(4, count + count % 2)
