"""paho's door: one MQTT connection at a time, opened by its owner. Runs in: its owner's thread and paho's.

Reconnecting, windows and retries are the owner's: paho gets a new client per connection, so that
nothing queues in it while the link is down. Callbacks only enqueue.
"""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from brainforge_edge.core.errors import SecurityError, TransportError
from brainforge_edge.security.tls import Refusal, TlsFiles

MQTT_311 = 4
MQTT_5 = 5
DEFAULT_MAX_PACKET = 2 * 1024 * 1024  # what a 3.1.1 broker of ours is configured for
STEADY_S = 2.0  # a link that was lost sooner counts as a failed try: whoever hangs up is not called in a storm
_NO_LIMIT = 256 * 1024 * 1024  # the largest packet MQTT can express
_PACKET_OVERHEAD = 16  # fixed header, topic length, packet id, property length
MOST_UNACKNOWLEDGED = 16 * 1024 * 1024  # bytes of QoS 1 that a broker may keep us holding
_EACH = 1024  # … and what a message without payload costs
_SEND_BUFFER = 256 * 1024  # more would let bulk data delay live messages on a slow link


class Written(Protocol):
    """What `publish` returns: asks whether the message has left this process."""

    @property
    def mid(self) -> int: ...
    def is_published(self) -> bool: ...


