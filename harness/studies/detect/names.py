"""Words in the tables of `detect`."""

from ..conditions import CLASS

BY_SORT = f"{CLASS} + typicality"
"""Beside nothing and the class, what is held fixed: pairs of samples are compared within strata of it."""
OTHER = f"{CLASS} + the other"
"""What is held fixed of correlations: the class, and that of soundness and typicality that is not the fact."""
ANY, RARE = "any fault", "rare, not faulty"
SOUNDNESS, TYPICALITY = "soundness", "typicality"
EXAMPLES = "faults"
"""What the picture of samples in each state is called."""
