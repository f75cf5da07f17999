"""Configuration files: dataclasses to YAML and back, with `8/255` understood and every name checked.

A configuration names methods by class: `objective: {class_path: InputGradient, init_args: {weight: 0.1}}`, or just
`objective: InputGradient`. Only classes that meseta's own folders name can be given, and those of modules that the user
allows, as `my_module.MyObjective`; nothing else is imported.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import jsonargparse
import yaml
from jsonargparse import _typehints
from jsonargparse._util import import_object

from meseta.allowed import is_ours, not_allowed, written
from meseta.errors import UserError, is_text, unknown_name
from meseta.files import SMALL, read_text
from meseta.registry import KINDS, methods

Config = TypeVar("Config")


class _Loader(yaml.SafeLoader):
    """YAML, safe, that also reads 8/255, 1e-3 and inf as numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; each key may stand in it once, and is text."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.YAMLError("a key is no text")
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one mapping")
        return super().construct_mapping(node, deep)


def _fraction(loader: _Loader, node: yaml.ScalarNode) -> float:
    top, bottom = (float(part) for part in str(loader.construct_scalar(node)).split("/"))
    if bottom == 0:
        raise UserError(f"{node.value} divides by zero. Give a number such as 8/255.")
    return top / bottom


_FRACTION = re.compile(r"^[-+]?\d+(\.\d+)?/\d+(\.\d+)?$")
_START = list("-+.0123456789")
_Loader.add_constructor("!fraction", _fraction)
_Loader.add_implicit_resolver("!fraction", _FRACTION, _START)
_Loader.add_constructor("!inf", lambda _, node: float(node.value))
_Loader.add_implicit_resolver("!inf", re.compile(r"^[-+]?inf$"), list("-+i"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), _START)


MOST_NODES = 100_000
"""Values that a YAML text may have with every alias written out; the longest recipe has a few hundred."""


def load_yaml(text: str) -> Any:
    """Return the content of YAML text; fractions such as 8/255 are numbers.

    Raises:
        yaml.YAMLError: no YAML, values that cannot be read, or aliases that stand for too much.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _written_out(node, {})
        return loader.construct_document(node)
    except UserError:
        raise
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, KeyError, AttributeError, OverflowError) as error:  # of values such as a date of month 99
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None


def _written_out(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many values a node has with its aliases written out: a text of ten lines can stand for billions."""
    if isinstance(node, yaml.ScalarNode) and not is_text(node.value):
        raise yaml.YAMLError(f"{node.value!r} holds half a character (a lone surrogate), which no text file can hold")
    if id(node) not in sizes:
        sizes[id(node)] = MOST_NODES  # of a node that holds itself
        pairs = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in pairs for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_written_out(part, sizes) for part in parts)
    if sizes[id(node)] >= MOST_NODES:
        raise yaml.YAMLError(f"more than {MOST_NODES:,} values, with every alias written out")
    return sizes[id(node)]


def _prepare() -> None:
    """Let jsonargparse find every method by its class name, and import nothing else."""
    _set_up()
    own = [method for kind in KINDS for method in methods(kind).values() if not is_ours(method)]
    jsonargparse.set_parsing_settings(import_path_allowlist=[written(method) for method in own])


@cache
def _set_up() -> None:
    _typehints.discard_init_args_on_class_path_change = _forget_replaced
    # In place of the stock loader, because parsers of nested methods always use the mode "yaml".
    jsonargparse.set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))
    jsonargparse.set_parsing_settings(
        subclasses_enabled=["is_pure_dataclass"],
        import_path_denylist=["*", "meseta.__main__"],  # all that is not allowed by name, and the module that runs
        import_path_allowlist=["meseta"],
        validate_defaults=False,
    )


def _forget_replaced(_: Any, previous: Any, chosen: Any) -> None:
    """Drop the settings of the method that another one replaces: its `weight` or `random_start` means something else.

    In place of jsonargparse's own, which hands on what the other method has under the same name, so that a file with
    `optimizer: AdamW` would train with the weight decay of Adam.
    """
    if previous and "init_args" in previous and previous["class_path"] != chosen["class_path"]:
        previous.pop("init_args")


def parser(config: type[Any], **options: Any) -> jsonargparse.ArgumentParser:
    """Return a parser with --config, --print_config and one option per field of the dataclass `config`."""
    _prepare()
    made = jsonargparse.ArgumentParser(parser_mode="yaml", exit_on_error=False, **options)
    made.add_argument("--config", action="config", help="YAML file; options after it override its entries.")
    made.add_class_arguments(config, None)
    return made


def parse(
    made: jsonargparse.ArgumentParser, config: type[Config], arguments: Sequence[str]
) -> tuple[Config, jsonargparse.Namespace]:
    """Return the dataclass `config` from the arguments of its parser, and all parsed arguments.

    Raises:
        UserError: an unknown option, key or name, or a value of the wrong type.
    """
    _check_files(arguments)
    return _built(made, config, lambda: made.parse_args(_plain_values(arguments)))


