"""Wait for the first of several things, and leave nothing running behind.

A TaskGroup waits for all of its tasks; these two wait for one, and then cancel and await the others.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence


async def first_of(*waits: Awaitable[object]) -> None:
    """Wait until one of them has ended. The other coroutines are cancelled then; tasks and futures are left alone."""
    futures = [asyncio.ensure_future(wait) for wait in waits]
    own = [future for future, wait in zip(futures, waits, strict=True) if future is not wait]
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(own)


async def until_one_ends(loops: Mapping[str, Coroutine[object, object, None]]) -> None:
    """Run named coroutines side by side until one of them ends. Raises what that one raised."""
    tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(tasks)
    for task in done:
        task.result()


async def _end(futures: "Sequence[asyncio.Future[object] | asyncio.Task[None]]") -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
