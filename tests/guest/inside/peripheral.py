"""The simplest peripheral: it counts aloud, and drops the link when told. Runs in: the guest.

Bluetooth controllers of bumble on one link of the air: the first is the box's, given to the kernel.
"""

import asyncio

from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.link import LocalLink
from bumble.transport import open_transport

NAME = "BF-COUNTER"
SERVICE = "6b1f0001-0c57-4d5a-9d5e-0b1f5e7e0001"
COUNT = "6b1f0002-0c57-4d5a-9d5e-0b1f5e7e0001"
ORDER = "6b1f0003-0c57-4d5a-9d5e-0b1f5e7e0001"
PERIOD_S = 0.05


async def box_controller(link: LocalLink) -> Controller:
    """The box's own controller, as /dev/vhci."""
    transport = await open_transport("vhci")
    controller = Controller(
        "BOX", host_source=transport.source, host_sink=transport.sink, link=link
    )
    # bumble announces both and cannot do what BlueZ then asks for: google/bumble#841
    controller.le_features &= ~(
        hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
    )
    return controller


class Counter:
    """One service: a number that grows with each notification, and a place for orders."""

    def __init__(self, controller: Controller) -> None:
        config = DeviceConfiguration(
            name=NAME,
            address=hci.Address("F0:0D:00:00:BF:01"),
            advertising_interval_min=100,
            advertising_interval_max=100,
        )
        self.device = Device.from_config_with_hci(config, controller, controller)
        self.device.on("connection", self._connected)
        self._connection: Connection | None = None
        kinds = Characteristic.Properties
        self._count = Characteristic(COUNT, kinds.NOTIFY, Characteristic.READABLE, b"")
        order: Characteristic[bytes] = Characteristic(
            ORDER, kinds.WRITE, Characteristic.WRITEABLE, CharacteristicValue(write=self._ordered)
        )
        self.device.add_service(Service(UUID(SERVICE), [self._count, order]))
        self.device.advertising_data = bytes(
            AdvertisingData(
                [
                    (AdvertisingData.Type.FLAGS, bytes([0x06])),
                    (AdvertisingData.Type.COMPLETE_LOCAL_NAME, NAME.encode()),
                ]
            )
        )

    async def run(self) -> None:
        await self.device.power_on()
        await self.device.start_advertising(auto_restart=True)
        number = 0
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._connection is not None:
                await self.device.notify_subscribers(self._count, number.to_bytes(4, "little"))
                number += 1

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.on("disconnection", self._disconnected)

    def _disconnected(self, _reason: int) -> None:
        self._connection = None

    async def _ordered(self, connection: Connection, value: bytes) -> None:
        if value == b"drop":
            asyncio.get_running_loop().call_later(
                0.2, lambda: asyncio.ensure_future(connection.disconnect())
            )


async def main() -> None:
    link = LocalLink()  # type: ignore[no-untyped-call]
    kept = await box_controller(link)
    await Counter(Controller("COUNTER", link=link)).run()
    del kept


if __name__ == "__main__":
    asyncio.run(main())
