"""A process that has one of the two packages loaded and forks each run, which then costs no imports.

It reads a job a line (JSON) from stdin and answers a line. A run is a command as the user's shell starts it,
but for this: the process that workers are forked from is itself forked, not started, and exit handlers run
without the rest of the interpreter's end. Each run has a process group of its own, so that a kill reaches its
workers.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
import types
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from typing import Any

SUBREAPER = 36  # prctl(2): orphaned workers become children of this process, which sees them end


# By the warm process itself: named here, since nothing of them is used here
SLOW = {"pathprep": ["pathprep.sharding.warm", "pathprep.cli"], "pathtrain": ["timm", "pathtrain.cli"]}
# What starts threads, or does not bear to be loaded beside the rest
NOT_LEARNT = {"nvidia", "openslide", "cucim", "tensorboard", "grpc", "__main__", "__mp_main__", "chaos"}


def load(package: str) -> None:
    """Import what is slow to load; ``learn`` adds what runs import."""
    for name in SLOW[package]:
        importlib.import_module(name)
    if package == "pathprep":
        store()
    resource_tracker.ensure_running()


def store() -> None:
    """A filesystem at chaos:// that is no object store: a file is sent under another name and moved."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    class Stored(LocalFileSystem):  # type: ignore[misc]
        protocol = ("chaos",)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + str(path).removeprefix("chaos://").strip("/")

    fsspec.register_implementation("chaos", Stored)


def forked_server(self: Any) -> None:
    """In place of ForkServer.ensure_running: the server is this process's copy, with all that is loaded."""
    import socket

    if self._forkserver_pid is not None:
        return
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        listener.listen()
        alive_r, alive_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(alive_w)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the run has a handler; a started process has none
            with contextlib.suppress(SystemExit):
                forkserver.main(listener.fileno(), alive_r, [])
            os._exit(0)
        os.close(alive_r)
        self._forkserver_address, self._forkserver_alive_fd, self._forkserver_pid = address, alive_w, pid


def run(each: dict[str, Any], library: str) -> None:
    """In a new child: be the command."""
    os.setpgid(0, 0)
    code = 1
    try:
        out = os.open(each["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(each["env"])
        os.chdir(each["cwd"])
        import tempfile

        tempfile.tempdir = None
        multi: Any = forkserver.ForkServer
        multi.ensure_running = forked_server
        forkserver.ensure_running = forkserver._forkserver.ensure_running
        program, *arguments = each["argv"]
        sys.argv = [program, *arguments]
        main = importlib.import_module(
            "chaos.toy_inputs" if program.startswith("make") else f"{program}.cli"
        ).main
        if each["arm"] is not None:
            from chaos import shim

            shim.arm(library, each["arm"], each["counter"], each["log"])
        code = 0
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        code = 1
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            Path(each["learnt"]).write_text("\n".join(sys.modules))
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def learn(place: Path) -> None:
    """Import what a run has imported, so that the next one finds it here."""
    for name in place.read_text().split("\n"):
        if name.partition(".")[0] not in NOT_LEARNT:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def serve(job: dict[str, Any], library: str) -> list[dict[str, Any]]:
    """Run a job's commands side by side, and see that nothing of them is left."""
    begin = time.monotonic()
    pids, handles, found = [], {}, []
    for each in job["runs"]:
        pid = os.fork()
        if pid == 0:
            run(each, library)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        pids.append(pid)
        handles[os.pidfd_open(pid)] = pid
    ended: dict[int, float] = {}
    kills = {
        pid: each["kill_after"] for pid, each in zip(pids, job["runs"], strict=True) if each["kill_after"]
    }
    end = job["timeout"]
    hung = False
    while handles:
        now = time.monotonic() - begin
        for pid, when in [*kills.items()]:
            if now >= when:
                del kills[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        if now > end:
            hung = True
            for pid in handles.values():
                os.killpg(pid, signal.SIGABRT if job["trace"] else signal.SIGKILL)
            end += 5
            job["trace"] = False
        wait = min([end, *kills.values()]) - now
        for descriptor in select.select([*handles], [], [], max(0.0, wait))[0]:
            ended[handles.pop(descriptor)] = time.monotonic() - begin
            os.close(descriptor)
    for pid in pids:
        result: dict[str, Any] = {"seconds": round(ended[pid], 4), "hung": hung}
        _, status = os.waitpid(pid, 0)
        result["code"] = os.waitstatus_to_exitcode(status)
        result["stray"] = bury(pid, patience=0.0 if result["code"] < 0 else 5.0)
        found.append(result)
    return found


def bury(group: int, patience: float) -> bool:
    """Wait for the workers of an ended run, kill those that stay; whether one had to be killed."""
    begin, killed = time.monotonic(), False
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return killed and patience > 0
        if time.monotonic() - begin > patience:
            killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.002)


def main() -> None:
    """Load the package, say so, and take jobs until stdin ends."""
    package, library = sys.argv[1:]
    jobs, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    load(package)
    sys.modules["__main__"] = types.ModuleType(
        "__main__"
    )  # workers import their parent's: there is nothing in it
    print("ready", file=answers, flush=True)
    for line in jobs:
        job = json.loads(line)
        ended = serve(job, library)
        for each in job["runs"]:
            if each["learn"] and Path(each["learnt"]).exists():
                learn(Path(each["learnt"]))
        print(json.dumps(ended), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()  # a run that hangs is asked where
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
