"""What the site's pages take from the code: `{{ name argument }}` alone on a line becomes a table or a list.

mkdocs loads it as a hook. What is written by hand goes stale: commands, recipe keys, columns and
errors are read from where they are defined.
"""

import inspect
import json
import re
import types
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

REPOSITORY = Path(__file__).resolve().parents[1]
_DIRECTIVE = re.compile(r"^\{\{ (\w+)(?: (\S+))? \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_context: object) -> str:
    """Fill in a page; mkdocs calls it.

    Raises:
        KeyError: there is no such generator.
    """
    return _DIRECTIVE.sub(lambda match: GENERATORS[match[1]](*filter(None, [match[2]])), markdown)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells may hold line ends, bars and angle brackets."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    parts = " ".join(text.split()).split("`")  # every second one is code, in which all stands as it is
    parts[::2] = [part.replace("|", "\\|").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


# Commands


def commands(package: str) -> str:
    """Every command of ``pathprep`` or ``pathtrain``: its text, arguments and options in their panels."""
    app = __import__(f"{package}.cli", fromlist=["app"]).app
    return "\n\n".join(_commands(typer.main.get_command(app), package))


def _commands(group: Any, words: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{words} {name}")
            continue
        yield f"## {words} {name}"
        yield inspect.cleandoc(command.help or "")
        context = command.context_class(command, info_name=name)
        panels: dict[str, list[list[str]]] = {}
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is not None and parameter.name != "help":
                names, text = record
                panel = parameter.rich_help_panel or "Options"
                if parameter.param_type_name == "argument":
                    panel, names = "Arguments", names.partition(" <")[0].upper()
                panels.setdefault(panel, []).append(_row(names, text))
        for panel, rows in panels.items():
            yield table([panel, ""], rows)


def _row(names: str, text: str) -> list[str]:
    """An option as ``--help`` has it; what stands in brackets after its text becomes words."""
    words, _, extra = text.partition("  [")
    words = re.sub(r"(?<![\w`-])(--[a-z][a-z-]+)", r"`\1`", words)
    return [f"`{names}`", " ".join([words, *map(_said, filter(None, extra.removesuffix("]").split("; ")))])]


def _said(text: str) -> str:
    if text.startswith("default: "):
        return f"Default: `{text.removeprefix('default: ')}`."
    limits = text.replace("x>=", "from ").replace("<=x<=", " to ")
    return f"{limits.capitalize()}."


# Python


def front_door(package: str) -> str:
    """What a package gives to its users, by mkdocstrings."""
    names = __import__(package, fromlist=["__all__"]).__all__
    return "\n\n".join(f"::: {package}.{name}" for name in names)


# Recipes


def recipe_keys(name: str) -> str:
    """Every key of a pydantic model in ``pathtrain.recipes``, such as ``recipe.Recipe``, and its models'."""
    module, _, model = name.partition(".")
    found = getattr(__import__(f"pathtrain.recipes.{module}", fromlist=[model]), model)
    base = found.__bases__[0]
    skipped = set(base.model_fields) if base.__name__ != "Strict" else set()
    return "\n\n".join(_model(found, "", skipped))


def _model(model: type[BaseModel], key: str, skipped: Collection[str] = ()) -> Iterator[str]:
    words, described = _attributes(inspect.getdoc(model) or "")
    for base in model.__bases__:
        described = _attributes(inspect.getdoc(base) or "")[1] | described
    if key:
        yield f"### `{key}` {{#{key}}}"
    yield _prose(words)
    inner = []
    rows = []
    for name, field in model.model_fields.items():
        if name in skipped:
            continue
        path = f"{key}.{name}" if key else name
        takes = _type(field.annotation, field.metadata)
        nested = _nested(field.annotation)
        places = [path] if len(nested) == 1 else [f"{path}-{_kind(each)}" for each in nested]
        inner += zip(places, nested, strict=True)
        if nested:
            links = [f"[Keys](#{place})" for place in places]
            takes = takes.replace("Keys", links[0] if len(links) == 1 else f"one of {', '.join(links)}", 1)
        words = _prose(described.get(name, "")).removesuffix(".")
        said = [takes, f"{words[:1].upper()}{words[1:]}", _given(field)]
        rows.append([f"`{name}`", "".join(f"{each}. " for each in said if each)])
    yield table(["key", ""], rows)
    for path, nested in inner:
        yield from _model(nested, path)


