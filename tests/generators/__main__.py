"""Generate clients in three languages from `/openapi.json`, and run them against the service on a fake exchange.

    python -m tests.generators TOOLS

TOOLS is the folder that `make clients` sets up. Ruby needs `ruby` with `typhoeus` (Debian: `ruby-typhoeus`), and
Java for its generator. The run fails and names every language whose tools are missing.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients import serving
from tests.fakes.binance import FakeBinance
from tests.harness import until

HERE = Path(__file__).resolve().parent
COMPILER = {
    "compilerOptions": {
        "target": "es2022",
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "strict": True,
        "skipLibCheck": True,
        "types": ["node"],
        "lib": ["es2022", "dom", "dom.iterable"],
    },
    "files": ["use.ts"],
}


class StepFailed(Exception):
    """A step that failed; the text contains its output."""


async def step(folder: Path, *command: str | Path, **variables: str) -> str:
    """Run one command in a folder. Raises: StepFailed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise StepFailed(f"{' '.join(map(str, command))}\n{output.decode(errors='replace')[-4000:]}")
    return output.decode(errors="replace")


async def python(tools: Path, folder: Path, url: str) -> str:
    """Generate with the openapi-python-client of the tools."""
    return await python_client(tools / "bin", folder, url)


async def python_client(binaries: Path, folder: Path, url: str) -> str:
    """Generate with openapi-python-client from `openapi.json` in a folder, load all of it and make three calls."""
    settings = folder / "settings.yml"
    settings.write_text("post_hooks: []\n")
    await step(
        folder,
        *(binaries / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"),
        *("--output-path", "made", "--config", settings, "--fail-on-warning"),
    )
    shutil.copy(HERE / "use.py", folder)
    return await step(folder, binaries / "python", "-W", "error::SyntaxWarning", "use.py", url)


async def typescript(tools: Path, folder: Path, url: str) -> str:
    """Generate with oazapfts, and check with tsc."""
    (folder / "node_modules").symlink_to(tools / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps(COMPILER))
    binaries = tools / "node_modules" / ".bin"
    await step(folder, binaries / "oazapfts", "openapi.json", "made.ts")
    shutil.copy(HERE / "use.ts", folder)
    await step(folder, binaries / "tsc")
    return await step(folder, "node", "use.js", url)


async def ruby(tools: Path, folder: Path, url: str) -> str:
    """Generate with openapi-generator."""
    await step(
        folder,
        *(tools / "bin" / "openapi-generator-cli", "generate", "-i", "openapi.json", "-g", "ruby", "-o", "made"),
        "--additional-properties=gemName=made",
    )
    return await step(folder, "ruby", "-W1", "-Imade/lib", HERE / "use.rb", url)


LANGUAGES = (python, typescript, ruby)


async def run(tools: Path) -> Sequence[str]:
    """Try every language; return those that failed."""
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        async with FakeBinance() as exchange, serving(exchange, Path(scratch) / "state") as service:
            await until(lambda: "price.ETH" in service.context.hub.topics)
            async with service.http.get(f"{service.url}/openapi.json") as answer:
                document = await answer.read()
            for language in LANGUAGES:
                folder = Path(scratch) / language.__name__
                folder.mkdir()
                (folder / "openapi.json").write_bytes(document)
                try:
                    print((await language(tools, folder, service.url)).strip(), flush=True)
                except (StepFailed, OSError) as error:
                    failed.append(language.__name__)
                    print(f"{language.__name__} failed: {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(run(Path(sys.argv[1]).absolute())) else 0)
