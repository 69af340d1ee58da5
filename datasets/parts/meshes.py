"""Data sets of mesh files, as volumes of signed distances."""

from collections.abc import Mapping, Sequence

import torch

from ...harness.core.protocols import Samples, Split
from ...harness.shapes.mesh_files import MeshFiles
from .splits import check_range


class Meshes:
    """A Dataset of mesh files, which `take` reads. names: of the files, by split, in the order of the samples."""

    def __init__(
        self,
        name: str,
        files: MeshFiles,
        names: Mapping[Split, Sequence[str]],
        labels: Mapping[Split, Sequence[int]] | None,
        classes: Sequence[str],
        fingerprint: str,
    ):
        self.name, self._files, self.names, self._labels = name, files, names, labels
        self.classes, self.fingerprint = classes, fingerprint

    def count(self, split: Split) -> int:
        return len(self.names[split])

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        volumes = self._files.load(self.names[split][start:stop])
        return Samples(volumes, None if self._labels is None else torch.tensor(self._labels[split][start:stop]))
