"""Names with options, in whatever form they are given: "precision", "precision(k=3)", ("precision", {"k": 3})."""

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.registry import Registry

WORDS = {"true": True, "false": False, "null": None}
"""Plain words in options that are no text, as on the command line."""


class Named(NamedTuple):
    """A name and its options."""

    name: str
    options: Mapping[str, Any]

    @property
    def node(self) -> dict[str, Mapping[str, Any]]:
        return {self.name: self.options}


def named(registry: Registry, given: Any) -> Named | None:
    """What an object names in a registry; None where it is no name at all, or a text that is not in the registry.

    Options are literals: numbers, texts, lists, true, false and null; a plain word is a text. A function that was
    declared is its own name. Raises ValueError for options that cannot be read.
    """
    if isinstance(given, str):
        name, bracket, _ = given.partition("(")
        if name.strip() not in registry:
            return None
        return Named(name.strip(), _options(given, registry.noun) if bracket else {})
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and _is_options(given[1]):
        found = named(registry, given[0])
        return found and Named(found.name, {**found.options, **(given[1] or {})})
    if isinstance(given, Mapping) and len(given) == 1:
        ((name, options),) = given.items()
        return Named(name, options or {}) if name in registry and _is_options(options) else None
    if callable(given) and (name := getattr(given, "__name__", "")) in registry:
        return Named(name, {}) if registry[name].function is given else None
    return None


def _is_options(given: Any) -> bool:
    return given is None or (isinstance(given, Mapping) and all(isinstance(key, str) for key in given))


def _options(text: str, noun: str) -> dict[str, Any]:
    """The options in "name(option=value, ...)"."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise SyntaxError
        return {str(word.arg): _value(word.value) for word in call.keywords}
    except (SyntaxError, ValueError):
        raise ValueError(
            f"{noun} {text!r} cannot be read; write it as name(option=value, other='text'), or as a pair "
            "(name, {option: value})"
        ) from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return WORDS.get(node.id, node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(entry) for entry in node.elts]
    return ast.literal_eval(node)
