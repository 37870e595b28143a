"""Starting what is measured on its core, and ending it: whatever happens, nothing is left behind."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import tools

ROOT = tools.HERE.parent
READY_WITHIN_S = 20.0


class Failed(Exception):
    """A measurement that gave no figure; the text says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run; None where the machine has but one core, or none may be chosen."""

    server: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Two different ones if there are two."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(cores[0], cores[1])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one measurement."""
    tools.BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=tools.BUILD, prefix="run-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running(
    command: list[str], core: int | None, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own until the block ends; what it says goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(command, core),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def said(command: list[str], core: int | None, within_s: float) -> str:
    """What a command prints. Raises Failed if it fails or takes longer."""
    process = subprocess.Popen(
        pinned(command, core), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    name = Path(command[0]).name
    try:
        output, errors = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end in time") from None
    finally:
        end(process)
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Failed(lines[-1] if lines else f"{name} ended with {process.returncode}")
    return output.decode(errors="replace")


def end(process: subprocess.Popen[bytes]) -> None:
    """Now, with its children."""
    if process.poll() is None:
        # Its own session, so this is it and its children, and nothing else.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def pinned(command: list[str], core: int | None) -> list[str]:
    """On its core, and dead when we are: even a killed benchmark leaves nothing behind. Both keep the pid."""
    prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    if core is not None:
        prefix += ["taskset", "--cpu-list", str(core)]
    return [*prefix, *command]


def allow_many_sockets() -> None:
    """For us and all that we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it listens. Connecting would show too, but some count their connections."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not _listens(port):
        check(process, log)
        if time.monotonic() > deadline:
            raise Failed(f"the server did not listen in {READY_WITHIN_S:.0f} s: {last_line(log)}")
        time.sleep(0.05)


def check(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise Failed if it has ended."""
    if process.poll() is not None:
        raise Failed(f"the server ended: {last_line(log)}")


def _listens(port: int) -> bool:
    listening = "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def last_line(log: Path) -> str:
    """What it said last, which is often why it ended."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def cpu_s_of(pid: int) -> float:
    """CPU time of a process with all its threads, as the kernel accounts it."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
