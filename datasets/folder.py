"""Image files in a folder or a container of files, with classes as sub-folders or as it states them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..harness.core.protocols import Dataset, Samples, Split
from ..harness.core.registry import dataset
from ..harness.core.texts import Texts
from ..harness.formats.arrays import holds_arrays, kind_of
from ..harness.formats.containers.open import container_of
from ..harness.formats.images import AUTO, MODES, Pictures
from .parts.layout import classes_of, layout
from .parts.splits import check_holdout, check_range, divided, image_fingerprint


class Folder:
    """A Dataset of image files, which `take` decodes. names: of the files, by split, in the order of the samples."""

    name = "folder"

    def __init__(
        self,
        pictures: Pictures,
        names: Mapping[Split, Texts],
        labels: Mapping[Split, NDArray[np.int64]] | None,
        classes: Sequence[str],
        fingerprint: str,
    ):
        self._pictures, self.names, self._labels = pictures, names, labels
        self.classes, self.fingerprint = classes, fingerprint

    def count(self, split: Split) -> int:
        return len(self.names[split])

    def take(self, split: Split, start: int, stop: int) -> Samples:
        check_range(self.name, split, self.count(split), start, stop)
        images = self._pictures.load(self.names[split][start:stop])
        return Samples(
            images, None if self._labels is None else torch.from_numpy(self._labels[split][start:stop].copy())
        )


@dataset
def folder(root: str = "", size: int = 0, mode: str = AUTO, holdout: float = 0.0) -> Dataset:
    """Images of the folder `root`, or of one packed as .zip or .tar; each sub-folder is a class.

    Others are read too: tar archives of WebDataset, and folders of them, with labels in .cls files; Parquet and Arrow
    files with a column of images, and folders of them; LMDB databases of encoded images. Where shards are called train
    and test (or val, validation), these are the splits.

    All files that Pillow decodes are read, through links too; the suffixes of others are said. The sha256 of the pixels
    decides the order, and neither names nor formats of files matter. Images directly in `root` have no labels.
    Instead, `root` may contain train/ and test/ (or val/, if there is no test/), each with the same layout, or each
    class may contain them. Where there is a dataset.json of StyleGAN, labels are those in it, and folders no classes.

    size: 0 keeps the stored size, which must be the same for all images. Otherwise the shorter side is resized to
    `size` (bicubic, with antialiasing) and the central size × size pixels are cut out.
    mode: "RGB", "L" (grey), or "auto": grey if all images are. Images count as they are shown: EXIF orientation is
    applied, transparent parts are blended over white, of several frames the first is taken. How many images that
    concerns is said.
    holdout: if there are no folders for the splits, the share of images that become the test split; their pixels decide
    which. 0: all images are for training, and metrics that need held-out images cannot be computed.

    Raises FileNotFoundError, and ValueError with the name of a file that cannot be read or does not fit.
    """
    check_holdout("folder", holdout)
    if not root:
        raise ValueError("data set folder needs a directory: give dataset.folder.root=DIRECTORY")
    top = Path(root).expanduser()
    if not top.exists():
        raise FileNotFoundError(f"dataset.folder.root={root} does not exist; give a directory, or an archive of images")
    if holds_arrays(top):
        raise ValueError(f"dataset.folder.root={root} holds arrays; use dataset=array dataset.array.path={root}")
    if not container_of(top):
        kind = kind_of(top) or "neither a folder nor an archive, table or database of images"
        raise ValueError(f"dataset.folder.root={root} is {kind}")
    pictures = Pictures("dataset.folder", top, size, mode, "give dataset.folder.size=PIXELS to resize them all")
    found = layout("dataset.folder.root", top, pictures.names)
    if stated := pictures.labels(found.names):
        classes, number = stated
        labels = number if classes else None
    else:
        classes, labels = classes_of(top, found)
    contents = pictures.contents[found.places]
    rows = divided("folder", contents, labels, found.splits, holdout)
    fingerprint = image_fingerprint(MODES[pictures.mode], contents, labels, classes, rows)
    names = {split: found.names.at(numbers) for split, numbers in rows.items()}
    by_split = None if labels is None else {split: labels[numbers] for split, numbers in rows.items()}
    return Folder(pictures, names, by_split, classes, fingerprint)
