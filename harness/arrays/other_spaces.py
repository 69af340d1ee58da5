"""The views of a metric in another space than it declares, and with reference codes from elsewhere."""

from collections.abc import Mapping
from dataclasses import replace

from ..core.declarations import Metric
from ..core.protocols import View
from ..core.registry import unknown
from .spaces import OF_CODES, in_latent_space

EXCHANGED = ("mean", "sample", "prior", "inversion")
"""Where codes may come from instead of where a metric declares; log variances are no codes."""


def in_space(metric: Metric, space: str) -> Mapping[str, View]:
    """The views of a metric in another space. Raises ValueError for a metric of several spaces.

    What is known of codes in several ways goes into another latent space as a whole.
    """
    spaces = list(dict.fromkeys(view.space for view in metric.views.values()))
    kind, _, latent_space = space.partition(":")
    if latent_space and kind in OF_CODES and set(spaces) <= set(OF_CODES) and spaces != ["latent"]:
        return {
            name: replace(view, space=in_latent_space(view.space, latent_space)) for name, view in metric.views.items()
        }
    if len(spaces) > 1:
        raise ValueError(f"{metric.name} compares {' with '.join(spaces)}, so leave out space: both would be the same")
    return {name: replace(view, space=space) for name, view in metric.views.items()}


def encoded(metric: str, views: Mapping[str, View], encode: str) -> Mapping[str, View]:
    """The views of a metric with codes from elsewhere. Raises ValueError where it reads no such codes."""
    names = exchangeable(views)
    if not names:
        raise ValueError(
            f"encode={encode} does not apply to {metric}: it reads no reference codes that others could replace"
        )
    if encode not in EXCHANGED:
        raise ValueError(unknown("encode", encode, list(EXCHANGED)))
    return {name: replace(view, encode=encode) if name in names else view for name, view in views.items()}  # type: ignore[arg-type]


def exchangeable(views: Mapping[str, View]) -> set[str]:
    """Those of the views whose codes may come from elsewhere: reference codes, or those that leave a residual.

    None where the codes are of several sorts, such as means beside samples, or log variances: each sort has its part.
    Those that are declared as of the prior stay.
    """
    codes = {name: view.encode for name, view in views.items() if _has_codes(view) and view.encode != "prior"}
    sorts = set(codes.values())
    return set(codes) if len(sorts) == 1 and "logvar" not in sorts else set()


def _has_codes(view: View) -> bool:
    kind = view.space.partition(":")[0]
    return kind == "residual" or (kind == "latent" and view.source != "fake")


def asks_encoder(view: View) -> bool:
    """Whether a view asks an encoder for codes that a prior can stand in for."""
    latent = view.space.partition(":")[0] == "latent"
    return latent and view.source != "fake" and view.encode in ("mean", "sample")
