"""The other side of the air: emulated headsets, and the box's own controller on the same link.

Runs in: the guest, a process of its own, since bumble is busy with each packet. Arguments: names of
devices, `muse1` to `muse5` and `ganglion`, each with `@SPEED` where it is to be slower than it is in
life. Orders come by standard input, one line each, `VERB NAME`, and are answered in one line of JSON.
"""

import asyncio
import json
import os
import sys
from typing import Any

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import Transport

from brainforge_edge.core.clock import SystemClock
from brainforge_edge.emulators.ganglion import Ganglion, ganglion_source
from brainforge_edge.emulators.ledger import Ledger
from brainforge_edge.emulators.muse import Muse, muse_source
from tests.guest.inside.bodies import GANGLION, address_of, name_of


class Air(LocalLink):
    """A connection keeps the addresses that it began with.

    BlueZ takes another random address for each active scan; bumble 0.0.236 then sends under the new
    one, and a peripheral that is connected already hears nothing more from the box.
    """

    def send_acl_data(
        self,
        sender_controller: Controller,
        destination_address: hci.Address,
        transport: PhysicalTransport,
        data: bytes,
    ) -> None:
        there = self.find_le_controller(destination_address)
        sending = sender_controller.le_connections.get(destination_address)
        if there is None or sending is None:
            return  # it has just gone
        source = sending.self_address
        asyncio.get_running_loop().call_soon(there.on_link_acl_data, source, transport, data)


class Receiver:
    """Hands packets to the kernel, which refuses them while its radio is off; asyncio would then close it."""

    def __init__(self, transport: Transport) -> None:
        pipe = transport.sink.transport.get_extra_info("pipe")  # type: ignore[attr-defined]
        self._fd: int = pipe.fileno()
        self.refused = 0

    def on_packet(self, packet: bytes) -> None:
        try:
            os.write(self._fd, packet)
        except OSError:
            self.refused += 1


class Adapter(Controller):
    """The box's own controller. One that is reset forgets its connections; bumble's does not."""

    def __init__(self, link: LocalLink, transport: Transport) -> None:
        sink = Receiver(transport)
        super().__init__("BOX", host_source=transport.source, host_sink=sink, link=link)
        # bumble announces both and cannot do what BlueZ then asks for: google/bumble#841
        self.le_features &= ~(
            hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
        )

    def on_hci_reset_command(
        self, command: hci.HCI_Reset_Command
    ) -> hci.HCI_StatusReturnParameters:
        for connection in self.le_connections.values():
            timeout = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
            connection.send_ll_control_pdu(ll.TerminateInd(timeout))
        self.le_connections.clear()
        self.pending_le_connection = None
        self.le_scan_enable = False
        return super().on_hci_reset_command(command)


def make(link: LocalLink, name: str, speed: float) -> Muse | Ganglion:
    shared: dict[str, Any] = {
        "ledger": Ledger(None),
        "clock": SystemClock(),
        "name": name_of(name),
        "address": address_of(name),
        "speed": speed,
    }
    if name == GANGLION:
        return Ganglion(link, ganglion_source(), **shared)
    return Muse(link, muse_source(seed=int(name[-1])), **shared)


async def obey(device: Muse | Ganglion, verb: str) -> Any:
    peripheral = device.peripheral
    if verb == "drop":
        await peripheral.drop_link()
    elif verb == "away":
        await peripheral.stop()
    elif verb == "back":
        await peripheral.start()
    elif verb == "silence":
        device.switches.is_silent = True
    return {
        "connected": peripheral.is_connected,
        "commands": device.commands,
        "runs": len(device.ledger.runs),
        "sent": sum(run.rows for run in device.ledger.runs),
    }


async def main(*names: str) -> None:
    link = Air()  # type: ignore[no-untyped-call]
    devices = {}
    for each in names:
        name, _, speed = each.partition("@")
        devices[name] = make(link, name, float(speed or 1))
    for device in devices.values():
        await device.peripheral.start()
    # From here on the kernel waits two seconds for each answer: all else is made before.
    adapter = Adapter(link, await open_transport("vhci"))
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        verb, name = order.decode().split()
        sys.stdout.write(json.dumps(await obey(devices[name], verb)) + "\n")
        sys.stdout.flush()
    del adapter


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
