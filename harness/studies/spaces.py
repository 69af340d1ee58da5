"""Which latent space a study takes: the one asked for, or by default the one that fits its question."""

from ..arrays.spaces import OF_CODES
from ..core.protocols import Cell
from ..core.registry import METRICS
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


def in_latent_space(run: Run, cell: Cell, space: str) -> Cell:
    """A cell that reads codes of the first space, and nothing else, with those of `space`; any other as it is."""
    if not {view.space for view in cell.views.values()} <= set(OF_CODES) or space == run.views.generator.spaces[0]:
        return cell
    declared = METRICS[cell.metric].views
    asked = {view.encode for name, view in cell.views.items() if view.encode not in (declared[name].encode, "prior")}
    return run.cell(cell.metric, space=f"latent:{space}", encode=next(iter(asked), None), **cell.params)
