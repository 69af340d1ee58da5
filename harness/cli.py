"""The command line. Only this file and command/ know hydra.

Each command imports what it needs, so that `assay --help` does not wait for torch.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .arrays.records import record_name
from .command.overrides import CONFIGS, PRESETS, check_names, full_names, is_glob, without_data, without_flags
from .command.paths import take_paths, take_plugins
from .core.files import cache_folder, replace, require_writable
from .core.options import limits
from .core.progress import say
from .core.registry import DATASETS, GROUPS, Registry, check_options, discover, unknown
from .core.renamed import KINDS, renamed, say_renamed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .core.protocols import Cell
    from .engines.plan import Job
    from .run import Run

CANNOT_BEGIN = (LookupError, FileNotFoundError, ValueError)
"""What a generator or a data set that cannot be opened raises."""
OWN_HELP = ("run", "train", "statistics", "compare-features")
"""Commands that answer --help themselves, the first two through Hydra."""
HELP = f"""assay {__version__}: how good are the samples of a generative model, and the metrics that claim to tell?

  assay run [OVERRIDE ...]      evaluate cells and studies, write records, tables, pictures and a page
  assay run -m [OVERRIDE ...]   the same for every combination of the values given, e.g. seed=0,1,2
  assay status [DIR]            what is done, failed, running and missing of the runs in DIR (default outputs/run)
  assay report [DIR]            make tables and page again from the records in DIR (default outputs/quickstart)
  assay list [KIND]             metrics, generators, datasets, extractors, studies, trainers, experiments, tunings
  assay train [OVERRIDE ...]    train a generator or a feature space, e.g. generator=vae dataset=mnist
  assay statistics PATH --features NAME --out FILE.npz      mean and covariance of features, as pytorch-fid reads them
  assay compare-features FAKE REAL [METRIC ...]        set metrics of two files of features [N, D]
  --plugin FILE                 with any of these: a Python file that declares metrics or anything else
  --fake PATH --real PATH       with run: generated samples and real ones, each a folder or a file; several sets of
                                generated ones in turn, each with a name for the tables: --fake A=PATH --fake B=PATH;
                                real ones may be a file of statistics, mu and sigma, for metric=frechet_distance

  assay run experiment=quickstart                      the VAE on Fashion-MNIST, all per-sample scores
  assay run generator=stylegan2 generator.path=FILE    a published file, alone
  assay run --fake FOLDER --real REALS metric=[precision,recall]      the same as, where paths have plain names,
  assay run generator=replay generator.path=FOLDER dataset=folder dataset.root=REALS metric=[precision,recall]
  assay run --fake FOLDER --real REALS study=select scores=[realism]  the 50 best as files, and a csv of all ranks
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
    arguments = take_plugins(sys.argv[1:])
    commands: Mapping[str, Callable[[list[str]], int]] = {
        "run": _run, "status": _status, "report": _report, "list": _list, "train": _train,
        "statistics": _statistics, "compare-features": _compare_features,
    }  # fmt: skip
    asked = {"-h", "--help"} & set(arguments)
    if not arguments or arguments[0] == "help" or (asked and arguments[0] not in OWN_HELP):
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
    overrides, paths, fakes = take_paths(overrides)
    if set(overrides) <= {"-h", "--help"} and overrides:  # with the options of all that could be chosen
        overrides = ["study=all", "metric=all", *overrides]
    overrides = without_data(full_names(renamed(overrides), "vae"))
    expanded = partial(_with_paths, paths=paths, fakes=fakes)
    outcomes = _carry_out(overrides, expanded, is_glob("metric", overrides))
    reasons: dict[str, dict[str, None]] = {}
    for name, why in (pair for outcome in outcomes for pair in outcome.left_out.items()):
        reasons.setdefault(why, {})[name] = None
    for why, names in reasons.items():
        say(f"left out: {', '.join(names)}: {why}")
    for line in dict.fromkeys(line for outcome in outcomes for line in outcome.samples):
        say(f"samples, {line}")
    for name, store in dict.fromkeys((outcome.folder, outcome.store) for outcome in outcomes):
        folder, here = Path(name), [outcome for outcome in outcomes if outcome.folder == name]
        anew = any(outcome.anew for outcome in here)
        if anew or not (folder / "scores.parquet").exists():
            write_scores(folder, open_store(store))
        print(report(folder))
        if not anew:
            say("nothing was recomputed: every record and every array was there and valid")
        for line in dict.fromkeys(line for outcome in here for line in outcome.failed):
            say(f"failed: {line}")
        say(compare_with_published(folder))
        if is_published(folder):
            pack(folder)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def _carry_out(
    overrides: list[str], expanded: Callable[[dict[str, Any]], list[dict[str, Any]]], from_glob: bool
) -> list[Outcome]:
    """The outcomes of all jobs of a command, each of which is planned before the first one starts."""
    from .command.sweep import configs
    from .engines.plan import Plan, job_key

    _register(overrides, "evaluate")
    composed = configs("evaluate", overrides)
    if composed is None:  # Hydra's launcher or sweeper knows which jobs there are

        def jobs(config: dict[str, Any]) -> list[dict[str, Any]]:
            discover()
            found = []
            for one in expanded(config):
                try:
                    found.append(_job(one, from_glob, False, {}))
                except CANNOT_BEGIN as failure:
                    found.append(_refused(one, failure))
            return list(map(asdict, found))

        return [Outcome(**fields) for done in _hydra("evaluate", overrides, jobs) for fields in done]
    planned = [one for config in composed for one in expanded(config)]
    for config in planned:
        check_options(config)
        require_writable(_folder(config))
        Plan(_folder(config)).add(job_key(config), _planned(config))
    opened: dict[str, tuple[str, Any]] = {}
    outcomes, refused = list[Outcome](), list[tuple[dict[str, Any], Exception]]()
    for config in planned:
        try:
            outcomes.append(_job(config, from_glob, len(planned) == 1, opened))
        except CANNOT_BEGIN as failure:
            refused.append((config, failure))
    if not outcomes:  # none could begin: a wrong call, of which nothing is recorded
        raise refused[0][1]
    return outcomes + [_refused(config, failure) for config, failure in refused]


