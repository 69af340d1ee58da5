"""Files and folders among the arguments, which Hydra never sees: samples, and plugins."""

from collections.abc import Sequence
from pathlib import Path

from ..core.discovery import plugin_files, tell_plugin_files


def take_paths(arguments: list[str]) -> tuple[list[str], dict[tuple[str, str, str], str], dict[str, str]]:
    """The arguments without `--fake [NAME=]PATH ... --real PATH`, and these as options that Hydra never sees.

    The options of a data set by group, name and option, and the paths of generated samples by the name of each, which
    is the end of its path that tells it from the others. Paths need no quotes.
    """
    rest, paths, fakes = list[str](), dict[tuple[str, str, str], str](), list[tuple[str, Path]]()
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag not in ("--fake", "--real"):
            rest.append(argument)
            continue
        name, path = _existing(flag, value if equals else next(remaining, ""))
        if flag == "--fake":
            fakes.append((name, path))
        elif paths:
            raise ValueError(f"--real {path}: there is one set of real samples, and it was given already")
        else:
            paths[real_data(path)] = str(path)
    for (group, chosen, _), flag in {**dict.fromkeys(paths, "--real"), ("generator", "replay", ""): "--fake"}.items():
        if flag == "--fake" and not fakes:
            continue
        if named := next((one for one in arguments if one.startswith(f"{group}=")), None):
            raise ValueError(f"{flag} chooses {group}={chosen}, so leave out {named}")
        rest.append(f"{group}={chosen}")
    ends = _different_ends([path for _, path in fakes])
    names = [name or end for (name, _), end in zip(fakes, ends, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"--fake: {', '.join(names)} are not different; give each a name of its own: --fake NAME=PATH")
    return rest, paths, {name: str(path) for name, (_, path) in zip(names, fakes, strict=True)}


def _existing(flag: str, given: str) -> tuple[str, Path]:
    """The name, "" where there is none, and the absolute path in "PATH" or "NAME=PATH"."""
    name, _, rest = given.partition("=")
    for named, text in (("", given), (name, rest)):
        for path in (Path(text), Path(text).expanduser()):
            if text and path.exists():
                return named, path.absolute()
    raise FileNotFoundError(f"{flag} {given}: there is no such folder or file")


def _different_ends(paths: Sequence[Path]) -> list[str]:
    """The end of each path, with as many folders as make all ends different; whole paths where nothing does."""
    for depth in range(1, max((len(path.parts) for path in paths), default=1)):
        ends = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(ends)) == len(ends):
            return ends
    return list(map(str, paths))


def real_data(path: Path) -> tuple[str, str, str]:
    """The data set that opens a path, and its option."""
    from ..objects.paths import dataset_of

    return ("dataset", *dataset_of(path))


def take_plugins(arguments: list[str]) -> list[str]:
    """The arguments without `--plugin FILE`; the files go to the environment, which worker processes inherit."""
    rest, files = [], plugin_files()
    position = 0
    while position < len(arguments):
        if arguments[position] == "--plugin" and position + 1 < len(arguments):
            files.append(Path(arguments[position + 1]).absolute())
            position += 1
        elif arguments[position].startswith("--plugin="):
            files.append(Path(arguments[position].removeprefix("--plugin=")).absolute())
        else:
            rest.append(arguments[position])
        position += 1
    tell_plugin_files(files)
    return rest
