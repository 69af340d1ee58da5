"""Installs the wheel into a new environment and runs the quickstart there, in an empty folder with an empty cache.

    python -m tests.benchmarks.wheel dist/*.whl

The packages that assay needs are those of this interpreter, and Fashion-MNIST is linked into the cache where it has
been downloaded before; nothing else of this machine is used. Prints what was measured; exits with 1 unless the tables
agree with the published ones.
"""

import argparse
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

from assay.harness.core.files import cache_folder

AGREES = "agrees with the published tables in "


def install(wheel: Path, folder: Path) -> Path:
    """The command `assay` of a new environment that has the wheel, and the packages of this interpreter beside it."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)], check=True)
    # Of folders that a .pth file adds Python reads no .pth files: an editable assay in them stays unknown.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "assay"


def environment(cache: Path) -> dict[str, str]:
    """This one's, without what could lead to another assay or to arrays that are there already."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY_", "PYTHONPATH", "XDG_"))}
    return ours | {"ASSAY_CACHE": str(cache)}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        begin = time.time()
        assay = install(wheel, top / "venv")
        print(f"wheel: {wheel.stat().st_size / 1e6:.1f} MB, installed in {time.time() - begin:.1f} s", flush=True)
        (top / "empty").mkdir()
        (top / "cache" / "data").mkdir(parents=True)
        data = cache_folder() / "data" / "fashion_mnist"
        if data.is_dir():
            (top / "cache" / "data" / data.name).symlink_to(data)
        print(f"Fashion-MNIST: {f'linked from {data}' if data.is_dir() else 'downloaded'}", flush=True)
        begin, used = time.time(), cpu()
        line = [str(assay), "run", "experiment=quickstart"]
        done = subprocess.run(
            line, cwd=top / "empty", env=environment(top / "cache"), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        seconds, used = time.time() - begin, cpu() - used
        print(done.stdout)
        first = min(path.stat().st_mtime for path in top.glob("empty/outputs/quickstart/records/*.json")) - begin
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(
            f"quickstart: exit {done.returncode}, first number after {first:.1f} s, all after {seconds:.1f} s, "
            f"{used:.0f} CPU seconds, threads: {threads}"
        )
        return done.returncode or AGREES + str(top / "venv") not in done.stdout


if __name__ == "__main__":
    sys.exit(main())
