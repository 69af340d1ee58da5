"""The command line. The only file that knows hydra.

Each command imports what it needs, so that `assay --help` does not wait for torch.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .core.files import cache_folder, replace
from .core.options import limits
from .core.progress import say
from .core.registry import DATASETS, GROUPS, PLUGINS, Registry, check_options, discover, unknown
from .core.renamed import KINDS, renamed, say_renamed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .run import Run

CONFIGS = Path(__file__).parent.parent / "configs"
PRESETS = {"evaluate": "experiment", "train": "tuning"}
"""The group of ready-made configs of each command."""
DEFAULT_DATA = "fashion_mnist"
CONFIG_DIR = ("--config-dir", "-cd")
VALUED = (*CONFIG_DIR, "--config-name", "-cn", "--config-path", "-cp", "--package", "-p")
"""Flags of Hydra whose value is the next argument."""
MESHES = (".obj", ".off", ".ply", ".stl", ".glb", ".gltf")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")
"""Endings by which a folder of real samples is known as one of meshes or of images."""
HELP = f"""assay {__version__}: how good are the samples of a generative model, and the metrics that claim to tell?

  assay run [OVERRIDE ...]      evaluate cells and studies, write records, tables, pictures and a page
  assay run -m [OVERRIDE ...]   the same for every combination of the values given, e.g. seed=0,1,2
  assay report [DIR]            make tables and page again from the records in DIR (default outputs/quickstart)
  assay list [KIND]             metrics, generators, datasets, extractors, studies, trainers, experiments, tunings
  assay train [OVERRIDE ...]    train a generator or a feature space, e.g. generator=vae dataset=mnist
  --plugin FILE                 with any of these: a Python file that declares metrics or anything else
  --fake PATH --real PATH       with run: generated samples and real ones, folders, archives or arrays

  assay run experiment=quickstart                      the VAE on Fashion-MNIST, all per-sample scores
  assay run generator=stylegan2 generator.path=FILE    a published file, alone
  assay run --fake FOLDER --real REALS metric=[precision,recall]      the same as, where paths have plain names,
  assay run generator=replay generator.path=FOLDER dataset=folder dataset.root=REALS metric=[precision,recall]
  assay run metric=[precision,recall] n=2000           two metrics
  assay run metric=latent_density metric.latent_density.bandwidth=0.5
  assay run -m 'metric=glob(*)' dataset=digits         every metric, on a small data set

`assay run --help` shows every option with its default. Names and values: https://hydra.cc (override grammar)."""


@dataclass(frozen=True)
class Outcome:
    """What one job of `assay run` says of itself to the command, which may run in another process.

    anew: whether any record or array was made; failed: a line for each record that says so; left_out: metrics that
    nobody named and that cannot be had here, with the reason; samples: which were found and used, a line a source.
    """

    folder: str
    store: str | None
    anew: bool
    failed: Sequence[str]
    left_out: Mapping[str, str]
    samples: Sequence[str]