def _attributes(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's text, and what its section Attributes says of each name."""
    head, _, section = doc.partition("Attributes:\n")
    indented = [line for line in section.splitlines() if line.startswith("    ")]
    described: dict[str, str] = {}
    names: list[str] = []
    for line in (each[4:] for each in indented):
        match = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if match is not None and not line.startswith(" "):
            names = match[1].split(", ")
            described.update(dict.fromkeys(names, match[2]))
        else:
            described.update({name: f"{described[name]} {line.strip()}" for name in names})
    tail = [line for line in section.splitlines() if line and not line.startswith("    ")]
    return " ".join([*head.split(), *tail]), described


def _prose(text: str) -> str:
    """Docstrings' ``code`` as Markdown; their pointers to modules say nothing to readers of the site."""
    return re.sub(r"[;,] see pathtrain[\w.]+", "", text).replace("``", "`")


def _nested(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key holds, perhaps in a tuple or optional; several where it holds one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _nested(inner)]


def _kind(model: type[BaseModel]) -> str:
    """What tells it from the others that a key may hold."""
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _type(annotation: Any, metadata: Any = ()) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(inner[0], annotation.__metadata__)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in inner))
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        each = _type(inner[0])
        return f"List: {each}" if inner[-1] is Ellipsis else f"{len(inner)} times: {each}"
    if annotation is type(None):
        return "`null`"
    name = {int: "Whole number", float: "Number", bool: "`true` or `false`", str: "Text", Path: "Path"}
    return " ".join([name.get(annotation, "Keys"), _bounds(metadata)]).strip()


def _bounds(metadata: Any) -> str:
    flat = [each for item in metadata for each in getattr(item, "metadata", [item])]
    low = next((f"from {each.ge}" for each in flat if isinstance(each, Ge)), "")
    low = next((f"above {each.gt}" for each in flat if isinstance(each, Gt)), low)
    high = next((f"to {each.le}" for each in flat if isinstance(each, Le)), "")
    high = next((f"below {each.lt}" for each in flat if isinstance(each, Lt)), high)
    return f"{low} {high}".strip()


def _given(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "Required"
    if isinstance(field.default, BaseModel):
        return ""
    return f"Default: `{json.dumps(field.default, default=str)}`"


def row_keys() -> str:
    """Every key of a row of the training log."""
    from pathtrain.training.row_keys import KEYS

    return table(["key", "", ""], [[f"`{name}`", key.title, key.words] for name, key in KEYS.items()])


def recipe(name: str) -> str:
    """A recipe in the box, as it stands."""
    text = (REPOSITORY / "pathtrain" / "recipes" / f"{name}.yaml").read_text()
    return f"```yaml\n{text.rstrip()}\n```"


# Errors, columns, figures, the changelog


def errors(package: str) -> str:
    """Every class of a package's ``errors`` and what it means."""
    module = __import__(f"{package}.errors", fromlist=["errors"])
    classes = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    ]
    bases = {each: each.__bases__[0].__name__ for each in classes}
    rows = [
        [f"`{each.__name__}`", f"`{bases[each]}`", _prose(inspect.getdoc(each) or "")] for each in classes
    ]
    return table(["error", "is a", "raised when"], rows)


def columns(name: str) -> str:
    """The columns of a table of ``pathprep.dataset.schema``, with the comments beside them."""
    from pathprep.dataset import schema

    source = (REPOSITORY / "pathprep" / "dataset" / "schema.py").read_text()
    said = dict(re.findall(r'^ +\("(\w+)", .*?\),  # (.*)$', source, re.MULTILINE))
    fields = list(getattr(schema, name))
    return table(
        ["column", "type", ""], [[f"`{f.name}`", f"`{_arrow(f.type)}`", said.get(f.name, "")] for f in fields]
    )


