"""Which latent space a study takes: the one asked for, or by default the one that fits its question."""

from ..run import Run


def chosen_space(run: Run, space: str, auto: str) -> str:
    """`space`, or `auto` where it is "auto". Raises ValueError for one that the generator does not have."""
    spaces = run.views.generator.spaces
    if space == "auto":
        return auto
    if space not in spaces:
        raise ValueError(f"space={space!r} is not one of this generator's: {', '.join(spaces)}")
    return space


def prior_space(run: Run) -> str:
    """The space that sampling starts from: the noise of a diffusion model, else the first space."""
    spaces = run.views.generator.spaces
    return "x_T" if "x_T" in spaces else spaces[0]
