"""The command line. The only file that knows hydra."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from .. import __version__
from .arrays.records import pack
from .arrays.scores import write_scores
from .arrays.store import Store, open_store
from .core.progress import say
from .core.protocols import Record, pick_device
from .core.registry import DATASETS, GROUPS, PLUGINS, Registry, discover, unknown
from .evaluate import reason
from .report.report import report
from .report.tables import compare_with_published, is_published
from .run import Run, only, open_run
from .studies.carry_out import carry_out
from .studies.fine_tune.importance import by_pseudo_density
from .train import Measure, train

CONFIGS = Path(__file__).parent.parent / "configs"
PRESETS = {"evaluate": "experiment", "train": "tuning"}
"""The group of ready-made configs of each command."""
HELP = f"""assay {__version__}: how good are the samples of a generative model, and the metrics that claim to tell?

  assay run [OVERRIDE ...]      evaluate cells and studies, write records, tables, pictures and a page
  assay run -m [OVERRIDE ...]   the same for every combination of the values covariates, e.g. seed=0,1,2
  assay report [DIR]            make tables and page again from the records in DIR (default outputs/quickstart)
  assay list [KIND]             metrics, generators, datasets, extractors, studies, trainers, experiments, tunings
  assay train [OVERRIDE ...]    train a generator or a feature space, e.g. generator=vae dataset=mnist
  --plugin FILE                 with any of these: a Python file that declares metrics or anything else

  assay run experiment=quickstart                      the VAE on Fashion-MNIST, all per-sample scores
  assay run generator=stylegan2 generator.path=FILE    a published file, alone
  assay run generator=replay generator.path=FOLDER dataset=folder dataset.root=REALS metric=[precision,recall]
  assay run metric=[precision,recall] n=2000           two metrics
  assay run metric=latent_density metric.latent_density.bandwidth=0.5
  assay run -m 'metric=glob(*)' dataset=digits         every metric, on a small data set

`assay run --help` shows every option with its default. Names and values: https://hydra.cc (override grammar)."""

_folders: dict[Path, Store] = {}
_left_out: dict[str, None] = {}
_written: dict[Path, list[Record]] = {}


class Folder(Callback):
    """Tells `main` which folder a run writes to, once hydra has composed its config."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _folders[Path(config.out) / str(config.name)] = open_store(config.store)

    on_multirun_start = on_run_start


def main() -> None:
    """MetricSpec point of `assay`. Exits with 0, 1 (a failed run or cell), 2 (a wrong call) or 130 (interrupted)."""
    arguments = _take_plugins(sys.argv[1:])
    commands: Mapping[str, Callable[[list[str]], int]] = {
        "run": _run, "report": _report, "list": _list, "train": _train
    }  # fmt: skip
    asked = {"-h", "--help"} & set(arguments)
    if not arguments or arguments[0] == "help" or (asked and arguments[0] not in ("run", "train")):  # those are Hydra's
        print(HELP)
        sys.exit(0)
    if arguments[0] == "--version":
        print(__version__)
        sys.exit(0)
    try:
        if arguments[0] not in commands:
            raise LookupError(unknown("command", arguments[0], list(commands)))
        discover()
        code = commands[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        code = 130
    except (LookupError, OSError, ValueError) as error:
        say(f"error: {reason(error)}")
        code = 2
    sys.exit(code)


def _run(overrides: list[str]) -> int:
    from_glob = any(override.startswith("metric=glob(") for override in overrides)
    _written.clear()
    _hydra("evaluate", _without_data(_full_names(overrides, "vae")), partial(_job, from_glob=from_glob))
    if _left_out:
        say(f"left out, being of shapes where samples are images, or the reverse: {', '.join(_left_out)}")
    failed = 0
    for folder, store in _folders.items():
        if len(_folders) > 1 and folder not in _written:  # `out` or `name` is swept: hydra told the default
            continue
        write_scores(folder, store)
        print(report(folder))
        if not _written.get(folder) and not store.made:
            say("nothing was recomputed: every record and every array was there and valid")
        for record in _written.get(folder, []):
            if record.status == "failed":
                say(f"failed: {record.cell.generator} {record.cell.label}: {record.error}")
                failed += 1
        say(compare_with_published(folder))
        if is_published(folder):
            pack(folder)
    return 1 if failed else 0


def _job(plain: dict[str, Any], from_glob: bool = False) -> None:
    """One generator on one data set: every chosen metric, then every chosen study.

    from_glob: the metric is one of many that nobody named: it is left out where it is not made for these samples.
    """
    discover()
    metrics, studies = (_chosen(plain.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    run = _open(plain)
    if not metrics and not studies:
        metrics, studies = {name: {} for name in run.available_metrics()}, {"samples": {}}
        say(f"no metric and no study chosen, so all {len(metrics)} metrics that have what they need, and samples")
    for name, options in metrics.items():
        if from_glob and not run.supports(name):
            _left_out[name] = None
            continue
        changes = {key: plain[key] for key in ("space", "encode") if plain[key] is not None}
        run.evaluate(run.cell(name, **changes, **(options or {})))
    for name, options in studies.items():
        carry_out(run, name, **(options or {}))


def _chosen(node: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Those of {name: options} that were chosen: an experiment also sets options of studies that were left out."""
    return {name: options for name, options in node.items() if set(registry[name].options) <= set(options or {})}