def _arrow(kind: Any) -> str:
    text = str(kind)
    return "text" if "string" in text else re.sub(r"fixed_size_list<\w+: (\w+)>\[(\d+)\]", r"\2 \1", text)


def result(name: str) -> str:
    """A page of ``bench/results`` without its title, its headings one level down."""
    text = (REPOSITORY / "bench" / "results" / f"{name}.md").read_text()
    return re.sub(r"^## ", "### ", text.partition("\n")[2].strip(), flags=re.MULTILINE)


def figures(name: str) -> str:
    """What a script of ``bench`` measured: medians, a row per case or side."""
    data = json.loads((REPOSITORY / "bench" / "results" / f"bench_{name}.json").read_text())
    if "rows" in data:  # kernels
        sizes = [key for key in ("size", "side", "stored") if key in data["rows"][0]]
        heads = [*sizes, "case", "µs a tile", "tiles/s", "copies of the tile"]
        keys = [*sizes, "case", "ns", "tiles_s", "copies"]
        rows = [{**row, "ns": row["ns"] / 1e3} for row in data["rows"]]
        return table(heads, [[_figure(row[key]) for key in keys] for row in rows])
    if "results" in data:  # loaders
        return table(
            ["tiles", "stain", "side", "tiles/s", "CPU ms a tile"],
            [
                [each["dataset"], each["stain"], side, _figure(speed), _figure(each["cpu_ms"][side])]
                for each in data["results"]
                for side, speed in each["medians"].items()
            ],
        )
    sides = data["median"].items()
    return table(
        ["side", "seconds", "tiles/s"],
        [[side, _figure(seconds), _figure(data["tiles"] / seconds)] for side, seconds in sides],
    )


def _figure(value: Any) -> str:
    """Three digits, or all of a whole number."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def changelog() -> str:
    """CHANGELOG.md without its title."""
    return (REPOSITORY / "CHANGELOG.md").read_text().partition("\n")[2].strip()


NOT_MEASURED = "Not yet measured."


def _newest(pattern: str) -> dict[str, Any] | None:
    """The latest of a script's results, over machines; None if there is none."""
    found = [json.loads(path.read_text()) for path in (REPOSITORY / "bench" / "results").glob(pattern)]
    return max(found, key=lambda data: data["machine"]["date"], default=None)


def chaos() -> str:
    """What ``make chaos`` counted, a row per command; the newest result."""
    data = _newest("chaos-*.json")
    if data is None:
        return NOT_MEASURED
    heads = ["command", "calls", "kills", "errors", "borne", "rounds", "runs in them", "told to wait"]
    rows = []
    for command, row in data["commands"].items():
        counts = [row["calls"], row["kills"]["hit"], row["errors"]["hit"], row["errors"]["borne"]]
        counts += [row["rounds"][key] for key in ("rounds", "runs", "told")]
        rows.append([f"`{command}`", *(f"{count:,}" for count in counts)])
    rows.append(["all", "", f"{data['kills']:,}", f"{data['errors']:,}", "", f"{data['rounds']:,}", "", ""])
    return f"{table(heads, rows)}\n\nTrials that ended otherwise than they must: {data['wrong']}."


def load() -> str:
    """What ``make chaos-load`` measured; the newest result."""
    data = _newest("chaos_load-*.json")
    if data is None:
        return NOT_MEASURED
    heads = ["what", "command", "seconds", "peak memory", "of the first and last fifth", "open files", "pace"]
    rows = []
    for kind, unit in (("many_slides", "slides"), ("many_tiles", "tiles")):
        for case in data[kind]:
            for command, run in case.items():
                if not isinstance(run, dict):
                    continue
                parts = [f"{size / 1e6:,.0f}" for size in run["peak_bytes_of_parts"]]
                pace = [f"{share:.2f}" for share in run["pace_of_parts"]]
                rows.append(
                    [
                        f"{case[unit]:,} {unit}",
                        f"`{command}`",
                        f"{run['seconds']:,.0f}",
                        f"{run['peak_bytes'] / 1e6:,.0f} MB",
                        f"{parts[0]}, {parts[-1]} MB",
                        f"{run['descriptors']:,}",
                        f"{pace[0]}, {pace[-1]}" if pace else "",
                    ]
                )
    return table(heads, rows)


