"""Start the service, serve until a signal, and drain it: clients get what is held for them and a goodbye."""

import asyncio
import gc
import logging
import signal

from aiohttp import web

from stream_server.app import Run, service
from stream_server.connections.listener import listen, open_ports, url_of
from stream_server.context import CONTEXT
from stream_server.settings import Settings

log = logging.getLogger(__name__)


async def serve(settings: Settings, run: Run) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError if the port is taken or a recording cannot be written."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_leave, stop)
    # First of all, so that no source is asked while another process has the port.
    ports = open_ports(settings.host, settings.port)
    async with service(settings, run) as (app, context):
        runner = runner_of(app)
        await runner.setup()
        try:
            listener = await listen(runner, context, ports)
            calm_the_collector()
            url = url_of(settings.host, listener.sockname)
            log.info("serving", extra={"url": url, "mode": context.mode})
            await stop.wait()
            log.info("stopping", extra={"clients": len(context.clients.connected)})
            context.draining = True
            # The port stays open: probes must see that we are not ready, and new clients get a refusal.
            await context.clients.dismiss(within_s=max(0.4 * settings.shutdown_s, settings.shutdown_s - 3.0))
            listener.close()
        finally:
            await runner.cleanup()
    log.info("stopped")


def _stop_or_leave(stop: asyncio.Event) -> None:
    """End the service in order at the first signal, and at once at the second."""
    if stop.is_set():
        raise SystemExit(0)
    stop.set()


def runner_of(app: web.Application) -> web.AppRunner:
    """Return what runs the application; `listen` makes its connections."""
    # Used twice at most: a request may end by itself, and is cancelled after that.
    within_s = min(1.0, app[CONTEXT].settings.shutdown_s / 8)
    return web.AppRunner(app, handler_cancellation=True, shutdown_timeout=within_s)


def calm_the_collector() -> None:
    """Keep the garbage collector off the message path.

    Events and frames form no cycles, so reference counting frees them, and what is loaded by now stays: the collector
    need not look at either. A much higher threshold would let the remains of handshakes pile up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 100)
