"""Modules that have moved keep importing under their old names, `metrics.path_energy` for `metrics.paths.energy`."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __package__.removesuffix(".harness.core")
FOLDERS: Mapping[str, str] = {
    "harness.core": "harness.files harness.progress harness.protocols harness.registry metrics.inputs",
    "harness.formats": "harness.checkpoint harness.download harness.feature_files harness.images harness.pickles "
    "harness.weights",
    "harness.arrays": "harness.costs harness.inversion harness.records harness.scores harness.store harness.views",
    "harness.stats": "harness.auroc metrics.intervals",
    "harness.shapes": "harness.pictures harness.shading harness.surfaces",
    "harness.report": "harness.figures harness.html harness.tables harness.typeset",
    "harness.studies.few_shot": "metrics.episodes metrics.representatives",
    "metrics.kernels": "metrics.approximate metrics.balls metrics.distances metrics.memo metrics.moments",
    "generators.sampling": "metrics.editing metrics.jacobian metrics.perturbation metrics.polarity metrics.selection "
    "metrics.transport metrics.truncation",
    "generators.networks": "generators.ddim generators.openai_unet generators.seeds",
    "datasets.parts": "datasets.idx datasets.meshes datasets.primitives datasets.sdf_shapes datasets.sources "
    "datasets.splits",
}
"""Old names by the folder that the modules are in now."""
MOVED: Mapping[str, str] = {
    **{old: f"{new}.{old.split('.')[1]}" for new, names in FOLDERS.items() for old in names.split()},
    "generators.autoencoder_kl": "generators.autoencoder",
    "harness.study": "harness.run",
    "metrics.few_shot": "harness.studies.few_shot.prototypes",
    "metrics.path_distances": "metrics.paths.distances",
    "metrics.path_energy": "metrics.paths.energy",
    "metrics.path_shape": "metrics.paths.shape",
}


class Moved(MetaPathFinder, Loader):
    """Finds a module under its old name: it is the module of the new name itself, not a copy."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.removeprefix(f"{PACKAGE}.") in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__.removeprefix(f"{PACKAGE}.")]
        sys.modules[module.__name__] = importlib.import_module(f"{PACKAGE}.{new}")


def install() -> None:
    """Make old names importable; a second call changes nothing."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
