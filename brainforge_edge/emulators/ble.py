"""Emulated Bluetooth peripherals on a radio made of software: bumble's door.

A `Radio` is one asyncio loop in a thread "radio" with bumble's virtual link on it; peripherals live
on that loop. Runs in: emulator process, and in tests.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address
from bumble.link import LocalLink

from brainforge_edge.core.threads import named

T = TypeVar("T")
_ADVERTISE_MS = 100


class Radio:
    """The air, and the loop that everything on it runs in. A context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.link = LocalLink()  # type: ignore[no-untyped-call]
        self._thread = named("radio", self._serve)

    def __enter__(self) -> "Radio":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = 20.0) -> T:
        """Run `work` on the radio's loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()


class Peripheral:
    """One advertised device with one service. Everything runs on the radio's loop.

    `write` is told what a client writes. Whoever streams starts a task with `stream`; it ends when
    the client goes.
    """

    def __init__(
        self,
        link: LocalLink,
        *,
        name: str,
        address: str,
        service: str,
        notifying: tuple[str, ...],
        writable: tuple[str, ...],
        write: Callable[[str, bytes], Coroutine[Any, Any, None]],
        readable: dict[str, bytes] | None = None,
        confirmed: tuple[str, ...] = (),
    ) -> None:
        """`confirmed` are written with response, and indicate."""
        self.name = name
        self.address = address
        self._write = write
        self._streaming: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._characteristics = {
            uuid: self._characteristic(
                uuid, uuid in notifying, uuid in writable, uuid in confirmed, readable or {}
            )
            for uuid in dict.fromkeys((*notifying, *writable, *confirmed, *(readable or {})))
        }
        self._confirmed = confirmed
        controller = Controller(name, link=link)
        config = DeviceConfiguration(
            name=name,
            address=Address(address),
            advertising_interval_min=_ADVERTISE_MS,
            advertising_interval_max=_ADVERTISE_MS,
        )
        self._device = Device.from_config_with_hci(config, controller, controller)
        self._device.on("connection", self._connected)
        self._device.add_service(Service(UUID(service), list(self._characteristics.values())))
        advertised = AdvertisingData.Type
        self._device.advertising_data = bytes(
            AdvertisingData(
                [
                    (advertised.FLAGS, bytes([0x06])),
                    (advertised.COMPLETE_LOCAL_NAME, name.encode()),
                    (
                        advertised.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
                        UUID(service).to_bytes(),
                    ),
                ]
            )
        )

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def start(self) -> None:
        await self._device.power_on()
        await self._device.start_advertising(auto_restart=True)

    async def stop(self) -> None:
        await self.halt()
        await self.drop_link()
        await self._device.stop_advertising()
        await self._device.power_off()

    async def vanish(self) -> None:
        """Switched off: not connected, not heard; `start` switches it on again."""
        await self.halt()
        await self._device.stop_advertising()
        await self.drop_link()

    async def drop_link(self) -> None:
        """The peripheral ends the connection."""
        connection = self._connection
        if connection is not None:
            await connection.disconnect()

    async def notify(self, uuid: str, data: bytes) -> None:
        if uuid in self._confirmed:
            await self._device.indicate_subscribers(self._characteristics[uuid], data)
        else:
            await self._device.notify_subscribers(self._characteristics[uuid], data)

    def later(self, uuid: str, data: bytes) -> None:
        """`notify` once what runs now has returned."""
        task = asyncio.create_task(self.notify(uuid, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def limit_mtu(self, mtu: int) -> None:
        """Agree to no larger packets."""
        self._device.gatt_server.max_mtu = mtu

    async def stream(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until `halt` or until the client goes; a second one takes its place."""
        await self.halt()
        self._streaming = asyncio.create_task(work)

    async def halt(self) -> None:
        task, self._streaming = self._streaming, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _connected(self, connection: Connection) -> None:
        self._connection = connection

        def gone(_: int) -> None:
            self._connection = None
            if self._streaming is not None:
                self._streaming.cancel()
                self._streaming = None

        connection.on("disconnection", gone)

    def _characteristic(
        self, uuid: str, notifies: bool, takes: bool, confirms: bool, readable: dict[str, bytes]
    ) -> Characteristic[bytes]:
        properties = Characteristic.Properties(0)
        value: Any = readable.get(uuid, b"")
        if notifies:
            properties |= Characteristic.Properties.NOTIFY
        if uuid in readable:
            properties |= Characteristic.Properties.READ
        if confirms:
            properties |= Characteristic.Properties.WRITE | Characteristic.Properties.INDICATE
        if takes:
            properties |= Characteristic.Properties.WRITE_WITHOUT_RESPONSE
        if takes or confirms:

            async def written(_: Connection, data: bytes) -> None:
                await self._write(uuid, data)

            value = CharacteristicValue(write=written)
        permissions = Characteristic.Permissions.READABLE | Characteristic.Permissions.WRITEABLE
        return Characteristic(uuid, properties, permissions, value)
