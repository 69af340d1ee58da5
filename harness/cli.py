"""The command line. Only command/ knows Hydra.

Each command imports what it needs, so that `assay --help` does not wait for torch.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .command.hydra_jobs import one_line, run_jobs
from .command.jobs import carry_out_all, with_paths
from .command.overrides import full_names, is_glob, with_metrics, without_data
from .command.paths import take_paths, take_plugins
from .core.escapes import for_terminal
from .core.files import require_plain
from .core.progress import say
from .core.registry import DATASETS, check_options, discover, unknown
from .core.renamed import renamed

if TYPE_CHECKING:
    from .sinks.jobs import JobLogs

OWN_HELP = ("run", "train", "statistics", "compare-features", "check", "store", "board", "paper", "list",
            "select")  # fmt: skip
"""Commands that answer --help themselves, the first two through Hydra."""
HELP = f"""assay {__version__}: how good are the samples of a generative model, and the metrics that claim to tell?

  assay run [OVERRIDE ...]      evaluate cells and studies, write records, tables, pictures and a page
  assay run -m [OVERRIDE ...]   the same for every combination of the values given, e.g. seed=0,1,2
  assay select [OVERRIDE ...]   keep good samples as files: the best by a score, or as many as can be promised good
  assay status [DIR]            what is done, failed, running and missing of the runs in DIR (default outputs/run)
  assay check [DIR]             what is wrong with results, e.g. edited records of somebody else (default outputs/run)
  assay store verify [DIR]      whether the arrays that runs keep are whole, and those of their keys
  assay report [DIR]            make tables and page again from the records in DIR (default outputs/quickstart)
  assay board DIR [DIR ...]     results folders, anybody's, in one leaderboard (outputs/board, or --out DIR)
  assay paper DIR [FILE.yaml]   tables of the records in DIR for a paper, in LaTeX (docs/papers.md)
  assay list [KIND]             metrics, generators, datasets, extractors, studies, trainers, sinks, experiments,
                                tunings, networks
  assay list metrics --evidence NAME      what tests of a metric have found; without NAME of all metrics
  assay train [OVERRIDE ...]    train a generator or a feature space, e.g. generator=vae dataset=mnist; or a list of
                                networks, networks=latent_density, which `assay run networks=...` then evaluates
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
  assay select --fake FOLDER --real REALS score=realism               the 50 best as files, and a csv of all ranks
  assay run metric=[precision,recall] n=2000           two metrics
  assay run metric=latent_density metric.latent_density.bandwidth=0.5
  assay run -m 'metric=glob(*)' dataset=digits         every metric, on a small data set
  assay --plugin FILE run experiment=metric metric=NAME      puts a metric of your own to the test
  assay run metric=precision sink=wandb                results go to wandb, too, offline; or sink=[wandb,tensorboard]
  assay run engine=processes engine.workers=4 ...      several processes; Ray and Slurm: docs/clusters.md

`assay run --help` shows every option with its default. Names and values: https://hydra.cc (override grammar)."""


