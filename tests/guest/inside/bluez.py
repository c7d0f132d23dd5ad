"""Plain bleak on real BlueZ: found, connected, heard, dropped, found again. Runs in: the guest."""

import asyncio
import json
import time
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice

from tests.guest.inside.peripheral import COUNT, NAME, ORDER
from tests.guest.inside.radio import radio

LISTEN_S = 4.0


async def _find() -> BLEDevice:
    device = await BleakScanner.find_device_by_name(NAME, timeout=20)
    assert device is not None, "the peripheral was not found"
    return device


async def _listen(device: BLEDevice, *, order: bytes) -> dict[str, Any]:
    """Numbers that came, and whether the peer then dropped the link."""
    numbers: list[int] = []
    gone = asyncio.Event()
    async with BleakClient(device, disconnected_callback=lambda _: gone.set()) as client:
        await client.start_notify(
            COUNT, lambda _, data: numbers.append(int.from_bytes(data, "little"))
        )
        await asyncio.sleep(LISTEN_S)
        if order:
            await client.write_gatt_char(ORDER, order, response=True)
            await asyncio.wait_for(gone.wait(), 15)
    lost = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else None
    return {"heard": len(numbers), "lost": lost, "dropped": gone.is_set() and bool(order)}


async def _talk() -> dict[str, Any]:
    started = time.monotonic()
    device = await _find()
    found: dict[str, Any] = {"found_s": time.monotonic() - started}
    found["first"] = await _listen(device, order=b"drop")
    again = time.monotonic()
    device = await _find()
    found["found_again_s"] = time.monotonic() - again
    found["second"] = await _listen(device, order=b"")
    return found


def main() -> dict[str, Any]:
    with radio("tests.guest.inside.peripheral"):
        return asyncio.run(_talk())


if __name__ == "__main__":
    print(json.dumps(main()))
