"""The generator without samples says so."""

import pytest

from assay.generators.none import none


def test_it_refuses_by_name() -> None:
    nothing = none("digits")
    with pytest.raises(ValueError, match="generator 'none' has no samples; choose another with generator=NAME"):
        nothing.latents([0])
    with pytest.raises(ValueError, match="has no samples"):
        nothing.decode([], "z")  # type: ignore[arg-type]