def main() -> None:
    """Entry point of `assay`.

    Exits with 0, 1 (a failed run or cell), 2 (a wrong call), 130 (interrupted) or 141 (its output is no longer read).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every terminal has an arrow, or a name of this file
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _answer(take_plugins(sys.argv[1:]))
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        code = 130
    except BrokenPipeError:  # as after `| head`; what is left of the output goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except (LookupError, OSError, ValueError) as error:
        say(f"error: {one_line(error)}")
        code = 2
    sys.exit(code)


def _answer(arguments: list[str]) -> int:
    commands: Mapping[str, Callable[[list[str]], int]] = {
        "run": _run, "status": _status, "report": _report, "list": _list, "train": _train,
        "statistics": _statistics, "compare-features": _compare_features, "check": _check, "store": _store,
        "board": _board, "paper": _paper, "select": _select,
    }  # fmt: skip
    asked = {"-h", "--help"} & set(arguments)
    if not arguments or arguments[0] == "help" or (asked and arguments[0] not in OWN_HELP):
        print(HELP)
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    if arguments[0] not in commands:
        raise LookupError(unknown("command", arguments[0], list(commands)))
    return commands[arguments[0]](arguments[1:])


def _run(overrides: list[str]) -> int:
    from .core.allocator import keep_freed_memory
    from .sinks.jobs import JobLogs

    keep_freed_memory()
    with JobLogs(["run", *overrides]) as logs:
        return _carry_out(overrides, logs)


def _carry_out(overrides: list[str], logs: JobLogs) -> int:
    from .arrays.records import pack, read_records, record_name
    from .arrays.scores import write_scores
    from .arrays.store import open_store
    from .command.networks import each_network
    from .command.tested import evidence_of, put_to_test
    from .report.report import report
    from .report.tables import compare_with_published, is_published

    discover()
    overrides, paths, fakes = take_paths(overrides)
    if set(overrides) <= {"-h", "--help"} and overrides:  # with the options of all that could be chosen
        overrides = ["study=all", "metric=all", "sink=all", *overrides]
    overrides, tested = put_to_test(renamed(overrides))
    overrides = without_data(with_metrics(full_names(overrides, "vae")))
    given = overrides

    def expanded(config: dict[str, Any]) -> list[dict[str, Any]]:
        return [job for one in each_network(config, given) for job in with_paths(one, paths, fakes)]

    outcomes = carry_out_all(overrides, expanded, is_glob("metric", overrides), logs)
    reasons: dict[str, dict[str, None]] = {}
    for name, why in (pair for outcome in outcomes for pair in outcome.left_out.items()):
        reasons.setdefault(why, {})[name] = None
    for why, names in reasons.items():
        say(f"left out: {', '.join(names)}: {why}")
    for line in dict.fromkeys(line for outcome in outcomes for line in outcome.samples):
        say(f"samples, {line}")
    lost = False
    for name, store in dict.fromkeys((outcome.folder, outcome.store) for outcome in outcomes):
        folder, here = Path(name), [outcome for outcome in outcomes if outcome.folder == name]
        if not any(outcome.records or outcome.failed for outcome in here):  # a study has asked for labels first
            continue
        anew = any(outcome.anew for outcome in here)
        if anew or not (folder / "scores.parquet").exists():
            write_scores(folder, open_store(store))
        print(report(folder))
        if not anew:
            say("nothing was recomputed: every record and every array was there and valid")
        for line in dict.fromkeys(line for outcome in here for line in outcome.failed):
            say(f"failed: {line}")
        there = {record_name(record.cell) for record in read_records(folder)}
        asked = {record for outcome in here for record in outcome.records}
        if gone := len(asked - there):
            lost = True
            say(f"error: {gone} of {len(asked)} records were deleted from {folder} meanwhile; run the command again")
        for line in evidence_of(folder, tested) if tested else ():
            print(line)
        say(compare_with_published(folder))
        logs.reported(here[0].config, any(outcome.failed for outcome in here))
        if is_published(folder):
            pack(folder)
    return 1 if lost or any(outcome.failed for outcome in outcomes) else 0


def _select(words: list[str]) -> int:
    from .command.select import HELP, as_run

    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    discover()
    return _run(as_run(words))


def _train(overrides: list[str]) -> int:
    discover()
    job = partial(_train_job, ["train", *overrides])
    # To the user it is a generator or an extractor that is trained; to hydra both are options of a trainer.
    overrides = [re.sub(r"^(generator|extractor)(?=[.=])", "trainer", override) for override in overrides]
    failed = run_jobs("train", full_names(renamed(overrides), "vae"), job)
    return 1 if any(failed) else 0


def _train_job(words: list[str], plain: dict[str, Any]) -> int:
    """Train one network, or those of a list; returns how many of a list could not be trained."""
    from .arrays.opened import only
    from .command.networks import train_networks
    from .core.protocols import pick_device
    from .sinks.jobs import log_of_training
    from .studies.fine_tune.importance import by_pseudo_density
    from .train import Measure, train

    discover()
    if plain.get("networks"):
        return train_networks(plain, words)
    check_options(plain)
    data_name, data_options = only(plain["dataset"], "dataset")
    name, options = only(plain["trainer"], "trainer")
    data = DATASETS[data_name].function(**data_options)
    device, out = pick_device(plain["device"]), Path(plain["out"])
    if plain["name"] is not None:
        require_plain(str(plain["name"]))
    weigh = partial(by_pseudo_density, data, device, **plain["importance"])
    more = {"tag": plain["name"], "images": plain["images"], "snapshots": plain["snapshots"]}
    measure = Measure(**plain["measure"])
    with log_of_training(f"{name} on {data.name}, seed {plain['seed']}", out, plain, words) as log:
        more |= {"weigh": weigh, "measure": measure, "log": log}
        train(name, options, data, plain["seed"], out, device, data_options, **more)
    return 0


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
    print(for_terminal(str(found)))
    return 0 if found.counts["done"] == sum(found.counts.values()) else 1


def _statistics(arguments: list[str]) -> int:
    from .command.statistics import main

    return main(arguments)


def _compare_features(arguments: list[str]) -> int:
    from .command.compare_features import main

    return main(arguments)


def _check(arguments: list[str]) -> int:
    from .command.check import main

    return main(arguments)


def _store(arguments: list[str]) -> int:
    from .command.store import main

    return main(arguments)


def _board(arguments: list[str]) -> int:
    from .command.board import main

    return main(arguments)


def _paper(arguments: list[str]) -> int:
    from .command.paper import main

    return main(arguments)


def _list(arguments: list[str]) -> int:
    from .command.listing import main

    return main(arguments)
