"""Broker, aggregator and uplink killed in a seeded order while a log grows."""

import random

from tests.broker.conftest import Site
from tests.broker.rig import CHUNK_ROWS, assert_stored_once, stream

MAG = stream("opm-mag")
EEG = stream("cyton-eeg", 3)
KILLS = 12


def test_killing_everything_in_any_order_loses_nothing(any_site: Site) -> None:
    seed = 20_261_121
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = any_site.log()
    ingest = any_site.ingest().start()
    box = any_site.box(window_chunks=16).start()
    chunk = 0
    for _ in range(KILLS):
        for _ in range(chance.randint(5, 25)):
            box.pump.inbox.put(log.append(MAG, chunk * CHUNK_ROWS, segment_bytes=250_000))
            box.pump.inbox.put(log.append(EEG, chunk * CHUNK_ROWS, incarnation=chunk // 40))
            chunk += 1
        box.wait_receipted(chance.randint(0, 6))
        victim = chance.choice(["broker", "ingest", "uplink"])
        if victim == "broker":
            any_site.broker.kill()
            any_site.broker.start()
        elif victim == "ingest":
            ingest.kill()
            ingest.start()
        else:
            box.stop()
            box = any_site.box(window_chunks=16).start()
    log.close()
    box.pump.look_again()
    box.wait_drained()
    assert_stored_once(any_site.cloud, log)