def main() -> None:
    """Entry point of `assay`. Exits with 0, 1 (a failed run or cell), 2 (a wrong call) or 130 (interrupted)."""
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
        code = commands[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        code = 130
    except (LookupError, OSError, ValueError) as error:
        say(f"error: {_reason(error)}")
        code = 2
    sys.exit(code)


def _run(overrides: list[str]) -> int:
    from .arrays.records import pack
    from .arrays.scores import write_scores
    from .arrays.store import open_store
    from .report.report import report
    from .report.tables import compare_with_published, is_published

    discover()
    overrides, paths = _take_paths(overrides)
    if set(overrides) <= {"-h", "--help"} and overrides:  # with the options of all that could be chosen
        overrides = ["study=all", "metric=all", *overrides]
    overrides = _without_data(_full_names(renamed(overrides), "vae"))
    job = partial(
        _job,
        from_glob=_is_glob("metric", overrides),
        paths=paths,
        alone=not {"-m", "--multirun"} & set(overrides),
    )
    done = _hydra("evaluate", overrides, job)
    outcomes = [Outcome(**fields) for fields in done]
    reasons: dict[str, dict[str, None]] = {}
    for name, why in (pair for outcome in outcomes for pair in outcome.left_out.items()):
        reasons.setdefault(why, {})[name] = None
    for why, names in reasons.items():
        say(f"left out: {', '.join(names)}: {why}")
    for line in dict.fromkeys(line for outcome in outcomes for line in outcome.samples):
        say(f"samples, {line}")
    for name, store in dict.fromkeys((outcome.folder, outcome.store) for outcome in outcomes):
        folder, here = Path(name), [outcome for outcome in outcomes if outcome.folder == name]
        write_scores(folder, open_store(store))
        print(report(folder))
        if not any(outcome.anew for outcome in here):
            say("nothing was recomputed: every record and every array was there and valid")
        for line in dict.fromkeys(line for outcome in here for line in outcome.failed):
            say(f"failed: {line}")
        say(compare_with_published(folder))
        if is_published(folder):
            pack(folder)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def _is_glob(group: str, overrides: Sequence[str]) -> bool:
    """Whether the names of a group are a pattern, group=glob(...), so that nobody asked for any one of them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(_without_flags(overrides))
    except OverrideParseException:  # hydra itself says what is wrong, at the place where it is
        return False
    return any(one.key_or_group == group and one.value_type == ValueType.GLOB_CHOICE_SWEEP for one in parsed)


def _job(
    plain: dict[str, Any],
    from_glob: bool = False,
    paths: Mapping[tuple[str, str, str], str] | None = None,
    alone: bool = True,
) -> dict[str, Any]:
    """One generator on one data set: every chosen metric, then every chosen study. Returns the fields of an Outcome.

    from_glob: the metric is one of many that nobody named: it is left out where it cannot be had for these samples.
    paths: options that Hydra's grammar never sees, by group, name and option; alone: whether no other jobs follow.
    """
    from .evaluate import reason
    from .studies.carry_out import carry_out

    discover()
    for (group, name, option), path in (paths or {}).items():
        plain[group][name][option] = path
    check_options(plain)
    metrics, studies = (_chosen(plain.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    run = _open(plain)
    for entries in (run.scores, run.quality_signals, run.set_metrics, *run.covariates.values(), run.classes or ()):
        run.cells(entries)  # before any work, so that an option out of its range is told at once
    arrays = run.views.store.made
    if not metrics and not studies:
        metrics, studies = {name: {} for name in run.available_metrics()}, {"samples": {}}
        say(f"no metric and no study chosen, so all {len(metrics)} metrics that have what they need, and samples")
    space = {} if plain["space"] is None else {"space": plain["space"]}
    encode = {} if plain["encode"] is None else {"encode": plain["encode"]}
    encoding = [name for name in metrics if _takes_encode(run, name, space)] if encode else []
    if encode and not encoding and not from_glob:
        raise ValueError(
            f"encode={plain['encode']}: none of the chosen metrics reads codes of real samples; leave it out"
        )
    left_out: dict[str, str] = {}
    for name, options in metrics.items():
        asked = {**space, **(encode if name in encoding else {}), **(options or {})}
        try:
            cell = run.cell(name, **asked)
        except ValueError as failure:  # one that refuses the space, say: the others go on
            if from_glob:
                left_out[name] = reason(failure)
            elif alone and len(metrics) == 1 and not studies:
                raise
            else:
                run.refused(name, asked, reason(failure))
            continue
        if from_glob and (why := run.lacks(name, cell)):
            left_out[name] = why
        else:
            run.evaluate(cell)
    for name, options in studies.items():
        carry_out(run, name, **(options or {}))
    failed = [record for record in run.written if record.status == "failed"]
    outcome = Outcome(
        folder=str(run.folder),
        store=plain["store"],
        anew=bool(run.written) or run.views.store.made > arrays,
        failed=[f"{record.cell.generator} {record.cell.label}: {record.error}" for record in failed],
        left_out=left_out,
        samples=[f"{source}: {' / '.join(words)}" for source, words in run.views.used.items()],
    )
    return asdict(outcome)


def _takes_encode(run: Run, name: str, space: Mapping[str, str]) -> bool:
    try:
        return run.takes_encode(name, **space)
    except ValueError:  # it takes no such space either
        return False


def _chosen(node: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Those of {name: options} that were chosen: an experiment also sets options of studies that were left out."""
    return {name: options for name, options in node.items() if set(registry[name].options) <= set(options or {})}


def _open(config: dict[str, Any]) -> Run:
    from .run import open_run

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
        "floor",
    )
    chosen = {key: config[key] for key in keys}
    folder = Path(config["out"]) / str(config["name"])
    return open_run(config["dataset"], config["generator"], folder, extractors=config["extractor"], **chosen)


def _train(overrides: list[str]) -> int:
    discover()
    # To the user it is a generator or an extractor that is trained; to hydra both are options of a trainer.
    overrides = [re.sub(r"^(generator|extractor)(?=[.=])", "trainer", override) for override in overrides]
    _hydra("train", _full_names(renamed(overrides), "vae"), _train_job)
    return 0


