"""Bluetooth Low Energy: bleak's door. Connects, subscribes, queues notifications for a reader.

Runs in: acquire process, thread "ble" (an asyncio loop); what is public here is called by the pull
thread, `close` by any. `scan` also in discovery.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bleak import BleakAdapter, BleakClient, BleakScanner
from bleak.backends.adapter import BaseBleakAdapter
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakDBusError, BleakError

from brainforge_edge.core.clock import Clock
from brainforge_edge.core.errors import DeviceError
from brainforge_edge.core.retry import backoff
from brainforge_edge.core.threads import named, result_within
from brainforge_edge.devices import gatt
from brainforge_edge.devices.ble_adapter import AdapterLock, Claim
from brainforge_edge.devices.ble_errors import IN_PROGRESS, said_by, translated
from brainforge_edge.devices.gatt import Found, Packet, Target
from brainforge_edge.devices.packet_queue import PacketQueue

QUEUE_PACKETS = 4096  # 27 s of a Muse with everything switched on
_LISTEN_S = 1.0  # after the first match by name: is there a second one?
_TRIES = 3
_WRITE_S = 2.0
_PART_S = 5.0
_ANSWER_S = 0.5  # to a farewell
_GENERIC_ATTRIBUTES = "1801"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backend:
    """bleak's own back end where None. `adapter` None with another `client`: nothing is stale."""

    scanner: type[BaseBleakScanner] | None = None
    client: type[BaseBleakClient] | None = None
    adapter: type[BaseBleakAdapter] | None = None


def scan(
    seconds: float,
    *,
    adapter: str = "",
    run: Path | None = None,
    backend: Backend | None = None,
) -> list[Found]:
    """Every peripheral that is heard within `seconds`, strongest first. Blocks; DeviceError.

    `run`: the node's run folder; a scan then waits while an acquire process connects.
    """

    async def listen() -> list[Found]:
        async with AdapterLock(run, adapter).held():
            heard: dict[str, Found] = {}

            def hear(device: BLEDevice, data: AdvertisementData) -> None:
                heard[device.address] = _found(device, data)

            scanner = _scanner(hear, adapter, backend or Backend())
            async with scanner:
                await asyncio.sleep(seconds)
            return sorted(heard.values(), key=lambda f: (-(f.rssi or -999), f.address))

    try:
        return asyncio.run(listen())
    except (BleakError, OSError) as error:
        raise translated(error) from error