def build(config: type[Config], entries: Any) -> Config:
    """Return the dataclass `config` from entries as `plain` writes them, in which a method may stand by its name alone.

    Raises:
        UserError: an unknown key or name, or a value of the wrong type.
    """
    made = parser(config)
    return _built(made, config, lambda: made.parse_object(entries))[0]


def _built(
    made: jsonargparse.ArgumentParser, config: type[Config], read: Callable[[], jsonargparse.Namespace]
) -> tuple[Config, jsonargparse.Namespace]:
    """Return the dataclass `config` from what its parser reads, and all that was read."""
    try:
        parsed = read()
        _check_nulls(parsed, config)
        built = made.instantiate(parsed)
    except jsonargparse.ArgumentError as error:
        raise _explain(str(error.message)) from None
    except UserError:
        raise
    except ValueError as error:  # what the parser makes of a UserError where a value may be of several types
        raise _explain(str(error)) from None
    return config(**{field.name: built[field.name] for field in fields(config)}), built  # type: ignore[arg-type]


def _check_nulls(parsed: Any, made: type[Any]) -> None:
    """Raise where a value is null that must not be: the parser takes null for every type."""
    hints = get_type_hints(made)
    for name in (field.name for field in fields(made)):
        if name in parsed and parsed[name] is None and type(None) not in get_args(hints[name]):
            raise UserError(f"`{name}` must have a value, got null. Give one, or leave the key out.")
        for part in _parts(parsed.get(name)):
            _check_nulls(part.get("init_args") or {}, import_object(part["class_path"]))


def _parts(value: Any) -> list[Any]:
    """Return the methods in a parsed value, not those within them."""
    if isinstance(value, jsonargparse.Namespace) and "class_path" in value:
        return [value]
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [part for entry in entries for part in _parts(entry)]


def _check_files(arguments: Sequence[str]) -> None:
    """Raise where --config names something that is no text file of a usual size."""
    for option, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, given = option.partition("=")
        if name == "--config":
            read_text("config", Path(given if equals else value), SMALL)


def _plain_values(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with values written out: 8/255 as a decimal, the name of a method with all its defaults.

    With its defaults, because a setting of the method that it replaces, such as `weight`, would be in other units.
    """
    result = []
    option = ""
    for argument in arguments:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            result.append(f"{option}={_plain_value(option, value)}" if equals else argument)
            option = "" if equals else option
        else:
            result.append(_plain_value(option, argument))
            option = ""
    return result


def _plain_value(option: str, value: str) -> str:
    key = option.removeprefix("--").split(".")[-1]
    if _FRACTION.match(value) and key not in ("", "config", *_TEXT):
        return repr(load_yaml(value))
    kind = _kind(key)
    if kind and value in methods(kind):
        return json.dumps(plain(methods(kind)[value]()))
    return value


_TEXT = ("name", "out", "source", "start_from", "label_column", "device")
"""Options that hold text, where 2024/10 is a folder and no number."""


def read(config: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file into the dataclass `config`.

    Raises:
        UserError: no such file, not YAML, an unknown key or name, or a value of the wrong type.
    """
    made, _ = parse(parser(config), config, ["--config", str(path), *overrides])
    return made


def _explain(message: str) -> UserError:
    """Return the error for what the parser could not take, in one line, with the known names where one was unknown."""
    noise = ("Does not validate", "Subtypes:", "Errors:", "- Expected a <class 'NoneType'>", "Given value")
    lines = [line.strip() for line in message.splitlines()]
    text = " ".join(line.removeprefix("- ") for line in lines if not line.startswith(noise))
    if denied := re.search(r"Importing '([\w.]+)' is not allowed", text):
        key = re.findall(r'[Pp]arser key "([\w.]+)"', text)
        return not_allowed(key[-1] if key else "config", denied[1])
    unknown = re.search(r"(?:dot import path string: |class_path ')(?:[\w.]*\.)?(\w+)\W*$", text)
    key = re.findall(r'[Pp]arser key "([\w.]+)"', text)
    if unknown and key:
        kind = _kind(key[-1])
        known = [name for each in ([kind] if kind else KINDS) for name in methods(each)]
        if unknown[1] not in known:
            return unknown_name(key[-1], unknown[1], known)
    if "Expected a <class 'tuple'>" in text:
        text += " Write a list: [A, B]."
    return UserError(text.replace("Unexpected config:", "config: not a mapping of options:"))


def _kind(key: str) -> str | None:
    """Return the kind of method that a key takes, by its name; None where the name tells none."""
    by_role = {
        "parts": "objectives",
        "loss": "scalar fields",
        "field": "scalar fields",
        "start": "attacks",
        "nearest": "attacks",
    }
    return by_role.get(key) or next((kind for kind in KINDS if kind.rstrip("s") == key.rstrip("s")), None)


def dump(config: Any) -> str:
    """Return a configuration as YAML that `read` gives back."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Return a configuration as dicts, lists, strings and numbers; methods as class_path and init_args."""
    if is_dataclass(value) and not isinstance(value, type):
        options = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        is_method = any(is_dataclass(base) for base in type(value).__mro__[1:])
        return {"class_path": written(type(value)), "init_args": options} if is_method else options
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
