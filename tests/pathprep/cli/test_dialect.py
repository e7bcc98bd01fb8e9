"""The dialect of both commands: options from parameter classes, --config, --json, messages."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pathprep.cli import dialect
from pathprep.cli.command_file import is_given, save_command
from pathprep.cli.messages import in_options, option_names
from pathprep.cli.signatures import with_settings
from pathprep.errors import UsageError
from pathprep.params.settings import Setting, build, flat


@dataclass(frozen=True)
class Inner:
    """Of a dataclass inside."""

    beta: Annotated[float, Setting("Weight.", "Stain", "stain_beta")] = 0.5


@dataclass(frozen=True)
class Outer:
    """What a command takes."""

    size: Annotated[int, Setting("Side; see `stain_beta`.")] = 3
    mode: Annotated[Literal["native", "resize"], Setting("Keep or reduce.", "Tiles", flags=True)] = "native"
    kind: Annotated[Literal["a", "b"], Setting("Which.", "Tiles")] = "a"
    check: Annotated[bool, Setting("Look twice.", "Expert")] = True
    hidden: int = 7
    inner: Inner = field(default_factory=Inner)


def make(*more: str) -> tuple[typer.Typer, list[dict[str, Any]]]:
    """An app of one command with more than ten options, and what it was called with."""
    app, calls = typer.Typer(), []

    @with_settings(Outer)
    def work(
        context: typer.Context,
        things: Annotated[list[Path], typer.Argument(help="Things.")],
        settings: dict[str, Any],
        out: Path = Path("out"),
        b: int = 1,
        c: int = 2,
        d: int = 3,
        e: float | None = None,
        as_json: dialect.Json = False,
        out_json: dialect.OutJson = None,
    ) -> None:
        given = [name for name in context.params if is_given(context, name)]
        calls.append({"settings": settings, "things": things, "b": b, "e": e, "given": given})
        save_command(context, out)
        dialect.give({"b": b}, as_json, out_json, lambda: print("shown"))

    dialect.add(app, work)
    return app, calls


def test_options_are_those_of_the_class_and_reach_it_again(tmp_path: Path) -> None:
    app, calls = make()
    words = ["x", "--out", str(tmp_path), "--size", "5", "--resize", "--stain-beta", "0.25", "--no-check"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    settings = calls[0]["settings"]
    assert settings == {"size": 5, "mode": "resize", "kind": "a", "check": False, "stain_beta": 0.25}
    assert build(Outer, settings) == Outer(5, "resize", "a", False, 7, Inner(0.25))
    assert list(flat(Outer)) == ["size", "mode", "kind", "check", "stain_beta"]


def test_help_has_panels_in_their_order_and_names_options() -> None:
    text = CliRunner().invoke(make()[0], ["--help"], env={"COLUMNS": "100"}).output
    heads = [line.split()[1] for line in text.splitlines() if line.startswith("╭─")]
    assert heads == ["Arguments", "Options", "Tiles", "Stain", "Running", "Output", "Expert"]
    assert "Side; see --stain-beta." in text
    assert "<a|b>" in text


def test_a_command_can_be_given_again_from_what_it_saved(tmp_path: Path) -> None:
    app, calls = make()
    words = ["x", "y", "--out", str(tmp_path), "--size", "5", "--resize", "--kind", "b", "-" * 2 + "e", "0.5"]
    assert CliRunner().invoke(app, words).exit_code == 0
    saved = yaml.safe_load((tmp_path / "work.yaml").read_text())
    assert saved["size"] == 5
    assert Path(saved["things"][0]).is_absolute()
    done = CliRunner().invoke(app, ["--config", str(tmp_path / "work.yaml")])
    assert done.exit_code == 0, done.output
    first, again = calls
    assert again["settings"] == first["settings"]
    assert again["e"] == 0.5
    assert "size" in again["given"]
    # what is given here goes before the file
    assert (
        CliRunner().invoke(app, ["z", "--config", str(tmp_path / "work.yaml"), "--size", "9"]).exit_code == 0
    )
    assert calls[2]["settings"]["size"] == 9
    assert calls[2]["things"] == [Path("z")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("siz: 3", "`siz`: no such parameter; did you mean `size`?"),
        ("- 1", "expected `option: value` lines"),
        ("size: 3\na: [", "line 2: not YAML"),
        ("config: x.yaml", "`config`: no such parameter"),
        ("mode resize: true", "`mode resize`: no such parameter"),
        ("as_json: true", "`as_json`: no such parameter"),
    ],
)
def test_wrong_config(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    done = CliRunner().invoke(make()[0], ["x", "--config", str(tmp_path / "c.yaml")])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_one_value_in_a_config_stands_for_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"things: x\nout: {tmp_path}\n")
    app, calls = make()
    done = CliRunner().invoke(app, ["--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 0, done.output
    assert calls[0]["things"] == [Path("x")]
    # an option a line, as it says
    assert "size: 3\n" in (tmp_path / "work.yaml").read_text()


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(make()[0], ["x", "--config", str(tmp_path / "none.yaml")])
    assert "none.yaml: No such file or directory" in str(done.exception)


def test_a_value_of_the_wrong_kind_in_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("size: many\nkind: a\n")
    done = CliRunner().invoke(make()[0], ["x", "--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 2
    assert "--size" in done.output
    (tmp_path / "c.yaml").write_text("kind: c\n")
    done = CliRunner().invoke(make()[0], ["x", "--config", str(tmp_path / "c.yaml")])
    assert done.exit_code == 2
    assert "--kind" in done.output


def test_json_is_printed_and_written(tmp_path: Path) -> None:
    app, _ = make()
    words = ["x", "--out", str(tmp_path), "--json", "--out-json", str(tmp_path / "new" / "r.json")]
    done = CliRunner().invoke(app, words)
    assert json.loads(done.stdout) == {"b": 1}
    assert json.loads((tmp_path / "new" / "r.json").read_text()) == {"b": 1}
    assert "shown" in CliRunner().invoke(app, ["x", "--out", str(tmp_path)]).stdout


def test_messages_name_options() -> None:
    command = typer.main.get_command(make()[0])
    names = option_names(typer.Context(command))
    for text, said in {
        "`stain_beta` is a share; see `pathprep verify`": "--stain-beta is a share; see `pathprep verify`",
        "(`check` False leaves it out)": "(--no-check leaves it out)",
        "use `mode` resize, or another `out`": "use --resize, or another --out",
        "`things`: none of them": "THINGS: none of them",
    }.items():
        assert in_options(text, names) == said
    with pytest.raises(UsageError, match="did you mean `stain_beta`"):
        build(Outer, {"stain_bet": 1})


def test_a_url_that_was_taken_for_a_path_is_saved_as_a_url(tmp_path: Path) -> None:
    done = CliRunner().invoke(make()[0], ["s3://bucket/set", "here", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    saved = yaml.safe_load((tmp_path / "work.yaml").read_text())
    assert saved["things"] == ["s3://bucket/set", str(Path("here").absolute())]