def _open(config: dict[str, Any]) -> Run:
    keys = (
        "features",
        "store",
        "device",
        "seed",
        "n",
        "n_real",
        "scores",
        "quality_signals",
        "classes",
        "covariates",
        "set_metrics",
    )
    chosen = {key: config[key] for key in keys}
    folder = Path(config["out"]) / str(config["name"])
    _folders[folder] = open_store(config["store"])
    run = open_run(config["dataset"], config["generator"], folder, extractors=config["extractor"], **chosen)
    return replace(run, written=_written.setdefault(folder, []))


def _train(overrides: list[str]) -> int:
    # To the user it is a generator or an extractor that is trained; to hydra both are options of a trainer.
    overrides = [re.sub(r"^(generator|extractor)(?=[.=])", "trainer", override) for override in overrides]
    _hydra("train", _full_names(overrides, "vae"), _train_job)
    return 0


def _train_job(plain: dict[str, Any]) -> None:
    data_name, data_options = only(plain["dataset"], "dataset")
    name, options = only(plain["trainer"], "trainer")
    data = DATASETS[data_name].function(**data_options)
    device, out = pick_device(plain["device"]), Path(plain["out"])
    weigh = partial(by_pseudo_density, data, device, **plain["importance"])
    more = {"tag": plain["name"], "images": plain["images"], "snapshots": plain["snapshots"]}
    measure = Measure(**plain["measure"])
    train(name, options, data, plain["seed"], out, device, data_options, **more, weigh=weigh, measure=measure)


def _report(arguments: list[str]) -> int:
    folder = Path(arguments[0] if arguments else "outputs/quickstart")
    print(report(folder))
    say(compare_with_published(folder))
    return 0


def _list(arguments: list[str]) -> int:
    kinds = [_plural(group) for group in [*GROUPS, *PRESETS.values()]]
    for kind in arguments or kinds:
        if kind not in kinds:
            raise LookupError(unknown("kind", kind, kinds))
        table = Table(title=kind, title_justify="left", box=None, pad_edge=False)
        for column in ("name", "better", "kind"):
            table.add_column(column, no_wrap=True)
        for column in ("options", "source or first line"):
            table.add_column(column, overflow="fold")
        for row in _rows(kind):
            table.add_row(*row)
        Console(highlight=False).print(table, markup=False)
    return 0


def _plural(group: str) -> str:
    return "studies" if group == "study" else f"{group}s"


def _group(kind: str) -> str:
    return "study" if kind == "studies" else kind.removesuffix("s")


def _rows(kind: str) -> list[tuple[str, ...]]:
    if _group(kind) in PRESETS.values():
        files = sorted((CONFIGS / _group(kind)).glob("*.yaml"))
        return [(file.stem, "", "", "", file.read_text().splitlines()[1].lstrip("# ")) for file in files]
    rows: list[tuple[str, ...]] = []
    for name, entry in sorted(GROUPS[_group(kind)].items()):
        options = ", ".join(f"{key}={value}" for key, value in entry.options.items())
        first_line = (entry.function.__doc__ or "").strip().splitlines()[:1]
        metric = kind == "metrics"
        rows.append((
            name, entry.better if metric else "", entry.kind if metric else "", options,
            entry.source if metric else "".join(first_line),
        ))  # fmt: skip
    return rows


