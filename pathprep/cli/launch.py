"""Where `pathprep shard` runs: its options on launchers, and what they mean."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pathprep.cli.options import output
from pathprep.errors import UsageError

if TYPE_CHECKING:
    from pathprep.launchers.base import Launcher
    from pathprep.params.shard import ShardParams
    from pathprep.sharding.plan import Plan
    from pathprep.sharding.remote import Remote

PANEL = "Running"


class LauncherChoice(StrEnum):
    """What runs the slides."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


LauncherOption = Annotated[
    LauncherChoice,
    typer.Option(
        help="local: processes on this machine; ray: tasks on a Ray cluster; slurm: an array job.",
        rich_help_panel=PANEL,
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        help="Only part K (1 to N) of the slides, chosen by a hash of their names: for other schedulers.",
        rich_help_panel=PANEL,
    ),
]
AddressOption = Annotated[
    str,
    typer.Option(
        help="ray: auto (the cluster this machine is part of), host:port or ray://host:port.",
        rich_help_panel=PANEL,
    ),
]
RayCpusOption = Annotated[
    float, typer.Option(min=0.0, help="ray: CPUs, and threads, of a slide.", rich_help_panel=PANEL)
]
RayGpusOption = Annotated[
    float,
    typer.Option(
        min=0.0, help="ray: GPUs of a slide, such as 0.25; used as with --gpus.", rich_help_panel=PANEL
    ),
]
ArrayOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="slurm: elements of the array job.", rich_help_panel=PANEL),
]
SbatchOption = Annotated[
    str,
    typer.Option(
        help='slurm: more options of sbatch, as in "--partition=cpu --time=08:00:00".', rich_help_panel=PANEL
    ),
]
SubmitOption = Annotated[
    bool,
    typer.Option(
        "--submit/--no-submit", help="slurm: submit the script, or only write it.", rich_help_panel=PANEL
    ),
]

# Which options go with which launcher
_GO_WITH = {
    "workers": ("local", "slurm"),
    "gpus": ("local", "slurm"),
    "part": ("local", "ray"),
    "address": ("ray",),
    "ray_cpus": ("ray",),
    "ray_gpus": ("ray",),
    "array": ("slurm",),
    "sbatch_args": ("slurm",),
    "submit": ("slurm",),
}
# What the command of an array's element does not share with the command that submits it
_OWN = {"launcher", "as_json", "rebuild", *_GO_WITH} - {"gpus"}


def check(context: typer.Context) -> None:
    """Refuse options that go with another launcher: they would have no effect.

    Raises:
        UsageError: naming the option.
    """
    chosen: LauncherChoice = context.params["launcher"]
    for name, launchers in _GO_WITH.items():
        if _is_given(context, name) and chosen not in launchers:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} goes with --launcher {' or '.join(launchers)}, not {chosen}")
    if chosen == "slurm" and context.params["array"] is None:
        raise UsageError("--launcher slurm needs --array N, the number of elements of the array job")


def check_place(out: str, scratch: Path | None) -> None:
    """Refuse a --scratch that would have no effect, or is no folder.

    Raises:
        UsageError: saying so.
    """
    if "://" not in out and scratch is not None:
        raise UsageError("--scratch goes with a URL as --out, such as s3://bucket/folder")
    if "://" in out and scratch is not None and scratch.exists() and not scratch.is_dir():
        raise UsageError(f"--scratch {scratch}: not a folder")


@contextmanager
def place(out: str, scratch: Path | None, *, dry: bool) -> "Iterator[tuple[Path, Remote | None]]":
    """The local folder of a run, and what is at the URL if ``out`` is one; see remote.opened."""
    if "://" not in out:
        yield Path(out), None
        return
    from pathprep.sharding.remote import opened, writable

    with opened(writable(out), scratch, dry=dry) as remote:
        yield remote.root, remote


def slurm_folder(out: str) -> Path:
    """Where the script and the logs go: the dataset folder, or one of that name here if it is remote."""
    return Path(out.rstrip("/").rpartition("/")[2]) if "://" in out else Path(out)