_FAULTS = {"silent", "unnamed", "missed", "error", "traceback", "long", "hang", "death"}


def _sums(rows: dict[str, dict[str, Any]]) -> dict[str, int]:
    """What came of all rows of a part of ``make damage``, by outcome."""
    outcomes = dict.fromkeys(key for row in rows.values() for key in row)
    return {
        key: sum(row.get(key, 0) for row in rows.values())
        for key in outcomes
        if key not in ("seed", "seconds", "found")
    }


def damaged() -> str:
    """What ``make damage`` counted of damaged and replaced files, a row per kind; the newest result."""
    data = _newest("damage-*.json")
    if data is None:
        return NOT_MEASURED
    rows = []
    for kind in {**data["damaged"], "all": None}:
        each = [
            _sums(data[part] if kind == "all" else {kind: data[part][kind]})
            for part in ("damaged", "replaced")
        ]
        counts = [number for one in each for number in (sum(one.values()), one["told"], one["same"])]
        counts.append(sum(one[fault] for one in each for fault in _FAULTS & one.keys()))
        rows.append([kind, *(f"{count:,}" for count in counts)])
    heads = ["kind", "damages", "told", "the same", "replaced", "told", "the same", "faults"]
    both = [_sums(data[part]) for part in ("damaged", "replaced")]
    lines = [
        f"{name}: {sum(one[key] for one in both):,}"
        for name, key in (("Silent acceptances", "silent"), ("hangs", "hang"), ("deaths", "death"))
    ]
    return f"{table(heads, rows)}\n\n{', '.join(lines)}."


def inputs() -> str:
    """What ``make damage`` counted of drawn inputs, a row per parser; the newest result."""
    data = _newest("damage-*.json")
    if data is None:
        return NOT_MEASURED
    rows = []
    for name in {**data["fuzz"], "all": None}:
        each = _sums(data["fuzz"] if name == "all" else {name: data["fuzz"][name]})
        unclear = each["unnamed"] + each["long"]
        counts = [sum(each.values()), each["read"], each["refused"], each["traceback"], unclear]
        rows.append([name, *(f"{count:,}" for count in [*counts, each["hang"], each["death"]])])
    heads = ["parser", "inputs", "read", "refused", "tracebacks", "unclear errors", "hangs", "deaths"]
    slides, stated = _sums(data["slides"]), _sums(data["resolutions"])
    blind = "[nothing can tell](../guides/archives.md#damaged-slides)"
    said = {
        "refused": "refused",
        "equal": "with their own tiles",
        "differs": "with small differences",
        "unseen": f"with another picture where {blind}",
        "gross": "with another picture elsewhere",
        "unexpected": "tracebacks",
        "timeout": "hangs",
        "crash": "deaths",
    }
    counted = ", ".join(f"{words} {slides.get(key, 0):,}" for key, words in said.items())
    more = [
        f"Slides with changed bytes: {sum(slides.values()):,}; {counted}.",
        f"Stated resolutions: {sum(stated.values()):,}; wrong ones taken, or right ones not: "
        f"{stated.get('finding', 0):,}.",
    ]
    return "\n\n".join([table(heads, rows), *more])


def machines() -> str:
    """On what the files of ``bench/results`` were measured, and when."""
    rows = []
    for path in sorted((REPOSITORY / "bench" / "results").glob("*.json")):
        machine = json.loads(path.read_text()).get("machine")
        if machine is not None:
            cards = ", ".join(machine["gpus"]) or "none"
            rows.append(
                [f"`{path.name}`", f"{machine['cpu']}, {machine['cores']} cores", cards, machine["date"]]
            )
    return table(["file", "CPU", "GPU", "date"], rows)


_ALL = (
    commands,
    front_door,
    recipe_keys,
    row_keys,
    recipe,
    errors,
    columns,
    result,
    figures,
    changelog,
    chaos,
    load,
    damaged,
    inputs,
    machines,
)
GENERATORS: dict[str, Callable[..., str]] = {each.__name__: each for each in _ALL}
