"""stream-server: a plain WebSocket client that follows docs/protocol.md, keeps its position and resumes from it."""

import asyncio
import json
from typing import Any

import websockets

from bench.continuity.clients.receipts import Task

PAUSE_S = 0.5


async def main() -> None:
    """Watch until killed. `--ws` is the service's address here."""
    task = Task.from_arguments()
    topics = ",".join(f"price.{symbol},ohlcv.{symbol}.1m" for symbol in task.symbols)
    position: str | None = None
    while True:
        since = f"&since={position}" if position is not None else ""
        try:
            async with websockets.connect(f"{task.ws_url}/ws?topics={topics}{since}") as socket:
                async for text in socket:
                    message = json.loads(text)
                    position = message.get("id", position)
                    note(task, message)
        except (OSError, websockets.WebSocketException) as error:
            task.note(error)
        await asyncio.sleep(PAUSE_S)


def note(task: Task, message: dict[str, Any]) -> None:
    """Record one message."""
    match message["type"]:
        case "update" if message["topic"].startswith("price."):
            data = message["data"]
            task.price(data["pair"] or f"{data['symbol']}USDT", message["ts"])
        case "update" if message["data"]["closed"]:
            data = message["data"]
            values = [data[name] for name in ("open", "high", "low", "close", "volume")]
            task.closed(data["pair"], data["open_time"], values, corrected=data["state"] == "corrected")
        case "gap" | "goodbye" | "error":
            task.note(json.dumps(message))


if __name__ == "__main__":
    asyncio.run(main())
