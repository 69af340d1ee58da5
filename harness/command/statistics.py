"""Mean and covariance of the features of samples, as a file that others read: `assay statistics`."""

import argparse
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..arrays.spaces import BATCH
from ..core.progress import say, track
from ..core.protocols import pick_device
from ..core.registry import DATASETS, check_options, discover
from ..formats.statistics import require_npz, write_statistics
from ..objects.streaming import Metric
from .overrides import check_names
from .paths import real_data


def main(arguments: list[str]) -> int:
    """The command. Writes one file, and tells what is in it."""
    parser = argparse.ArgumentParser(
        prog="assay statistics",
        description="Write mean and covariance of the features of samples: a .npz file with mu [D] and sigma [D, D], "
        "float64, divided by N - 1, which pytorch-fid and others read.",
    )
    parser.add_argument(
        "path", metavar="PATH", help="the samples: a folder or archive of images, or a .npy or .npz file"
    )
    parser.add_argument("--features", metavar="NAME", required=True, help="the feature space: `assay list extractors`")
    parser.add_argument("--out", metavar="FILE.npz", required=True, help="where to write")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda")
    parser.add_argument(
        "options", metavar="OPTION", nargs="*",
        help="of the extractor or of the data set, such as extractor.inception.path=FILE or dataset.folder.mode=RGB",
    )  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    discover()
    require_npz(given.out)
    options: Any = OmegaConf.to_container(OmegaConf.from_dotlist(given.options))
    path = Path(given.path) if Path(given.path).exists() else Path(given.path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{given.path}: there is no such folder or file")
    _, name, option = real_data(path)
    check_names([f"dataset={name}", *given.options], "evaluate")
    check_options(options)
    if name == "statistics":
        raise ValueError(f"{given.path} has statistics already; give the samples")
    data = DATASETS[name].function(**{option: str(path), **options.get("dataset", {}).get(name, {})})
    network = options.get("extractor", {}).get(given.features, {})
    metric = Metric("frechet_distance", given.features, reservoir=0, dataset=data.name, extractor=network)
    count, device = data.count("train"), pick_device(given.device)
    with track(f"{given.path} → {given.features}", count, "samples") as advance:
        for start in range(0, count, BATCH):
            batch = data.take("train", start, min(start + BATCH, count)).images
            metric.update(real=batch.to(device).float() / 255)
            advance(len(batch))
    known = metric.statistics("real")
    write_statistics(given.out, known)
    say(f"{given.out}: mu and sigma of {count:,} samples, {len(known.mean):,} features of {given.features}")
    say("the file does not say of what features it is: tell those who compare with it")
    return 0
