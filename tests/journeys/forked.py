"""A process that has imported the command and forks for each run: importing takes a second, forking almost nothing.

    python -m tests.journeys.forked

Each line on stdin is a run as JSON; the answer is a line with its exit status.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_server.__main__ import main

WITHIN_S = 60


@dataclass(slots=True)
class Forked:
    """The forking process, and the folder for the output of its children."""

    process: subprocess.Popen[str]
    folder: Path

    def run(
        self, *arguments: str, cwd: Path, settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end. A run that takes longer than `WITHIN_S` is killed."""
        out, err = self.folder / "stdout", self.folder / "stderr"
        asked = {"arguments": arguments, "cwd": str(cwd), "settings": settings or {}, "out": str(out), "err": str(err)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        status = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())


def serve() -> None:
    """Run the command once for each line on stdin."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_run(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], cwd: str, settings: Mapping[str, str], out: str, err: str) -> int:
    """Run the command in this process; return its exit status."""
    signal.alarm(WITHIN_S)
    os.chdir(cwd)
    os.environ.update(settings)
    for number, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