def parse_part(text: str | None) -> tuple[int, int] | None:
    """``K/N`` as numbers.

    Raises:
        UsageError: not of that form, or K is not 1 to N.
    """
    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise UsageError(f"--part {text}: expected K/N with K from 1 to N, such as 1/8")
    return int(k), int(n)


def ray_launcher(address: str, cpus: float, gpus: float) -> "Launcher":
    """The launcher of a Ray cluster.

    Raises:
        UsageError: Ray is not installed, or a slide would take nothing.
    """
    if not cpus and not gpus:
        raise UsageError("--ray-cpus and --ray-gpus are both 0: every slide would run at once")
    if gpus > 1 and gpus != int(gpus):
        raise UsageError(f"--ray-gpus {gpus:g}: a share of one GPU (0.25), or a whole number")
    try:
        from pathprep.launchers.ray import Ray
    except ImportError as error:
        raise UsageError(
            f"--launcher ray: Ray is not installed ({error}); install with the extra ray: "
            "pip install 'pathprep[ray]'"
        ) from None
    return Ray(address, cpus, gpus)


def check_rebuild(root: Path, params: "ShardParams") -> None:
    """Refuse to make finished slides again with equal parameters in an array job.

    With other parameters, the elements' command does without --rebuild: every slide is of another build until
    it is made, and an element that is queued again goes on where it was.

    Raises:
        UsageError: saying so.
    """
    from pathprep.dataset.schema import build_id
    from pathprep.storage.json_files import read_json

    info = read_json(root / "dataset.json") or {}
    same = info.get("build_id") == build_id(params.as_dict())
    if same and any((root / "slides").glob("*.json")):
        raise UsageError(
            "--rebuild with --launcher slurm: the dataset has these parameters already, and an element that "
            "is queued again would begin again; leave out --rebuild to make what is missing, or choose "
            "another --out to make everything again"
        )


def submit_array(context: typer.Context, plan: "Plan[Any]", root: Path) -> None:
    """Write the script of an array job that does what the command line says, and submit it."""
    from pathprep.cli.console import counted
    from pathprep.launchers import slurm

    given = context.params
    script = slurm.script(
        [context.info_name or "", *command_line(context)],
        root,
        given["array"],
        given["workers"] or 1,
        given["sbatch_args"],
    )
    path = slurm.write(script, root)
    facts: dict[str, Any] = {
        "dataset": given["out"],
        "build_id": plan.build_id,
        "slides": len(plan.slides),
        "already_done": len(plan.skipped),
        "script": str(path),
        "job": None,
    }
    if plan.todo and given["submit"]:
        facts["job"] = slurm.submit(path)
    if given["as_json"]:
        print(json.dumps(facts, indent=1))
        return
    output.print(
        f"{counted(len(plan.slides))}, {len(plan.skipped)} done, {len(plan.todo)} to do -> "
        f"{escape(given['out'])}"
    )
    output.print(f"Script: {escape(str(path))}", soft_wrap=True)
    if not plan.todo:
        output.print("Nothing to submit.")
    elif facts["job"] is None:
        output.print(f"Not submitted; submit it with: sbatch {escape(str(path))}", soft_wrap=True)
    else:
        job = facts["job"]
        output.print(f"Submitted as job {job}, {given['array']} elements. Watch it with: squeue -j {job}")
        output.print(f"Logs: {escape(str(path.parent))}/*-{job}_*.log", soft_wrap=True)
        output.print("The same command with --no-submit counts what is done; without, it submits the rest.")


def command_line(context: typer.Context) -> list[str]:
    """The options and arguments that were given, paths absolute, without those on launchers."""
    options, arguments = [], []
    for parameter in context.command.params:
        name = parameter.name or ""
        value: Any = context.params.get(name)
        if name in _OWN or (name != "out" and not _is_given(context, name)):
            continue
        if parameter.param_type_name == "argument":
            arguments += [_word(item) for item in value or ()]
        elif name == "out":
            options += [parameter.opts[0], value if "://" in value else _word(Path(value))]
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            options += [parameter.opts[0], _word(value)]
    return [*options, *arguments]


def _word(value: Any) -> str:
    # not resolve(): a slide behind a link keeps the link's name
    return os.path.abspath(value) if isinstance(value, Path) else str(value)  # noqa: PTH100


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")
