"""The options of `interpolate`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Which paths are sought, how, and what is measured on them.

    spaces:    latent spaces, of those that the generator has; by default its first.
    features:  an extractor that shows its layers; "features" is the one of the run.
    judges:    any extractors.
    power, levels, iterations, lr, chunk: see `metrics.paths.energy`.
    per_channel: equalise each channel alone.
    typical:   mean and standard deviation of equalised images where the network sees them; by default those of the
               images of the ends, on average. (0.45, 0.23) is typical of photographs.
    constrain: "sphere" keeps latents on a sphere of radius sqrt(D), "free" does not; "auto" does where twice a latent
               gives the same image.
    starts:    from how many middles a path is optimised, to tell local minima: the mean of the ends, and others half
               their distance away from it, on the first pairs. The paths shown and measured are those of the first.
    rounds:    after the paper's procedure, how often each pair that another row undercuts in the scheme's own energy
               goes on from that row's path, for `iterations` more at a tenth of the learning rate; until none is left,
               0: never. So each scheme has the least energy of all rows in its own distance by construction, up to the
               excess recorded; how far the procedure comes by itself is recorded as "at first". All else, but for the
               curve of energy and the other starts, is measured on the paths after the rounds. A pair that went on
               keeps much of the look of the row it went on from, the more as equalised energies see neither brightness
               nor contrast.
    shown:     pairs that are drawn.
    Raises ValueError for numbers out of range.
    """

    spaces: Sequence[str] = ()
    features: str = "features"
    judges: Sequence[str] = ()
    power: int = 1
    per_channel: bool = False
    typical: Sequence[float] = ()
    levels: int = 5
    iterations: int = 50
    lr: float = 0.01
    constrain: str = "auto"
    starts: int = 3
    rounds: int = 8
    pairs: int = 64
    chunk: int = 64
    shown: int = 3

    def __post_init__(self) -> None:
        for name in ("levels", "iterations", "starts", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.rounds < 0:
            raise ValueError(f"rounds={self.rounds} must be 0 or more")
        if self.pairs < 2:
            raise ValueError(f"pairs={self.pairs} must be 2 or more: an interval needs them")
        if len(self.typical) not in (0, 2):
            raise ValueError(f"typical={list(self.typical)} must be a mean and a standard deviation")
        if self.constrain not in ("auto", "sphere", "free"):
            raise ValueError(f"constrain={self.constrain!r} must be auto, sphere or free")
