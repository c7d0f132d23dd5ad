"""A back end of bleak on an emulated radio: no kernel, no root, no D-Bus.

Drivers run their own loops in their own threads; what they ask for is done on the radio's loop, and
what comes back is handed to theirs.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from bleak.backends.adapter import BaseBleakAdapter
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakDBusError, BleakDeviceNotFoundError, BleakError
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Advertisement, Connection, Device, DeviceConfiguration, Peer
from bumble.gatt_client import CharacteristicProxy
from bumble.hci import Address

from brainforge_edge.devices.ble import Backend
from brainforge_edge.emulators.ble import Radio

_SERVICES = (
    AdvertisingData.Type.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
    AdvertisingData.Type.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
)
_PROPERTIES = {"read": 2, "write-without-response": 4, "write": 8, "notify": 16, "indicate": 32}


def _uuid(uuid: UUID) -> str:
    text = uuid.to_hex_str("-").lower()
    return f"0000{text}-0000-1000-8000-00805f9b34fb" if len(text) == 4 else text


class Air:
    """The box's side of a radio: one adapter, shared by all clients of `backend`."""

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.is_absent = False
        controller = Controller("box", link=radio.link)
        config = DeviceConfiguration(name="box", address=Address("F0:0D:00:00:00:01"))
        self.central = Device.from_config_with_hci(config, controller, controller)
        air = self

        class Scanner(AirScanner):
            owner = air

        class Client(AirClient):
            owner = air

        class Adapter(AirAdapter):
            owner = air

        self.connections: dict[str, Connection] = {}
        self.in_progress = 0  # so many connects answer InProgress
        self.forgotten: list[str] = []
        self.left: list[str] = []  # whose clients were told to disconnect
        self.takes_writes = True
        self.loses_writes = 0  # so many without response never arrive
        self.backend = Backend(scanner=Scanner, client=Client, adapter=Adapter)

    @classmethod
    def of(cls, radio: Radio) -> "Air":
        async def make() -> Air:
            air = cls(radio)
            await air.central.power_on()
            return air

        return radio.call(make())

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """On the radio's loop, from a driver's."""
        running: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.radio.loop)
        return await asyncio.wrap_future(running)


class AirScanner(BaseBleakScanner):
    owner: Air

    def __init__(self, detection_callback: Any, service_uuids: Any, *_: Any, **__: Any) -> None:
        super().__init__(detection_callback, service_uuids)
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        if self.owner.is_absent:
            message = "adapter 'hci0' not found"
            raise BleakError(message)
        self.seen_devices = {}
        self.owner.central.on("advertisement", self._heard)
        await self.owner.do(self.owner.central.start_scanning(filter_duplicates=False))

    async def stop(self) -> None:
        self.owner.central.remove_listener("advertisement", self._heard)
        await self.owner.do(self.owner.central.stop_scanning())

    def _heard(self, heard: Advertisement) -> None:
        self._loop.call_soon_threadsafe(self._take, heard)

    def _take(self, heard: Advertisement) -> None:
        name: Any = heard.data.get(AdvertisingData.Type.COMPLETE_LOCAL_NAME)
        lists: list[Any] = [some for kind in _SERVICES for some in heard.data.get_all(kind)]
        uuids = [_uuid(uuid) for some in lists for uuid in some]
        address = heard.address.to_string(False)
        data = AdvertisementData(
            local_name=name.decode() if isinstance(name, bytes) else name,
            manufacturer_data={},
            service_data={},
            service_uuids=uuids,
            tx_power=None,
            rssi=heard.rssi,
            platform_data=(),
        )
        details = {"path": f"/org/bluez/air0/dev_{address}"}
        device = self.create_or_update_device(address, address, data.local_name, details, data)
        self.call_detection_callbacks(device, data)


