"""Recorder, uplink and aggregator in one simulated world: one thread, one clock, all faults drawn from one seed."""

import errno
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.sim_box import STREAMS, Box
from tests.faults.sim_check import End, check_end, check_now
from tests.faults.sim_cloud import Aggregator, Uplink
from tests.faults.sim_network import Post
from tests.faults.turns import SetClock

STEPS_S = (2, 6, 8, 8)
MEAN_STEP_S = sum(STEPS_S) / len(STEPS_S)
CALM_S = 60  # before the first fault, and after the last
MOST_DRAIN_S = 4000
ROUNDS = 4  # of messages in a step

# How often each fault comes, per 1000 s.
RATES = {
    "power cut": 1.0,
    "acquire dies": 2.0,
    "uplink dies": 2.0,
    "ingest dies": 3.0,
    "EIO": 2.5,
    "ENOSPC": 2.5,
    "device out": 3.0,
    "device reboots": 1.0,
    "broker down": 2.0,
    "link cut": 3.0,
    "half open in": 1.5,
    "half open out": 1.5,
    "rough network": 3.0,
    "clock step": 2.0,
    "back-up": 1.5,
    "restore": 0.8,
    "next recording": 1.0,
}


class World:
    """`run` a life of so many seconds; `wrong` says what it showed."""

    def __init__(self, folder: Path, seed: int, *, has_faults: bool = True) -> None:
        self.chance = random.Random(seed)
        self.clock = SetClock()
        self.box = Box(folder, self.chance, self.clock)
        self.post = Post(self.clock, self.chance)
        self.uplink = Uplink(
            self.box.root, folder / "uplink.sqlite", self.post, self.chance, self.clock
        )
        self.cloud = Aggregator(folder, self.post, self.clock)
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.trace = hashlib.sha256()
        self.end = End()
        self._has_faults = has_faults
        self._start_ns = self.clock.now_ns
        self._until: dict[str, tuple[int, Callable[[], None]]] = {}  # what ends by itself, and when
        self._down_until_ns = {"uplink": 0, "ingest": 0}

    @property
    def seconds(self) -> float:
        return (self.clock.now_ns - self._start_ns) / 1e9

    def run(self, seconds: float) -> None:
        """Faults for so long, then quiet until everything is stored, then the account."""
        try:
            while self.seconds < seconds and not self.wrong:
                if self._has_faults and self.seconds > CALM_S:
                    self._draw()
                self._step()
            self._calm()
            self._drain()
            if not self.wrong:
                self.end = check_end(self)
                self.wrong = self.end.wrong
                self.note(f"{self.end}")
        finally:
            self.close()

    def close(self) -> None:
        self.box.disk.let_go()
        if self.box.life is not None:
            self.box.life.die()
        if self.uplink.is_alive:
            self.uplink.die()
        self.cloud.die()

    def note(self, what: str) -> None:
        self.trace.update(f"{self.clock.now_ns} {what}\n".encode())

    # ---- time --------------------------------------------------------------------------------

    def _step(self) -> None:
        self.clock.now_ns += self.chance.choice(STEPS_S) * 1_000_000_000
        for name, (until_ns, ends) in list(self._until.items()):
            if self.clock.now_ns >= until_ns:
                del self._until[name]
                ends()
        self.box.step()
        may_start = self.box.lives and self.clock.now_ns >= self._down_until_ns["uplink"]
        if may_start and not self.uplink.is_alive:
            self.uplink.start()
        if not self.cloud.is_alive and self.clock.now_ns >= self._down_until_ns["ingest"]:
            self.cloud.start()
        self._hand_over()
        for _ in range(ROUNDS):
            if self.cloud.is_alive:
                self.cloud.turn()
            if self.uplink.is_alive:
                self.uplink.turn()
            if not self.post.deliver():
                break
        self.wrong += check_now(self)
        self._remember()

    def _hand_over(self) -> None:
        """What the archive announced, through the supervisor: nobody keeps it for a dead uplink."""
        while self.box.news:
            news = self.box.news.popleft()
            if self.uplink.is_alive:
                self.uplink.pump.inbox.put(news)

    def _remember(self) -> None:
        life = self.box.life
        rings = [] if life is None else [life.streams.all[key].ring for key in STREAMS]
        self.note(f"{[(r.head, r.written, r.durable) for r in rings]} {self.post.delivered}")

    def _calm(self) -> None:
        for _, ends in self._until.values():
            ends()
        self._until.clear()
        self.box.calm()
        if self.cloud.is_alive:
            self.cloud.store.dies = ""

    def _drain(self) -> None:
        """The recording goes on for a while, is stopped, and everything is delivered."""
        until = self.seconds + CALM_S
        while self.seconds < until and not self.wrong:
            self._step()
        self.box.stop()
        until = self.seconds + MOST_DRAIN_S
        while not self.wrong:
            self._step()
            if self.box.is_closed and self.uplink.is_alive and self._is_drained():
                return
            if self.seconds > until:
                lag = self.uplink.pump.stats if self.uplink.is_alive else {}
                self.wrong.append(f"not drained: closed {self.box.is_closed}, {lag}")

    def _is_drained(self) -> bool:
        pump = self.uplink.pump
        return self.cloud.is_alive and pump.stats["state"] == "open" and not any(pump.stats[key] for key in ("lag_chunks", "in_flight"))  # fmt: skip

    # ---- faults ------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Each fault comes with its rate; ."""
        for name, rate in RATES.items():
            if self.chance.random() < rate * MEAN_STEP_S / 1000 and self._strike(name):
                self.faults[name] += 1
                self.note(name)

    def _for(self, name: str, least_s: int, most_s: int, ends: Callable[[], None]) -> None:
        seconds = self.chance.randint(least_s, most_s)
        self._until[name] = (self.clock.now_ns + seconds * 1_000_000_000, ends)

    def _strike(self, name: str) -> bool:
        """False where there is nothing to strike now."""
        box, post = self.box, self.post
        match name:
            case "power cut":
                return box.strike(self._cut_power)
            case "acquire dies":
                return box.strike(box.die)
            case "uplink dies":
                self._uplink_dies()
            case "ingest dies":
                self._ingest_dies()
            case "EIO" | "ENOSPC":
                box.disk.fail(getattr(errno, name), self.chance.choice((1, 1, 2, 5, 20)))
            case "device out":
                box.is_linked = False
                self._for(name, 1, 60, self._device_back)
            case "device reboots":
                box.reboot_device()
            case "broker down":
                post.kill()
                self._for(name, 5, 200, self._broker_back)
            case "rough network":
                post.is_rough = True
                self._for(name, 20, 200, self._smooth)
            case "clock step":
                hour_ns = 3600 * 1_000_000_000
                self.clock.utc_offset_ns = self.chance.choice((None, 0, 1, -1, 175_000)) and (
                    1_800_000_000_000_000_000 + self.chance.randint(-9, 9) * hour_ns
                )
            case "next recording":
                box.next_recording()
            case _:
                return self._strike_links(name)
        return True

    def _strike_links(self, name: str) -> bool:
        if name in {"back-up", "restore"}:
            if name == "restore" and not self.cloud.has_backup:
                return False
            (self.cloud.back_up if name == "back-up" else self.cloud.restore)()
            return True
        if not self.uplink.is_alive or not self.uplink.link.connected:
            return False
        link = self.uplink.link
        if name == "link cut":
            self.post.cut(link)
            return True
        if name == "half open in":
            link.is_deaf_in = True
        else:
            link.is_deaf_out = True
        self._for(name, 12, 13, lambda: self.post.cut(link))
        return True

    def _cut_power(self) -> None:
        self.note("power is gone")
        self._uplink_dies()
        self.box.cut_power()

    def _uplink_dies(self) -> None:
        if self.uplink.is_alive:
            self.uplink.die()
        self._down_until_ns["uplink"] = self.clock.now_ns + self.chance.randint(1, 20) * 10**9

    def _ingest_dies(self) -> None:
        self._down_until_ns["ingest"] = self.clock.now_ns + self.chance.randint(1, 60) * 10**9
        if self.cloud.is_alive:
            how = self.chance.choice(("before", "inside", "after", ""))
            if how:
                self.cloud.store.dies = how
            else:
                self.cloud.die()

    def _device_back(self) -> None:
        self.box.is_linked = True

    def _broker_back(self) -> None:
        self.post.is_up = True

    def _smooth(self) -> None:
        self.post.is_rough = False
