"""What tests of the harness share: registries that are put back, and a world small enough to follow by hand."""

import importlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.store import Store
from assay.harness.arrays.views import Views
from assay.harness.core import registry
from assay.harness.core.protocols import Encoding, Samples, Split

TRAIN, TEST = 2600, 40
SLOW = {line for line in (Path(__file__).parent / "slow.txt").read_text().splitlines() if not line.startswith("#")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what slow.txt lists, be it a file, a test or one of its cases."""
    for item in items:
        if SLOW & {item.nodeid, item.nodeid.split("[")[0], item.nodeid.split("::")[0]}:
            item.add_marker(pytest.mark.slow)


class Squares:
    """Real images [N, 1, 2, 2]; image i is filled with the grey value i % 256, its label is i % 3."""

    name, classes = "squares", ("a", "b", "c")

    def __init__(self) -> None:
        self.fingerprint = f"squares {uuid.uuid4()}"

    def count(self, split: Split) -> int:
        return {"train": TRAIN, "test": TEST}[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        index = torch.arange(start, stop)
        return Samples((index % 256).byte()[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), index % 3)


class Plain:
    """A generator without encoder. Latents z ~ N(0, I) in 4 dimensions, w = 2z; the images leave [0, 1] on both sides.

    asked: every seed that latents were asked for; decoded: how many images each call of `decode` made.
    """

    spaces: Sequence[str] = ("z", "w")

    def __init__(self) -> None:
        self.fingerprint = f"plain {uuid.uuid4()}"
        self.asked: list[int] = []
        self.decoded: list[int] = []

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        self.asked += seeds
        z = torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(4) for seed in seeds])).float()
        return 2 * z if space == "w" else z

    def decode(self, latents: Tensor, space: str) -> Tensor:
        self.decoded.append(len(latents))
        return (latents / 2 + 0.5).reshape(-1, 1, 2, 2)


class Encoding4(Plain):
    """The same with an encoder that inverts `decode`, with standard deviation exp(-1)."""

    def encode(self, images: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        mean = 2 * images.flatten(1) - 1
        if how == "mean":
            return mean
        if how == "logvar":
            return torch.full_like(mean, -2.0)
        noise = np.stack([np.random.default_rng(seed).standard_normal(4) for seed in seeds])
        return mean + np.exp(-1) * torch.from_numpy(noise).float()


class Doubled:
    """Twice the pixels."""

    fingerprint = "doubled"

    def __call__(self, images: Tensor) -> Tensor:
        return 2 * images.flatten(1)


@pytest.fixture
def brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that train a classifier do so for 60 steps: for what holds however well it is trained."""
    for name in ("density_ratio", "real_log_odds"):
        monkeypatch.setattr(importlib.import_module(f"assay.metrics.{name}"), "STEPS", 60)


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    """Any attempt to reach a network fails."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture
def own_registries() -> Iterator[None]:
    """What the test declares is forgotten after it."""
    registry.discover()
    before = {group: dict(entries) for group, entries in registry.GROUPS.items()}
    yield
    for group, entries in registry.GROUPS.items():
        entries.clear()
        entries.update(before[group])


@pytest.fixture
def open_views(tmp_path: Path, own_registries: None) -> Callable[..., Views]:
    """open_views(generator): its views, with squares as data and twice the pixels as features, in a fresh store."""

    def doubled(dataset: str) -> Doubled:
        return Doubled()

    registry.extractor(doubled)
    data = Squares()

    def build(generator: Plain | None = None) -> Views:
        return Views(data, generator or Plain(), "doubled", Store(tmp_path / "store"), torch.device("cpu"))

    return build


@pytest.fixture
def plain() -> Plain:
    return Plain()


@pytest.fixture
def with_encoder() -> Encoding4:
    return Encoding4()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
