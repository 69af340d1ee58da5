"""Speed of path optimisation beside the plain way, on one machine: 33 vertices, 250 iterations, a VAE on Fashion-MNIST.

    python tests/benchmarks/paths.py            # 64 pairs: about 10 minutes of CPU time
    python tests/benchmarks/paths.py --smoke    # a tiny size, only to see that it runs

The plain way takes the pairs one at a time and makes both images of every segment at each step, in two batches; it
gives the same paths. It is run on a few pairs and its CPU seconds are scaled up to all. Generator and network alone are
run over the same vertices, forward and backward, in a tenth of the iterations, scaled up too: their share of the whole
says what is left to save. Writes paths.csv and paths.md to results/benchmarks/ (or --out). Read ratios of CPU seconds.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from assay.harness.core.abilities import Layered
from assay.harness.core.registry import EXTRACTORS, GENERATORS, discover
from assay.metrics.paths.distances import Embedding
from assay.metrics.paths.energy import energy, feature_distance, optimise_path, pixel_distance, step_lengths, subdivide

RESULTS = Path(__file__).parents[2] / "results" / "benchmarks"
LEVELS, CHUNK = 5, 64


def plain(embed: Embedding, start: Tensor, end: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Path and its energy of one pair, as one would write it down: both images of each segment at every step."""
    path = torch.stack([start, end])[None]

    def energy_of(path: Tensor) -> Tensor:
        before, after = embed(path[0, :-1]), embed(path[0, 1:])
        return energy(torch.linalg.vector_norm(after - before, dim=1))

    for _ in range(LEVELS):
        path = subdivide(path)
        free = path[:, 1:-1].clone().requires_grad_()
        adam = torch.optim.Adam([free], lr=0.01)
        for _ in range(iterations):
            adam.zero_grad()
            energy_of(torch.cat([path[:, :1], free, path[:, -1:]], 1)).backward()  # type: ignore[no-untyped-call]
            adam.step()
        path = torch.cat([path[:, :1], free.detach(), path[:, -1:]], 1)
    with torch.no_grad():
        return path[0], energy_of(path)


def networks_alone(embed: Embedding, latents: Tensor, iterations: int, levels: int = LEVELS) -> None:
    """Forward and backward passes over as many vertices, in chunks of the same size."""
    for level in range(levels):
        vertices = 2 ** (level + 1) - 1
        together = CHUNK // vertices * vertices
        codes = latents.repeat(vertices, 1)
        for _ in range(iterations):
            for part in codes.split(together):
                leaf = part.clone().requires_grad_()
                points = embed(leaf)
                torch.autograd.grad(points, leaf, points.detach())


def cpu_seconds(work: Callable[[], object]) -> tuple[float, object]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def measure(
    name: str, embed: Embedding, decode: Embedding, latents: Tensor, few: int, iterations: int
) -> dict[str, object]:
    start, end = latents.chunk(2)
    pairs, tenth = len(start), max(1, iterations // 10)

    def seen(z: Tensor) -> Tensor:
        return embed(decode(z))

    optimise_path(decode, start[:1], end[:1], embed, levels=1, iterations=1)  # what torch does once only
    ours_s, ours = cpu_seconds(
        lambda: optimise_path(decode, start, end, embed, levels=LEVELS, iterations=iterations, chunk=CHUNK)
    )
    plain_s, theirs = cpu_seconds(lambda: [plain(seen, start[i], end[i], iterations) for i in range(few)])
    alone_s, _ = cpu_seconds(lambda: networks_alone(seen, start, tenth))
    plain_s, alone_s = plain_s * pairs / few, alone_s * iterations / tenth
    paths, energies = (torch.stack(parts) for parts in zip(*theirs, strict=True))  # type: ignore[call-overload]
    found = step_lengths(torch.stack([seen(path) for path in ours.path[:few]]))  # type: ignore[attr-defined]
    return {
        "distance": name,
        "pairs": pairs,
        "assay_cpu_s": ours_s,
        "plain_cpu_s": plain_s,
        "ratio": plain_s / ours_s,
        "networks_cpu_s": alone_s,
        "networks_share": alone_s / ours_s,
        "path_difference": float((paths - ours.path[:few]).abs().max()),  # type: ignore[attr-defined]
        "energy_difference": float((energy(found) / energies - 1).abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=50, help="of each of the 5 levels")
    parser.add_argument("--few", type=int, default=4, help="pairs that the plain way is run on")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    pairs, few, iterations = (2, 1, 2) if given.smoke else (given.pairs, given.few, given.iterations)
    discover()
    generator = GENERATORS["vae"].function("fashion_mnist")
    classifier = EXTRACTORS["classifier"].function("fashion_mnist")
    assert isinstance(classifier, Layered)
    latents = generator.latents(range(2 * pairs), "z")
    distances = {"features": feature_distance(classifier.layers), "pixels": pixel_distance()}
    table = pd.DataFrame(
        [
            measure(name, embed, lambda z: generator.decode(z, "z"), latents, few, iterations)
            for name, embed in distances.items()
        ]
    )
    given.out.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(given.out / "paths.csv", index=False)
    lines = [
        "# Path optimisation beside the plain way",
        "",
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}.",
        f"{2**LEVELS + 1} vertices, {LEVELS * iterations} iterations; VAE on Fashion-MNIST; features: stages of the",
        "classifier. CPU seconds.",
        "",
        f"- plain_cpu_s: one pair at a time, both images of every segment; {few} of {pairs} pairs, scaled up",
        "- networks_cpu_s: generator and network alone over the same vertices, forward and backward;",
        f"  {max(1, iterations // 10)} of {iterations} iterations a level, scaled up",
        "- path_difference: largest between the two, in latents; energy_difference: largest share, of final energies.",
        "  In float64 the two are equal; in float32 Adam lets rounding grow where a latent hardly changes the image",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |")
    (given.out / "paths.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