def _train_job(plain: dict[str, Any]) -> None:
    from .core.protocols import pick_device
    from .run import only
    from .studies.fine_tune.importance import by_pseudo_density
    from .train import Measure, train

    discover()
    check_options(plain)
    data_name, data_options = only(plain["dataset"], "dataset")
    name, options = only(plain["trainer"], "trainer")
    data = DATASETS[data_name].function(**data_options)
    device, out = pick_device(plain["device"]), Path(plain["out"])
    weigh = partial(by_pseudo_density, data, device, **plain["importance"])
    more = {"tag": plain["name"], "images": plain["images"], "snapshots": plain["snapshots"]}
    measure = Measure(**plain["measure"])
    train(name, options, data, plain["seed"], out, device, data_options, **more, weigh=weigh, measure=measure)


def _report(arguments: list[str]) -> int:
    from .report.report import report
    from .report.tables import compare_with_published

    discover()
    folder = Path(arguments[0] if arguments else "outputs/quickstart")
    print(report(folder))
    say(compare_with_published(folder))
    return 0


def _list(arguments: list[str]) -> int:
    from rich.console import Console
    from rich.table import Table

    kinds = [_plural(group) for group in [*GROUPS, *PRESETS.values()]]
    chosen = arguments or kinds
    for old in KINDS.keys() & set(chosen):
        say_renamed(old, KINDS[old])
    chosen = [KINDS.get(kind, kind) for kind in chosen]
    for kind in chosen:
        if kind not in kinds:
            raise LookupError(unknown("kind", kind, kinds))
    if declared := {_group(kind) for kind in chosen} - {*PRESETS.values()}:
        discover(*(["datasets/*.py"] if declared == {"dataset"} else []))
    for kind in chosen:
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
        options = ", ".join(_option(key, value, entry.types[key]) for key, value in entry.options.items())
        first_line = (entry.function.__doc__ or "").strip().splitlines()[:1]
        metric = kind == "metrics"
        rows.append((
            name, entry.better if metric else "", entry.kind if metric else "", options,
            entry.source if metric else "".join(first_line),
        ))  # fmt: skip
    return rows


def _option(name: str, default: Any, declared: Any) -> str:
    allowed = limits(declared)
    return f"{name}={default}" + (f" ({allowed})" if allowed else "")