class AirClient(BaseBleakClient):
    owner: Air

    def __init__(
        self, device: Any, *, disconnected_callback: Any, timeout: float, **_: Any
    ) -> None:
        super().__init__(device, disconnected_callback=disconnected_callback, timeout=timeout)
        self._loop = asyncio.get_running_loop()
        self._peer: Peer | None = None
        self._subscribed: dict[int, Callable[[bytes], None]] = {}

    @property
    def name(self) -> str:
        return self.address

    @property
    def mtu_size(self) -> int:
        return 23

    @property
    def is_connected(self) -> bool:
        return self._peer is not None

    async def connect(self, pair: bool, **_: Any) -> None:
        if self.owner.in_progress:
            self.owner.in_progress -= 1
            raise BleakDBusError("org.bluez.Error.InProgress", ["Operation already in progress"])
        self._peer = await self.owner.do(self._connect())

    async def _connect(self) -> Peer:
        connection = self.owner.connections.get(self.address)
        if connection is None:
            reaching = self.owner.central.connect(Address(self.address))
            try:
                connection = await asyncio.wait_for(reaching, self._timeout)
            except TimeoutError:
                raise BleakDeviceNotFoundError(self.address) from None
        assert isinstance(connection, Connection)
        self.owner.connections[self.address] = connection
        connection.on("disconnection", self._dropped)
        peer = Peer(connection)
        await peer.request_mtu(247)
        await peer.discover_services()
        services = BleakGATTServiceCollection()
        for service in peer.services:
            known = BleakGATTService(service, service.handle, _uuid(service.uuid))
            services.add_service(known)
            await service.discover_characteristics()
            for each in service.characteristics:
                names = [n for n, bit in _PROPERTIES.items() if int(each.properties) & bit]
                services.add_characteristic(
                    BleakGATTCharacteristic(
                        each,
                        each.handle,
                        _uuid(each.uuid),
                        names,  # type: ignore[arg-type]
                        lambda: connection.att_mtu - 3,
                        known,
                    )
                )
        self.services = services
        return peer

    def _dropped(self, _: int) -> None:
        self.owner.connections.pop(self.address, None)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._gone)

    def _gone(self) -> None:
        self._peer = None
        self._subscribed.clear()
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def disconnect(self) -> None:
        self.owner.left.append(self.address)
        connection = self.owner.connections.get(self.address)
        if self._peer is not None and connection is not None:
            await self.owner.do(connection.disconnect())

    async def pair(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    async def unpair(self) -> None:
        self.owner.forgotten.append(self.address)

    def _proxy(self, characteristic: BleakGATTCharacteristic) -> CharacteristicProxy[bytes]:
        if self._peer is None:
            message = "Not connected"
            raise BleakError(message)
        proxy: CharacteristicProxy[bytes] = characteristic.obj
        return proxy

    async def read_gatt_char(self, characteristic: BleakGATTCharacteristic, **_: Any) -> bytearray:
        return bytearray(await self.owner.do(self._proxy(characteristic).read_value()))

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: Any, response: bool
    ) -> None:
        proxy = self._proxy(characteristic)
        if not self.owner.takes_writes:
            raise BleakDBusError("org.bluez.Error.Failed", ["Not connected"])
        if not response and self.owner.loses_writes:
            self.owner.loses_writes -= 1
            return
        await self.owner.do(proxy.write_value(bytes(data), with_response=response))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Any, **_: Any
    ) -> None:
        def arrived(value: bytes) -> None:
            self._loop.call_soon_threadsafe(callback, bytearray(value))

        self._subscribed[characteristic.handle] = arrived
        await self.owner.do(self._proxy(characteristic).subscribe(arrived))

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        arrived = self._subscribed.pop(characteristic.handle)
        await self.owner.do(self._proxy(characteristic).unsubscribe(arrived))

    async def read_gatt_descriptor(self, *_: Any, **__: Any) -> bytearray:
        raise NotImplementedError

    async def write_gatt_descriptor(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError


class AirAdapter(BaseBleakAdapter):
    owner: Air

    @classmethod
    async def get(cls, **_: Any) -> "AirAdapter":
        return cls()

    async def get_connected_devices(self, service_uuids: frozenset[str]) -> list[BLEDevice]:
        return [BLEDevice(address, f"Muse-{address}", {}) for address in self.owner.connections]
