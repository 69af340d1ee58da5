"""Installs the wheel into a new environment and runs the quickstart there, in an empty folder with an empty cache.

    python -m tests.benchmarks.wheel dist/*.whl

The packages that assay needs are those of this interpreter, and Fashion-MNIST is linked into the cache where it has
been downloaded before; nothing else of this machine is used. Prints what was measured; exits with 1 unless the tables
agree with the published ones.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from assay.harness.core.files import cache_folder

AGREES = "agrees with the published tables in "
NUMBER = re.compile(r": -?[0-9.]+ \([^)]+ to [^)]+\)")
"""What a command says as soon as a metric is computed."""


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


def cpu(process: int) -> float:
    """CPU seconds of a process that runs, with its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(line: Sequence[str], folder: Path, cache: Path) -> tuple[int, str]:
    """Run a command, show what it says, and print when its first number was there and when all was."""
    begin, said, first = time.monotonic(), "", ""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(line, cwd=folder, env=environment(cache), **options) as process:  # type: ignore[call-overload]
        for text in process.stdout or ():
            print(text, end="", flush=True)
            said += text
            if not first and NUMBER.search(text):
                first = f"first number after {time.monotonic() - begin:.1f} s, {cpu(process.pid):.1f} CPU seconds"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"exit {process.returncode}; {first}; all after {time.monotonic() - begin:.1f} s, "
        f"{used.ru_utime + used.ru_stime:.0f} CPU seconds with those of the installation; "
        f"threads: {os.environ.get('OMP_NUM_THREADS', 'all')}"
    )
    return process.returncode, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("words", nargs="*", default=["experiment=quickstart"], help="another run, of less work")
    asked = parser.parse_args()
    wheel = asked.wheel.resolve()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        begin = time.monotonic()
        assay = install(wheel, top / "venv")
        print(f"wheel: {wheel.stat().st_size / 1e6:.1f} MB, installed in {time.monotonic() - begin:.1f} s", flush=True)
        (top / "empty").mkdir()
        (top / "cache" / "data").mkdir(parents=True)
        data = cache_folder() / "data" / "fashion_mnist"
        if data.is_dir():
            (top / "cache" / "data" / data.name).symlink_to(data)
        print(f"Fashion-MNIST: {f'linked from {data}' if data.is_dir() else 'downloaded'}", flush=True)
        code, said = measured([str(assay), "run", *asked.words], top / "empty", top / "cache")
        return code or AGREES + str(top / "venv") not in said


if __name__ == "__main__":
    sys.exit(main())
