"""Weights & Biases (wandb): offline unless asked otherwise; nothing of machine, user or code is sent."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from ..core.registry import sink
from ..report.figures import slug
from .protocol import About, Value

if TYPE_CHECKING:
    from wandb import Run

QUIET = {
    "silent": True, "console": "off", "save_code": False, "disable_code": True, "disable_job_creation": True,
    "symlink": False, "finish_timeout": 300, "finish_timeout_raises": True,
}  # fmt: skip
"""Settings of every run. The end of one that is online may take so many seconds; then its files await `wandb sync`."""
ROOM = 2**16
"""Bytes that must find room after a run: wandb cuts its file short on a full disk and says nothing."""
ONLINE = {"init_timeout": 30}
"""More settings of a run that is online: a server that does not answer is given up after so many seconds, not 90."""
SILENT = {"WANDB_ERROR_REPORTING": "false"}
PRIVATE = {
    "disable_git": True, "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "host": "",
}  # fmt: skip
"""Settings by which wandb says nothing of the host, its state of git, its hardware and its packages."""


def require_login(mode: str = "offline", **_: object) -> None:
    """Raises PermissionError where a run would be online and nobody is logged in: wandb would wait for an answer."""
    if mode == "offline":
        return
    with _added(SILENT), redirect_stderr(io.StringIO()):  # it tells where it has found a key
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise PermissionError(
                "mode=online needs an account: call `wandb login` first, or leave it out and call `wandb sync` later"
            )


@sink("wandb", ready=require_login)
def open_wandb(
    about: About,
    project: str = "assay",
    entity: str = "",
    group: str = "",
    mode: Literal["offline", "online"] = "offline",
    host: bool = False,
) -> Wandb:
    """Weights & Biases: a run for each job, in one group for each command.

    entity: the user or team that owns the project, by default that of the account. mode: offline runs
    wait for `wandb sync`. host: whether host name, hardware, load, packages and state of git are sent, too.
    """
    if about.run is not None:
        return Wandb(about.run)
    require_login(mode)
    folder = Path(os.environ.get("WANDB_DIR") or about.folder)
    with _places(folder):
        import wandb

        options = QUIET | ({} if host else PRIVATE) | (ONLINE if mode == "online" else {})
        settings = wandb.Settings.model_validate(options)
        run = wandb.init(
            project=project,
            entity=entity or None,
            group=group or about.group,
            name=about.name,
            job_type=about.kind,
            config={**about.config, "command": about.command},
            dir=str(folder),
            mode=mode,
            reinit="create_new",
            settings=settings,
        )
    return Wandb(run, folder)


class Wandb:
    """folder: of a run of ours; None for one of its user's, which has its own folders and steps and stays open."""

    def __init__(self, run: Run, folder: Path | None = None):
        self._run, self._folder = run, folder

    def progress(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step if self._folder else None)

    def summary(self, values: Mapping[str, Value]) -> None:
        self._run.summary.update(dict(values))

    def table(self, name: str, table: pd.DataFrame) -> None:
        import wandb

        cells = table.astype(object).where(table.notna(), None)
        with _places(self._folder):
            shown = wandb.Table(columns=list(table.columns), data=cells.values.tolist(), allow_mixed_types=True)
            self._run.log({name: shown})

    def pictures(self, pictures: Mapping[str, Path], step: int | None = None) -> None:
        import wandb

        found = {name: wandb.Image(str(path), caption=path.stem) for name, path in pictures.items()}
        self._run.log(found, step=step if self._folder else None)

    def records(self, name: str, files: Mapping[str, bytes]) -> None:
        import wandb

        with _places(self._folder):
            artifact = wandb.Artifact(f"records-{slug(name)}", type="records")
            for file, content in files.items():
                with artifact.new_file(file, "wb") as written:
                    written.write(content)
            self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        import wandb

        if self._folder:
            try:
                with _places(self._folder):
                    self._run.finish(exit_code=int(failed))
            except ConnectionError:  # its service is dead, for all runs of this process: at exit it would be awaited
                with suppress(ConnectionError):
                    wandb.teardown()
                raise
            probe = self._folder / ".room"
            try:
                probe.write_bytes(bytes(ROOM))
            except OSError as full:
                raise OSError(f"{full.strerror}: what wandb wrote to {self._folder} may be cut short") from full
            finally:
                probe.unlink(missing_ok=True)


@contextmanager
def _places(folder: Path | None) -> Iterator[None]:
    """Inside, wandb keeps all its files below a folder, unless its user chose others, and reports no errors home."""
    if folder is None:
        yield
        return
    below = {"WANDB_DATA_DIR": folder / "wandb" / "data", "WANDB_CACHE_DIR": folder / "wandb" / "cache"}
    folder.mkdir(parents=True, exist_ok=True)
    with _added({name: str(path.absolute()) for name, path in below.items()} | SILENT):
        yield


@contextmanager
def _added(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, the environment has these variables, too; those that are there already keep their values."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
