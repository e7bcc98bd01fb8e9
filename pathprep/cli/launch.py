"""Where `shard`, `import-tiles` and `survey` run: their options on launchers, and what they mean."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from pathprep.cli.command_file import command_as_yaml, is_given
from pathprep.cli.dialect import give
from pathprep.cli.streams import output
from pathprep.errors import UsageError
from pathprep.params.settings import Setting

if TYPE_CHECKING:
    from pathprep.launchers.base import Launcher
    from pathprep.sharding.plan import Plan

RUNNING, EXPERT = "Running", "Expert"

# Which options go with which launcher, where they are not at their defaults
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


@dataclass(frozen=True)
class Launch:
    """Options on launchers."""

    launcher: Annotated[
        Literal["local", "ray", "slurm"],
        Setting(
            "local: processes on this machine; ray: tasks on a Ray cluster; slurm: an array job.", RUNNING
        ),
    ] = "local"
    part: Annotated[
        str | None,
        Setting(
            "Only part K (1 to N) of all, chosen by a hash of their names: for other schedulers.",
            RUNNING,
            metavar="K/N",
        ),
    ] = None
    array: Annotated[int | None, Setting("slurm: elements of the array job.", RUNNING, metavar="N")] = None
    sbatch_args: Annotated[
        str, Setting('slurm: more options of sbatch, as in "--partition=cpu --time=08:00:00".', EXPERT)
    ] = ""
    submit: Annotated[bool, Setting("slurm: submit the script, or only write it.", EXPERT)] = True
    address: Annotated[
        str,
        Setting("ray: auto (the cluster this machine is part of), host:port or ray://host:port.", EXPERT),
    ] = "auto"
    ray_cpus: Annotated[float, Setting("ray: CPUs, and threads, of a slide.", EXPERT)] = 1.0
    ray_gpus: Annotated[
        float, Setting("ray: GPUs of a slide, such as 0.25; used as with `gpus`.", EXPERT)
    ] = 0.0

    def check(self, context: typer.Context) -> None:
        """Refuse options that go with another launcher: they would have no effect.

        Raises:
            UsageError: naming the option.
        """
        defaults = {each.name: each.default for each in context.command.params}
        for name, launchers in _GO_WITH.items():
            changed = name in defaults and context.params[name] != defaults[name]
            if changed and is_given(context, name) and self.launcher not in launchers:
                raise UsageError(
                    f"`{name}` goes with --launcher {' or '.join(launchers)}, not {self.launcher}"
                )
        if self.launcher == "slurm":
            from pathprep.launchers import slurm

            if self.array is None:
                raise UsageError("--launcher slurm needs --array N, the number of elements of the array job")
            slurm.check(self.array, self.sbatch_args)

    def numbers(self) -> tuple[int, int] | None:
        """``--part K/N`` as numbers.

        Raises:
            UsageError: not of that form, or K is not 1 to N.
        """
        if self.part is None:
            return None
        k, _, n = self.part.partition("/")
        if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
            raise UsageError(f"--part {self.part}: expected K/N with K from 1 to N, such as 1/8")
        return int(k), int(n)

    def start(self) -> "Launcher | None":
        """The launcher of a Ray cluster, or None for that of this machine, whose processes begin to load.

        Raises:
            UsageError: Ray is not installed, or a slide would take nothing.
        """
        if self.launcher != "ray":
            from pathprep.launchers import server

            server.start()
            return None
        if self.ray_cpus < 0 or self.ray_gpus < 0:
            raise UsageError("--ray-cpus and --ray-gpus must be 0 or more")
        if not self.ray_cpus and not self.ray_gpus:
            raise UsageError("--ray-cpus and --ray-gpus are both 0: every slide would run at once")
        if self.ray_gpus > 1 and self.ray_gpus != int(self.ray_gpus):
            raise UsageError(f"--ray-gpus {self.ray_gpus:g}: a share of one GPU (0.25), or a whole number")
        try:
            from pathprep.launchers.ray import Ray
        except ImportError as error:
            raise UsageError(
                f"--launcher ray: Ray is not installed ({error}); install with the extra ray: "
                "pip install 'pathprep[ray]'"
            ) from None
        return Ray(self.address, self.ray_cpus, self.ray_gpus)

    def submit_array(
        self,
        context: typer.Context,
        root: Path,
        params: dict[str, Any],
        plan: "Callable[[], Plan[Any]]",
        info: str = "dataset.json",
    ) -> None:
        """Write the script of an array job that does what the command line says, and submit it.

        Args:
            root: the dataset folder, or the local copy of what is at its URL.
            params: of the run, as ``info``, the file that says what the folder is, has them.
            plan: checks the dataset, and tells what is to do.
        """
        from pathprep.launchers import slurm
        from pathprep.storage.private import private_folder

        given = context.params
        if given["rebuild"]:
            _check_rebuild(root / info, params)
        found, out = plan(), given["out"]
        values = command_as_yaml(context, {"workers", *(each.name for each in fields(self))})
        # logs and script of a remote dataset go to a folder of its name here
        folder = out if isinstance(out, Path) else Path(out.rstrip("/").rpartition("/")[2])
        name, workers = context.info_name or "", given["workers"] or 1
        if given.get("pseudonymise") is not None:  # script and logs name slides
            folder = private_folder(_beside(given["pseudonymise"])) / folder.name
        path = slurm.write(values, name, folder, self.array or 0, workers, self.sbatch_args)
        facts: dict[str, Any] = {
            "dataset": str(out),
            "build_id": found.build_id,
            "slides": len(found.slides),
            "already_done": len(found.skipped),
            "script": str(path),
            "job": slurm.submit(path) if found.todo and self.submit else None,
        }
        give(facts, given["as_json"], given["out_json"], lambda: self._show(facts, len(found.todo)))

    def _show(self, facts: dict[str, Any], todo: int) -> None:
        from pathprep.words import counted

        path, job = facts["script"], facts["job"]
        output.print(
            f"{counted(facts['slides'])}, {facts['already_done']} done, {todo} to do -> "
            f"{escape(facts['dataset'])}"
        )
        output.print(f"Script: {escape(path)}", soft_wrap=True)
        if not todo:
            output.print("Nothing to submit.")
        elif job is None:
            output.print(f"Not submitted; submit it with: sbatch {escape(path)}", soft_wrap=True)
        else:
            output.print(f"Submitted as job {job}, {self.array} elements. Watch it with: squeue -j {job}")
            output.print(f"Logs: {escape(str(Path(path).parent))}/*-{job}_*.log", soft_wrap=True)
            output.print(
                "The same command with --no-submit counts what is done; without, it submits the rest."
            )


def _beside(key_file: Path) -> Path:
    return key_file.absolute().with_name(f"{key_file.name}.slurm")


def _check_rebuild(path: Path, params: dict[str, Any]) -> None:
    """Refuse to make finished shards again with equal parameters in an array job.

    With other parameters, the elements' command does without --rebuild: every slide is of another build until
    it is made, and an element that is queued again goes on where it was.

    Raises:
        UsageError: saying so.
    """
    from pathprep.dataset.schema import build_id
    from pathprep.storage.json_files import read_json

    info = read_json(path) or {}
    same = info.get("build_id") == build_id(params)
    if same and any((path.parent / "slides").glob("*.json")):
        raise UsageError(
            "--rebuild with --launcher slurm: the dataset has these parameters already, and an element that "
            "is queued again would begin again; leave out --rebuild to make what is missing, or choose "
            "another --out to make everything again"
        )
