"""Start measured processes on their cores, and end them with all their children."""

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
    """A measurement without a figure; the text is the cause."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores to use; None if the machine has one core or none may be chosen."""

    server: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Return two different cores if there are two."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(cores[0], cores[1])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Provide a folder for one measurement."""
    tools.BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=tools.BUILD, prefix="run-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running(
    command: list[str], core: int | None, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in its own session until the block ends; its output goes to `log`."""
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


def output_of(command: list[str], core: int | None, within_s: float) -> str:
    """Return the output of a command. Raises Failed if it fails or takes too long."""
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
    """Kill a process and its children at once."""
    if process.poll() is None:
        # It has its own session, so this kills only it and its children.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def pinned(command: list[str], core: int | None) -> list[str]:
    """Return the command pinned to its core, ending with us even if we are killed, and keeping its pid."""
    prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    if core is not None:
        prefix += ["taskset", "--cpu-list", str(core)]
    return [*prefix, *command]


def allow_many_sockets() -> None:
    """Raise the descriptor limit for us and all processes that we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the port listens, without connecting, because some servers count connections."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not _listens(port):
        check(process, log)
        if time.monotonic() > deadline:
            raise Failed(f"the server did not listen in {READY_WITHIN_S:.0f} s: {last_line(log)}")
        time.sleep(0.05)


def check(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise Failed if the process has ended."""
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
    """Return the last line of a log, which is often the cause of an end."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it printed nothing"


def cpu_s_of(pid: int) -> float:
    """Return the CPU time of a process with all its threads, as the kernel accounts it."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