def _with_paths(
    config: dict[str, Any], paths: Mapping[tuple[str, str, str], str], fakes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A config for each set of generated samples that was given by its path, or the one there is.

    paths: options that Hydra's grammar never sees, by group, name and option. fakes: paths of samples by name.
    """
    for (group, name, option), path in paths.items():
        config[group][name][option] = path
    if not fakes:
        return [config]
    replayed = config["generator"]["replay"]
    return [config | {"generator": {"replay": replayed | {"path": path, "name": name}}} for name, path in fakes.items()]


def _folder(config: Mapping[str, Any]) -> Path:
    return Path(config["out"]) / str(config["name"])


def _planned(config: Mapping[str, Any]) -> Job:
    """What a job is going to evaluate, as far as its config tells."""
    from .engines.plan import Job
    from .run import label

    titles = []
    for group in ("generator", "dataset"):
        for name, options in config[group].items():
            titles.append(label(name, GROUPS[group][name].options, options or {}))
    metrics, studies = (_chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    title = f"{', '.join(titles)}, seed {config['seed']}"
    return Job(title, dict.fromkeys(metrics, ""), dict.fromkeys(studies, False))


def _job(config: dict[str, Any], from_glob: bool, alone: bool, opened: dict[str, tuple[str, Any]]) -> Outcome:
    """One generator on one data set: every chosen metric, then every chosen study.

    from_glob: the metric is one of many that nobody named: it is left out where it cannot be had for these samples.
    alone: whether there are no other jobs, so that a study that refuses its options is a wrong call.
    opened: what the job before has opened. Raises one of CANNOT_BEGIN where the generator or the data cannot be opened.
    """
    from .engines.plan import Plan, job_key
    from .evaluate import reason
    from .studies.carry_out import carry_out

    plan, key, planned = Plan(_folder(config)), job_key(config), _planned(config)
    metrics, studies = (_chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    check_options(config)
    run = _open(config, opened)
    for entries in (run.scores, run.quality_signals, run.set_metrics, *run.covariates.values(), run.classes or ()):
        run.cells(entries)  # before any work, so that an option out of its range is told at once
    arrays = run.views.store.made
    if not metrics and not studies:
        metrics, studies = {name: {} for name in run.available_metrics()}, {"samples": {}}
        say(f"no metric and no study chosen, so all {len(metrics)} metrics that have what they need, and samples")
    space = {} if config["space"] is None else {"space": config["space"]}
    encode = {} if config["encode"] is None else {"encode": config["encode"]}
    encoding = [name for name in metrics if _takes_encode(run, name, space)] if encode else []
    if encode and not encoding and not from_glob:
        raise ValueError(
            f"encode={config['encode']}: none of the chosen metrics reads codes of real samples; leave it out"
        )
    left_out: dict[str, str] = {}
    cells: dict[str, Cell] = {}
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
                cells[name] = run.refused(name, asked, reason(failure)).cell
            continue
        if from_glob and (why := run.lacks(name, cell)):
            left_out[name] = why
        else:
            cells[name] = cell
    planned.metrics = {name: record_name(cell) for name, cell in cells.items()}
    planned.studies = dict.fromkeys(studies, False)
    plan.begin(key, planned)
    refused = {record_name(record.cell) for record in run.written}
    for name, cell in cells.items():
        if planned.metrics[name] not in refused:
            run.evaluate(cell)
    for name, options in studies.items():
        try:
            carry_out(run, name, **(options or {}))
        except ValueError as failure:
            if alone:
                raise
            run.refused_study(name, reason(failure))
        planned.studies[name] = True
    plan.end(key, planned)
    failed = [record for record in run.written if record.status == "failed"]
    return Outcome(
        folder=str(run.folder),
        store=config["store"],
        anew=bool(run.written) or run.views.store.made > arrays,
        failed=[f"{record.cell.generator} {record.cell.label}: {record.error}" for record in failed],
        left_out=left_out,
        samples=[f"{source}: {' / '.join(words)}" for source, words in run.views.used.items()],
    )


def _refused(config: dict[str, Any], failure: Exception) -> Outcome:
    """The outcome of a job that could not begin: all that it was to evaluate is recorded as failed."""
    from .engines.plan import Plan, job_key
    from .run import unopened

    folder, planned, why = _folder(config), _planned(config), _reason(failure)
    metrics, studies = (_chosen(config.get(group) or {}, GROUPS[group]) for group in ("metric", "study"))
    records = unopened(config, folder, metrics, studies, why)
    planned.error = why
    Plan(folder).end(job_key(config), planned)
    name = records[0].cell.generator if records else planned.title
    return Outcome(str(folder), config["store"], True, [f"{name}: {why}"], {}, [])


def _takes_encode(run: Run, name: str, space: Mapping[str, str]) -> bool:
    try:
        return run.takes_encode(name, **space)
    except ValueError:  # it takes no such space either
        return False


def _chosen(node: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Those of {name: options} that were chosen: an experiment also sets options of studies that were left out."""
    return {name: options for name, options in node.items() if set(registry[name].options) <= set(options or {})}


def _open(config: dict[str, Any], opened: dict[str, tuple[str, Any]]) -> Run:
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
    return open_run(
        config["dataset"], config["generator"], folder, extractors=config["extractor"], opened=opened, **chosen
    )


def _train(overrides: list[str]) -> int:
    discover()
    # To the user it is a generator or an extractor that is trained; to hydra both are options of a trainer.
    overrides = [re.sub(r"^(generator|extractor)(?=[.=])", "trainer", override) for override in overrides]
    _hydra("train", full_names(renamed(overrides), "vae"), _train_job)
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
    from .arrays.scores import write_scores
    from .arrays.store import open_store
    from .engines.plan import status
    from .report.report import report
    from .report.tables import compare_with_published

    discover()
    folder = Path(arguments[0] if arguments else "outputs/quickstart")
    print(report(folder))
    write_scores(folder, open_store(os.environ.get("ASSAY_STORE")))
    say(compare_with_published(folder))
    with suppress(FileNotFoundError):
        for line in status(folder).missing:
            say(f"missing: {line}")
    return 0


def _status(arguments: list[str]) -> int:
    """Prints how far the commands are that write to a folder; 0 where all is done, else 1."""
    from .engines.plan import status

    found = status(Path(arguments[0] if arguments else "outputs/run"))
    print(found)
    return 0 if found.counts["done"] == sum(found.counts.values()) else 1


def _statistics(arguments: list[str]) -> int:
    from .command.statistics import main

    return main(arguments)


def _compare_features(arguments: list[str]) -> int:
    from .command.compare_features import main

    return main(arguments)


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


def _register(overrides: Sequence[str], config_name: str) -> None:
    """Tell Hydra what can be chosen. Raises LookupError and ValueError for overrides that are wrong."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, registry in GROUPS.items():
        every = {name: dict(entry.options) for name, entry in registry.items()}
        for name, options in every.items():
            store.store(group=group, name=name, node={name: options})
        store.store(group=group, name="all", node=every)
    check_names(overrides, config_name)


def _hydra(config_name: str, overrides: list[str], job: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Run a job for each combination that the overrides make. Returns what the jobs returned, as JSON can hold it.

    `hydra.main` returns nothing, and a launcher may run jobs in other processes: so each leaves its answer in a file.
    """
    import hydra

    from .formats.download import temporary_folder

    _register(overrides, config_name)
    plain = without_flags(overrides)
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