class BleLink:
    """See `gatt.GattLink`."""

    def __init__(
        self,
        target: Target,
        *,
        clock: Clock,
        run: Path | None = None,
        adapter: str = "",
        find_s: float = 10.0,
        connect_s: float = 20.0,
        queue_packets: int = QUEUE_PACKETS,
        backend: Backend | None = None,
    ) -> None:
        self._target = target
        self._clock = clock
        self._run = run
        self._claim: Claim | None = None
        self._lock = AdapterLock(run, adapter)
        self._adapter = adapter
        self._find_s = find_s
        self._connect_s = connect_s
        self._backend = backend or Backend()
        self._queue = PacketQueue(queue_packets)
        self._client: BleakClient | None = None
        self._mtu: int | None = None
        self._subscribed: set[str] = set()
        self._bidding = ""  # the characteristic that may answer a farewell
        self._answered = asyncio.Event()
        self._gate = threading.Lock()  # between `open` and `close`
        self._is_closed = False
        self._running: Future[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    @property
    def mtu(self) -> int | None:
        return self._mtu

    # ---- pull thread ---------------------------------------------------------------------------

    def open(self, required: Iterable[str]) -> Found:
        with self._gate:
            if self._is_closed:
                raise gatt.closed(self._target)
            self._loop = asyncio.new_event_loop()
            self._thread = named("ble", self._serve)
            self._thread.start()
        return self._call(self._establish(frozenset(required)), None)

    def has(self, characteristic: str) -> bool:
        client = self._client
        return client is not None and client.services.get_characteristic(characteristic) is not None

    def subscribe(self, characteristic: str) -> None:
        def arrived(_: BleakGATTCharacteristic, data: bytearray) -> None:
            self._queue.put(Packet(self._clock.monotonic_ns(), characteristic, bytes(data)))
            if characteristic == self._bidding:
                self._answered.set()

        self._subscribed.add(characteristic)
        # Not AcquireNotify: bluetoothd (5.66, 5.85) may die at the end of such a client's connection,
        # and all other devices with it: bluez/bluez#1781
        notify = self._connected().start_notify(
            characteristic, arrived, bluez={"use_start_notify": True}
        )
        self._call(notify, self._connect_s)

    def read_value(self, characteristic: str) -> bytes:
        return bytes(self._call(self._connected().read_gatt_char(characteristic), self._connect_s))

    def write(self, characteristic: str, data: bytes, *, response: bool = False) -> None:
        writing = self._connected().write_gatt_char(characteristic, data, response=response)
        self._call(writing, _WRITE_S)

    def post(self, characteristic: str, data: bytes, *, response: bool = False) -> None:
        async def writing() -> None:
            try:
                await self._connected().write_gatt_char(characteristic, data, response=response)
            except (BleakError, OSError) as error:
                self._queue.fail(gatt.link_lost(self._target, said_by(error)))
            except DeviceError as error:
                self._queue.fail(error)

        with self._gate:
            if self._loop is not None and not self._is_closed:
                asyncio.run_coroutine_threadsafe(writing(), self._loop)

    def read(self, timeout_s: float) -> list[Packet]:
        return self._queue.take(timeout_s)

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        with self._gate:
            if self._is_closed:
                return
            self._is_closed = True
            loop, thread, running = self._loop, self._thread, self._running
        self._queue.close(gatt.closed(self._target))
        if running is not None:
            running.cancel()
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._part(farewell), loop)
        if thread is not threading.current_thread():
            thread.join()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        """Run `work` on the loop and wait, by the link's clock; whatever bleak raises becomes a DeviceError."""
        with self._gate:
            if self._is_closed or self._loop is None:
                work.close()
                raise gatt.closed(self._target)
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._running = running
        try:
            return result_within(running, timeout_s, self._clock)
        except CancelledError:
            raise gatt.closed(self._target) from None
        except TimeoutError as error:
            running.cancel()
            raise gatt.link_stuck(self._target, timeout_s or self._connect_s) from error
        except (BleakError, OSError, EOFError) as error:
            raise gatt.link_lost(self._target, said_by(error)) from error
        finally:
            self._running = None

    def _connected(self) -> BleakClient:
        client = self._client
        if client is None:
            raise gatt.closed(self._target)
        return client

    # ---- thread "ble" --------------------------------------------------------------------------

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    async def _part(self, farewell: tuple[str, bytes] | None) -> None:
        client = self._client
        try:
            if client is not None:
                if farewell is not None and client.is_connected:
                    await _tried(self._bid(client, *farewell))
                # Also when the device has gone: until this client's D-Bus connection ends, BlueZ
                # carries its subscriptions over to the next connection, and that one hears nothing.
                await _tried(client.disconnect())
        finally:
            if self._claim is not None:
                self._claim.release()
            asyncio.get_running_loop().stop()

    async def _bid(self, client: BleakClient, characteristic: str, data: bytes) -> None:
        """Nothing confirms a write without response, and the disconnection may overtake it: where the
        device answers it is waited for, and told again."""
        self._bidding = characteristic
        for _ in range(_TRIES):
            await client.write_gatt_char(characteristic, data, response=False)
            if characteristic not in self._subscribed:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await self._answered.wait()
                return

    def _gone(self, client: BleakClient) -> None:
        if client is self._client:
            self._queue.fail(gatt.link_lost(self._target, "the device or the radio ended it"))

    async def _establish(self, required: frozenset[str]) -> Found:
        try:
            async with self._lock.held():
                await self._part_stale()
                return await self._try(required)
        except TimeoutError as error:
            why = f"it did not answer within {self._connect_s:g} s"
            raise gatt.connect_failed(self._target, why) from error
        except (BleakError, OSError, EOFError) as error:
            raise translated(error, self._target) from error

    async def _try(self, required: frozenset[str]) -> Found:
        """Find and connect; again when BlueZ is stuck or has not seen all services yet."""
        failure: DeviceError | None = None
        delays = backoff(0.5, 4.0)
        for turn in range(_TRIES):
            if turn:
                await asyncio.sleep(next(delays))
            client: BleakClient | None = None
            try:
                device, found = await self._find()
                client = BleakClient(
                    device,
                    disconnected_callback=self._gone,
                    timeout=self._connect_s,
                    bluez={"adapter": self._adapter} if self._adapter else {},
                    backend=self._backend.client,
                )
                await client.connect()
                missing = {
                    each for each in required if client.services.get_characteristic(each) is None
                }
                if not missing:
                    self._client = client
                    self._mtu = _mtu(client)
                    self._claims(found.address)
                    if not client.is_connected:
                        self._gone(client)
                    return found
                failure = gatt.wrong_peripheral(found, self._target, missing)
                await client.disconnect()
            except BleakDBusError as error:
                if error.dbus_error != IN_PROGRESS:
                    raise
                failure = gatt.adapter_busy("the Bluetooth service is still busy with an old try")
                if client is not None:
                    await _forget(client)
        assert failure is not None
        raise failure

    async def _find(self) -> tuple[BLEDevice, Found]:
        met: dict[str, tuple[BLEDevice, Found]] = {}
        first = asyncio.Event()

        def hear(device: BLEDevice, data: AdvertisementData) -> None:
            found = _found(device, data)
            if self._target.is_met_by(found):
                met[found.address] = (device, found)
                first.set()

        try:
            async with (
                _scanner(hear, self._adapter, self._backend),
                asyncio.timeout(self._find_s),
            ):
                await first.wait()
                if not self._target.address:
                    await asyncio.sleep(_LISTEN_S)
        except TimeoutError:
            if not met:
                raise gatt.not_found(self._target, self._find_s) from None
        if len(met) > 1:
            raise gatt.ambiguous(self._target, [found for _, found in met.values()])
        return next(iter(met.values()))

    async def _part_stale(self) -> None:
        """A killed process leaves its device connected, and a connected device is not heard."""
        if self._backend.client is not None and self._backend.adapter is None:
            return
        bluez: Any = {"adapter": self._adapter} if self._adapter else {}
        adapter = await BleakAdapter.get(bluez=bluez, backend=self._backend.adapter)
        services = [_GENERIC_ATTRIBUTES, *filter(None, (self._target.service,))]
        for device in await adapter.get_connected_devices(services):
            if self._target.is_met_by(Found(device.address, device.name or "", None, (), "")):
                claim = Claim(self._run, device.address) if self._run else None
                if claim is not None and not claim.take():
                    continue  # in use: it belongs to another device of this box
                try:
                    client = BleakClient(
                        device, backend=self._backend.client, timeout=self._connect_s
                    )
                    await client.connect()
                    await client.disconnect()
                finally:
                    if claim is not None:
                        claim.release()

    def _claims(self, address: str) -> None:
        if self._run is not None:
            claim = Claim(self._run, address)
            if claim.take():
                self._claim = claim