class _Unacknowledged:
    """Messages of QoS 1 on one link, oldest first: paho would keep any number of them. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Written, int]] = deque()
        self._bytes = 0

    def has_room(self, size: int) -> bool:
        """A broker that acknowledges nothing makes of each message that it has us answer one more."""
        with self._lock:
            while self._waiting and self._waiting[0][0].is_published():
                self._bytes -= self._waiting.popleft()[1]
            return self._bytes + size <= MOST_UNACKNOWLEDGED

    def add(self, message: Written, size: int) -> None:
        with self._lock:
            self._waiting.append((message, size))
            self._bytes += size


class Connection:
    """A link to a broker: MQTT 5 first, 3.1.1 remembered once the broker asked for it."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_id: str,
        on_message: Callable[[str, bytes], None],
        on_lost: Callable[[str], None],
        on_written: Callable[[int], None] = lambda _mid: None,
        keepalive_s: int = 8,
        protocol: int = MQTT_5,
        default_max_packet: int = DEFAULT_MAX_PACKET,
        receive_maximum: int = 64,
        tls: TlsFiles | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.protocol = protocol
        self.max_packet = default_max_packet
        self.will: tuple[str, bytes] | None = None
        self._default_max_packet = default_max_packet
        self._client_id = client_id
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_written = on_written
        self._keepalive_s = keepalive_s
        self._receive_maximum = receive_maximum
        self.trouble = ""  # why the last try failed
        self._tls = tls
        self._socket: Any = None  # of the last attempt
        self._client: mqtt.Client | None = None
        self._accepted: mqtt.Client | None = None  # the same, once the broker said yes
        self._silent_refusals = 0
        self._unacknowledged = _Unacknowledged()

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected()

    def open(self, timeout_s: float = 5.0) -> None:
        """Connect and wait for the broker's answer; raises a transient TransportError."""
        try:
            self._open(timeout_s)
        except TransportError as error:
            self.trouble = error.why
            raise
        self.trouble = ""

    def _open(self, timeout_s: float) -> None:
        self.close()
        refusal = self._attempt(timeout_s)
        if self.protocol == MQTT_5 and refusal is not None:
            # An old broker says so, or just hangs up on a protocol level that it does not know.
            self._silent_refusals += refusal == "hung_up"
            if refusal == "version" or self._silent_refusals >= 2:
                self._silent_refusals = 0
                self.protocol = MQTT_311
                refusal = self._attempt(timeout_s)
                if refusal == "hung_up":
                    self.protocol = MQTT_5
        if refusal in {"hung_up", "not authorized"} and self._tls is not None:
            raise self._refused(self._tls.turned_away(closed=refusal == "hung_up"))
        if refusal is not None:
            raise self._absent(
                {
                    "hung_up": "it closed the connection before answering, "
                    "as one does that wants TLS",
                    "timeout": f"it did not answer within {timeout_s:g} s",
                    "version": "it speaks neither MQTT 5 nor 3.1.1",
                }.get(refusal, f"it refused: {refusal}")
            )

    def _attempt(self, timeout_s: float) -> str | None:
        """None when connected, else why not."""
        answers: list[tuple[ReasonCode | str, Any]] = []
        settled = threading.Event()
        client = self._client = self._new_client(timeout_s)
        self._unacknowledged = _Unacknowledged()

        def on_connect(_c: Any, _u: Any, _f: Any, code: ReasonCode, properties: Any) -> None:
            answers.append((code, properties))
            settled.set()

        def on_disconnect(_c: Any, _u: Any, _f: Any, code: ReasonCode, _properties: Any) -> None:
            first = not settled.is_set()
            answers.append(("hung_up", None))
            settled.set()
            if not first and self._accepted is client:
                self._on_lost(str(code))

        def on_message(_c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
            # A topic that is not UTF-8 is nobody's: the receiver counts it as foreign.
            topic = ""
            with contextlib.suppress(UnicodeDecodeError):
                topic = message.topic
            self._on_message(topic, bytes(message.payload))

        def on_publish(_c: Any, _u: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
            if not code.is_failure:  # a broker may acknowledge that it does not take a message
                self._on_written(mid)

        client.on_connect = on_connect
        client.on_disconnect = on_disconnect
        client.on_message = on_message
        client.on_publish = on_publish
        try:
            if self.protocol == MQTT_5:
                wishes: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                wishes.ReceiveMaximum = self._receive_maximum
                client.connect(
                    self.host, self.port, self._keepalive_s, clean_start=True, properties=wishes
                )
            else:
                client.connect(self.host, self.port, self._keepalive_s)
        except (OSError, ValueError) as error:
            self.close()
            raise self._unreachable(error) from error
        client.loop_start()
        if not settled.wait(timeout_s):
            self.close()
            return "timeout"
        code, properties = answers[0]
        if isinstance(code, ReasonCode) and not code.is_failure:
            limit = getattr(properties, "MaximumPacketSize", None)
            default = _NO_LIMIT if self.protocol == MQTT_5 else self._default_max_packet
            self.max_packet = limit if limit is not None else default
            self._accepted = client
            return None
        failed = getattr(self._socket, "failed", "")
        self.close()
        if failed and self._tls is not None:
            raise self._refused(self._tls.refused_for(failed))
        if isinstance(code, str):
            return code
        return "version" if code.value in {0x84, 0x01} else str(code).lower()

    def _new_client(self, timeout_s: float) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=mqtt.MQTTv5 if self.protocol == MQTT_5 else mqtt.MQTTv311,
            clean_session=None if self.protocol == MQTT_5 else True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = timeout_s
        client.on_socket_open = self._opened
        if self.will is not None:
            client.will_set(*self.will, qos=1)
        if self._tls is not None:
            try:
                client.tls_set_context(self._tls.context())
            except SecurityError as error:
                raise self._refused(Refusal.of(error)) from error
        return client

    def _opened(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def _refused(self, refusal: Refusal) -> TransportError:
        """A certificate never costs more than the link: tried again like an absent broker."""
        return TransportError(
            refusal.code,
            f"the broker {self.broker} was not trusted, or does not trust us",
            why=refusal.why,
            remedy=refusal.remedy,
            transient=True,
        )

    def _unreachable(self, error: OSError | ValueError) -> TransportError:
        if self._tls is not None and isinstance(error, ssl.SSLError | ConnectionResetError):
            return self._refused(self._tls.refusal(error))
        return self._absent(str(getattr(error, "strerror", None) or error).lower())

    def _absent(self, why: str) -> TransportError:
        return TransportError(
            "broker_absent",
            f"the broker {self.broker} cannot be reached",
            why=why.rstrip("."),
            remedy="Start the broker, or correct its address or TLS ([uplink] of a box, --broker and "
            "--tls-… of an aggregator); what is recorded waits",
            transient=True,
        )

    def fits(self, topic: str, payload_bytes: int) -> bool:
        """Whether the broker takes such a message."""
        return payload_bytes + len(topic.encode()) + _PACKET_OVERHEAD <= self.max_packet

    def subscribe(self, topic: str, qos: int) -> None:
        if self._client is not None:
            self._client.subscribe(topic, qos)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False
    ) -> Written | None:
        """Hand over a message; None when the link is down, or too much of QoS 1 waits for the broker
        (nothing is kept for later)."""
        client, unacknowledged = self._client, self._unacknowledged
        if client is None or not client.is_connected():
            return None
        if not self.fits(topic, len(payload)):
            raise TransportError(
                "oversize",
                f"a message of {len(payload)} bytes was not sent",
                why=f"the broker {self.broker} takes packets of at most {self.max_packet} bytes",
                remedy="Raise the broker's max_packet_size (mosquitto) or max_payload (nats-server)",
            )
        size = len(payload) + _EACH
        if qos and not unacknowledged.has_room(size):
            return None
        info = client.publish(topic, payload, qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        if qos:
            unacknowledged.add(info, size)
        return info

    def close(self, *, flush_s: float = 0.0) -> None:
        """Drop the link without notice, or with a DISCONNECT if it can be written within `flush_s`."""
        client, self._client = self._client, None
        self._accepted = self._socket = None
        if client is None:
            return
        if flush_s and client.is_connected():
            client.disconnect()
            thread = client._thread
            if thread is not None:
                thread.join(flush_s)
        # paho waits for its queue to empty: a stopped broker would hold it for ever.
        sock: Any = client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        client.loop_stop()
        # paho closes the two that wake its thread in __del__, which a kept traceback puts off.
        client._reset_sockets()
        # They refer to the client: without them it goes at once.
        client.on_connect = client.on_disconnect = client.on_message = client.on_publish = None
