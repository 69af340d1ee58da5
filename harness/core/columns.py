"""Columns that long tables have whatever they are about."""

HOLM = "holm_p"
"""The p-value of a comparison, corrected for all others of its family."""
NUMBERS = ["value", "low", "high"]
FLOOR = ["floor", "floor_low", "floor_high", "floor_n"]
"""What a set metric says of real samples in place of generated ones, and of how many."""
BESIDE = [*NUMBERS, "n", "missing", *FLOOR, HOLM]
"""Columns that tell of the number in a row; all others tell what it is."""
RESERVED = ("dataset", "generator", "seed", "samples", "run", *BESIDE)
"""Columns of every table of a study; `run` is that of the page."""