def _hydra(config_name: str, overrides: list[str], job: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Run a job for each combination that the overrides make. Returns what the jobs returned, as JSON can hold it.

    `hydra.main` returns nothing, and a launcher may run jobs in other processes: so each leaves its answer in a file.
    """
    import hydra
    from hydra.core.config_store import ConfigStore

    from .formats.download import temporary_folder

    store = ConfigStore.instance()
    for group, registry in GROUPS.items():
        every = {name: dict(entry.options) for name, entry in registry.items()}
        for name, options in every.items():
            store.store(group=group, name=name, node={name: options})
        store.store(group=group, name="all", node=every)
    _check_names(overrides, config_name)
    plain = _without_flags(overrides)
    flags = [argument for argument in overrides if argument not in plain]  # argparse wants them first
    sys.argv = [f"assay {'run' if config_name == 'evaluate' else 'train'}", *flags, *plain]
    with temporary_folder(cache_folder() / "jobs") as answers:
        launch = hydra.main(version_base="1.3", config_path="pkg://assay.configs", config_name=config_name)
        launch(_answering(job, answers))()
        return [json.loads(file.read_text()) for file in sorted(answers.glob("*.json"))]


def _answering(job: Callable[[dict[str, Any]], Any], answers: Path) -> Callable[[DictConfig], None]:
    """The job on a plain config. What it returns goes to a file; what a user can mend is printed in one line."""

    def run(config: DictConfig) -> None:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            answer = job(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        except (LookupError, OSError, ValueError, OmegaConfBaseException) as error:
            say(f"error: {_reason(error)}")
            raise SystemExit(2) from None
        replace(answers / f"{time.time_ns()}-{os.getpid()}.json", json.dumps(answer).encode())

    return run


def _reason(error: Exception) -> str:
    from .evaluate import reason

    return reason(error)


def _full_names(overrides: Sequence[str], default: str) -> list[str]:
    """`generator.path=FILE` beside `generator=stylegan2` is `generator.stylegan2.path=FILE`; so in all groups."""
    chosen = {"generator": default, "trainer": default, "dataset": DEFAULT_DATA}
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
    chosen = dict(re.findall(r"^(generator|dataset|experiment)=([\w,/-]+)$", "\n".join(overrides), re.MULTILINE))
    name = chosen.get("generator", "vae")
    if "dataset" in chosen or "experiment" in chosen or name not in GROUPS["generator"]:
        return overrides
    path = f"generator.{name}.path="
    ours = GROUPS["generator"][name].options.get("path", "zoo") == "zoo"
    if ours and not any(override.startswith(path) for override in overrides):
        return overrides
    if option := next((override for override in overrides if override.startswith("dataset.")), None):
        given = option.partition("=")[0].rpartition(".")[2]
        raise ValueError(
            f"dataset.{given} is given, and no data set: add dataset=folder for images in a folder (dataset.root=DIR), "
            "dataset=array for a file of arrays (dataset.path=FILE), or dataset=NAME"
        )
    say("no data set was named: the generator is looked at alone (dataset=none)")
    return [*overrides, "dataset=none"]


def _check_names(overrides: Sequence[str], config_name: str) -> None:
    """Raise LookupError for a name that nothing knows; hydra's own message would not say which are near."""
    from omegaconf import OmegaConf

    preset = PRESETS[config_name]
    folders = [CONFIGS, *_config_folders(overrides)]
    presets = sorted(file.stem for folder in folders for file in (folder / preset).glob("*.yaml"))
    options = [str(key) for key in OmegaConf.load(CONFIGS / f"{config_name}.yaml") if key != "defaults"]
    overrides = _without_flags(overrides)
    _check_grammar(overrides)
    _check_chosen(overrides)
    for override in overrides:
        if override.startswith(("+", "~", "hydra")):
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


def _check_grammar(overrides: Sequence[str]) -> None:
    """Raise ValueError with the way out for a value that Hydra's grammar does not take, as paths often are."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    for override in overrides:
        try:
            OverridesParser.create().parse_overrides([override])
        except OverrideParseException:
            key, equals, value = override.partition("=")
            if not equals:
                raise ValueError(f"{override!r} is no override; write option=value") from None
            inner = value.strip("\"'").replace('"', r"\"")
            quoted = shlex.quote(f'{key}="{inner}"')
            raise ValueError(
                f"{key}={value} is not in Hydra's grammar: quote the value, {quoted}; or give folders and files "
                "just as they are with --fake PATH and --real PATH"
            ) from None


def _check_chosen(overrides: Sequence[str]) -> None:
    """Raise ValueError for an option of a generator or data set that is not the chosen one."""
    chosen = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    for override in overrides:
        group, _, rest = override.partition("=")[0].partition(".")
        name = rest.partition(".")[0]
        if group in ("generator", "dataset") and name in GROUPS[group] and group in chosen:
            if "(" not in chosen[group] and name not in re.findall(r"\w+", chosen[group]):
                raise ValueError(f"{override} is an option of {name}, and {group}={chosen[group]} was chosen")
        elif group == "dataset" and name in GROUPS[group] and "experiment" not in chosen and name != DEFAULT_DATA:
            raise ValueError(f"{override} is an option of {name}, which was not chosen: add dataset={name}")


def _without_flags(arguments: Sequence[str]) -> list[str]:
    """The overrides among arguments of Hydra: neither its flags nor their values."""
    values = {i + 1 for i, argument in enumerate(arguments) if argument in VALUED}
    return [text for i, text in enumerate(arguments) if i not in values and not text.startswith("-")]


def _config_folders(arguments: Sequence[str]) -> list[Path]:
    """Folders of configs of the user's own."""
    pairs = [(one, other) for one, other in zip(arguments, [*arguments[1:], ""], strict=True) if one in CONFIG_DIR]
    joined = [tuple(one.split("=", 1)) for one in arguments if one.startswith(tuple(f"{name}=" for name in CONFIG_DIR))]
    return [Path(folder) for _, folder in [*pairs, *joined]]


def _take_paths(arguments: list[str]) -> tuple[list[str], dict[tuple[str, str, str], str]]:
    """The arguments without `--fake PATH --real PATH`, and these as options of a generator and of a data set.

    Hydra sees which generator and data set they are, but not the paths, so that these need no quotes.
    """
    rest, paths = list[str](), dict[tuple[str, str, str], str]()
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag not in ("--fake", "--real"):
            rest.append(argument)
            continue
        given = value if equals else next(remaining, "")
        path = Path(given) if Path(given).exists() else Path(given).expanduser()
        if not given or not path.exists():
            raise FileNotFoundError(f"{flag} {given}: there is no such folder or file")
        group, name, option = ("generator", "replay", "path") if flag == "--fake" else _real_data(path)
        if named := next((one for one in arguments if one.startswith(f"{group}=")), None):
            raise ValueError(f"{flag} chooses {group}={name}, so leave out {named}")
        rest.append(f"{group}={name}")
        paths[group, name, option] = str(path.absolute())
    return rest, paths


def _real_data(path: Path) -> tuple[str, str, str]:
    """The data set that opens a path, and its option: meshes, arrays, else image files."""
    from .formats.arrays import holds_arrays

    if holds_arrays(path):
        return "dataset", "array", "path"
    within = (file.suffix.lower() for file in path.rglob("*")) if path.is_dir() else ()
    first = next((suffix for suffix in within if suffix in (*MESHES, *PICTURES)), "")
    return ("dataset", "mesh_folder", "root") if first in MESHES else ("dataset", "folder", "root")


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