def _mtu(client: BleakClient) -> int:
    """Not `client.mtu_size`: with BlueZ that always says 23, and warns."""
    known = client.services.characteristics.values()
    return 3 + max((each.max_write_without_response_size for each in known), default=20)


async def _forget(client: BleakClient) -> None:
    """End what BlueZ has begun and let it forget the device: its way out of `InProgress`."""
    await _tried(client.disconnect())
    await _tried(client.unpair())


async def _tried(step: Coroutine[Any, Any, None]) -> None:
    """A step of leaving: where nothing is there to end, or nobody answers, the next one follows."""
    try:
        async with asyncio.timeout(_PART_S):
            await step
    except (BleakError, OSError, EOFError):
        return  # what is left is found stale by the next connection


def _scanner(hear: Any, adapter: str, backend: Backend) -> BleakScanner:
    bluez: Any = {"adapter": adapter} if adapter else {}
    return BleakScanner(hear, bluez=bluez, backend=backend.scanner)


def _found(device: BLEDevice, data: AdvertisementData) -> Found:
    details = device.details if isinstance(device.details, dict) else {}
    parts = str(details.get("path", "")).split("/")  # /org/bluez/hci0/dev_…
    return Found(
        address=device.address,
        name=data.local_name or device.name or "",
        rssi=data.rssi,
        services=tuple(dict.fromkeys(uuid.lower() for uuid in data.service_uuids)),
        adapter=parts[3] if len(parts) > 3 else "",
    )