def _hydra(config_name: str, overrides: list[str], job: Callable[[dict[str, Any]], None]) -> None:
    store = ConfigStore.instance()
    for group, registry in GROUPS.items():
        every = {name: dict(entry.options) for name, entry in registry.items()}
        for name, options in every.items():
            store.store(group=group, name=name, node={name: options})
        store.store(group=group, name="all", node=every)
    _check_names(overrides, config_name)
    sys.argv = [f"assay {'run' if config_name == 'evaluate' else 'train'}", *overrides]
    hydra.main(version_base="1.3", config_path="pkg://assay.configs", config_name=config_name)(_in_one_line(job))()


def _in_one_line(job: Callable[[dict[str, Any]], None]) -> Callable[[DictConfig], None]:
    """The job on a plain config, with what a user can mend told in one line instead of a traceback."""

    def run(config: DictConfig) -> None:
        try:
            job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        except (LookupError, OSError, ValueError, OmegaConfBaseException) as error:
            say(f"error: {reason(error)}")
            raise SystemExit(2) from None

    return run


def _full_names(overrides: Sequence[str], default: str) -> list[str]:
    """`generator.path=FILE` beside `generator=stylegan2` is `generator.stylegan2.path=FILE`; so in all groups."""
    chosen = {"generator": default, "trainer": default, "dataset": "fashion_mnist"}
    chosen |= dict(re.findall(r"^(\w+)=(\w+)$", "\n".join(overrides), re.MULTILINE))
    full = []
    for override in overrides:
        group, _, rest = override.partition("=")[0].partition(".")
        name = chosen.get(group)
        is_option = bool(name in GROUPS.get(group, ()) and rest in GROUPS[group][str(name)].options)
        full.append(override.replace(f"{group}.", f"{group}.{name}.", 1) if is_option else override)
    return full


def _without_data(overrides: list[str]) -> list[str]:
    """A generator of other people's samples has no data set of ours: it stands alone unless the user names one."""
    chosen = dict(re.findall(r"^(generator|dataset|experiment)=(\w+)$", "\n".join(overrides), re.MULTILINE))
    name = chosen.get("generator", "vae")
    if "dataset" in chosen or "experiment" in chosen or name not in GROUPS["generator"]:
        return overrides
    path = f"generator.{name}.path="
    ours = GROUPS["generator"][name].options.get("path", "zoo") == "zoo"
    if ours and not any(override.startswith(path) for override in overrides):
        return overrides
    say("no data set was named: the generator is looked at alone (dataset=none)")
    return [*overrides, "dataset=none"]


def _check_names(overrides: Sequence[str], config_name: str) -> None:
    """Raise LookupError for a name that nothing knows; hydra's own message would not say which are near."""
    preset = PRESETS[config_name]
    presets = sorted(file.stem for file in (CONFIGS / preset).glob("*.yaml"))
    options = [str(key) for key in OmegaConf.load(CONFIGS / f"{config_name}.yaml") if key != "defaults"]
    for override in overrides:
        if override.startswith(("-", "+", "~", "hydra")):
            continue
        key, equals, value = override.partition("=")
        group, *rest = key.split(".")
        if not equals:
            raise ValueError(f"{override!r} is no override; write option=value")
        if group == preset and re.fullmatch(r"[\w-]+", value) and value not in [*presets, "null"]:
            raise LookupError(unknown(preset, value, presets))
        if group not in [*GROUPS, *options, preset]:
            raise LookupError(unknown("option", group, [*options, *GROUPS, preset]))
        if group not in GROUPS:
            continue
        registry: Registry = GROUPS[group]
        names = rest[:1] if rest else re.findall(r"\w+", value) if "(" not in value and value != "null" else []
        for name in names:
            if name != "all":
                registry[name]
        if len(rest) > 1 and rest[1] not in registry[rest[0]].options:
            raise LookupError(unknown(f"option of {group} {rest[0]}:", rest[1], sorted(registry[rest[0]].options)))


def _take_plugins(arguments: list[str]) -> list[str]:
    """The arguments without `--plugin FILE`; the files go to the environment, which worker processes inherit."""
    rest, files = [], list(filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)))
    position = 0
    while position < len(arguments):
        if arguments[position] == "--plugin" and position + 1 < len(arguments):
            files.append(str(Path(arguments[position + 1]).absolute()))
            position += 1
        elif arguments[position].startswith("--plugin="):
            files.append(str(Path(arguments[position].removeprefix("--plugin=")).absolute()))
        else:
            rest.append(arguments[position])
        position += 1
    os.environ[PLUGINS] = os.pathsep.join(files)
    return rest
