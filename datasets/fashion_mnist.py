"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): 70,000 grey images 28×28 of clothes, ten classes."""

from ..harness.core.protocols import Dataset
from ..harness.core.registry import dataset
from .parts.idx import idx_dataset
from .parts.sources import debian_package, download, system_folder

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FOLDER = "usr/share/datasets/fashion-mnist"
SOURCES = (
    system_folder(f"/{FOLDER}"),
    download("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", 31),
    debian_package("dataset-fashion-mnist", FOLDER, 31),
)


@dataset
def fashion_mnist(root: str | None = None) -> Dataset:
    """Fashion-MNIST, 60,000 training and 10,000 test images [1, 28, 28]. root: a folder with its four IDX files."""
    return idx_dataset("fashion_mnist", CLASSES, SHA256, SOURCES, root)
