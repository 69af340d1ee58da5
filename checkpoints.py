"""What a generator in a file of its own needs: checkpoints, networks that fit them, and draws that a seed decides.

Nothing that a file contains is run. CONTRIBUTING has a whole generator in 45 lines.

- `read_checkpoint(path)`: `content` (tensors, arrays, plain values, records of all else), `sha256` and `card`.
- `tensors_of(record)`, `arguments_of(record)`: the state dict of a pickled module, and what its constructor was given.
- `built(make, tensors, path)`: the network that `make` describes, with these tensors; sizes that a file only declares
  take no memory, and options that `make` does not know are refused. `whole(value, name)`: a number of a file.
- `normal(seeds, *shape)`, `labels(seeds, classes, label)`: noise and classes; item i depends on seeds[i] alone.
- `fingerprint(*parts)`: what a generator says of itself, so that its arrays are found again and nobody else's are.
"""

from .generators.networks.seeds import labels, normal
from .harness.core.files import digest as fingerprint
from .harness.formats.built import built, whole
from .harness.formats.checkpoint import Checkpoint, arguments_of, read_checkpoint, tensors_of
from .harness.formats.inert import Inert

__all__ = [
    "Checkpoint", "Inert", "arguments_of", "built", "fingerprint", "labels", "normal", "read_checkpoint", "tensors_of",
    "whole",
]  # fmt: skip
