"""Signed desired states and jobs, from the operator's command to a recording daemon and back, over a real broker."""

from pathlib import Path

import msgspec
import pytest

from brainforge_edge.core import topics
from brainforge_edge.core.errors import SecurityError
from brainforge_edge.security.erasure import DOMAIN, SignedErasure
from brainforge_edge.security.sign import Signed
from brainforge_edge.security.signfiles import verifier_at
from brainforge_edge.uplink.client import Connection
from tests.faults.box import n_rows
from tests.faults.orders_site import MOST_S, OrdersSite, orders_site

pytestmark = pytest.mark.timeout(400)


CAP = "one-eeg"


def opened(site: OrdersSite, name: str) -> dict[str, int]:
    """Rows in the store by stream, none if one key of them does not open with the private key of that name."""
    try:
        return site.stored_rows(name)
    except SecurityError:
        return {}


def test_the_key_that_is_sealed_for_is_changed_while_the_box_records(tmp_path: Path) -> None:
    """What was recorded before, and goes on, opens with either key; what begins later with the new one alone."""
    with orders_site(tmp_path, ("one",)) as site:
        site.start()
        site.box.ask("record", name="first")
        site.recorded(100)
        site.box.ask("stop")
        site.until_delivered()
        site.box.ask("record", name="second")
        site.recorded(100)
        version = site.rotate("--aggregator", site.key("new") / "aggregator.pem")
        shown = site.until_stands(version)
        assert (shown["set"], shown["error"]) == (version, None)
        site.recorded(100)
        assert site.box.worker("acquire:one")["restarts"] == 0
        assert site.box.worker("agent")["restarts"] == 0
        site.box.ask("stop")
        account = site.box.verify()
        assert account["second"][CAP]["gaps"] == []
        held = {CAP: n_rows(account, CAP)}
        site.box.until(lambda: opened(site, "new") == held, MOST_S, "all rows for the new key")
        assert site.stored_rows("old") == held
        site.box.ask("record", name="third")
        site.recorded(100)
        site.box.ask("stop")
        held = {CAP: n_rows(site.box.verify(), CAP)}
        site.box.until(lambda: opened(site, "new") == held, MOST_S, "the rows of the third")
        assert opened(site, "old") == {}


def test_a_participant_is_erased_by_a_job_that_two_signed(tmp_path: Path) -> None:
    """While a recording goes on the job waits and has begun; the list comes back signed."""
    with orders_site(tmp_path) as site:
        site.start()
        site.box.ask("record", name="night")
        site.recorded(250)
        job = site.add(site.erasing("p-one"))
        said = site.until_job(job, "begun")
        assert said["error"] == "session.participant_recorded"
        site.recorded(100)
        site.box.ask("stop")
        before = site.box.verify()["night"]
        said = site.until_job(job, "done")
        assert said["erased"] > 0
        signed = msgspec.json.decode(said["list"], type=SignedErasure)
        verifier = verifier_at(site.key("lists") / "signer.pem")
        body = Signed(signed.body.encode(), signed.signer, signed.signature)
        assert verifier.is_genuine(DOMAIN, body)
        after = site.box.verify()["night"]
        assert after["one-eeg"]["erased"] == before["one-eeg"]["chunks"] > 0
        assert after["two-eeg"] == before["two-eeg"]


def test_a_job_that_was_given_while_the_broker_was_away_is_carried_out_when_it_is_back(
    tmp_path: Path,
) -> None:
    """And so is a desired state; the broker forgot all that it retained, twice."""
    with orders_site(tmp_path) as site:
        site.start()
        site.box.ask("record", name="night")
        site.recorded(100)
        site.box.ask("stop")
        site.until_delivered()
        site.broker.stop()
        job = site.add(site.erasing("p-one"))
        version = site.rotate("--aggregator", site.key("new") / "aggregator.pem")
        assert site.job(job)["state"] == "unanswered"
        assert site.shown()["stands"] is None
        site.broker.start()
        assert site.until_job(job, "done")["erased"] > 0
        site.until_stands(version)
        site.broker.stop()
        assert site.ingest.stop() == 0
        daemon = site.box.daemon
        assert daemon is not None
        assert site.box.end(daemon) == 0
        site.broker.start()
        site.ingest.start()
        site.box.start()
        site.until_delivered()
        done = site.job(job)
        later = site.add(site.erasing("p-two"))
        assert site.until_job(later, "done")["erased"] > 0
        assert site.job(job) == done
        assert site.shown()["stands"] == version


def test_a_flood_of_garbage_costs_a_recording_nothing_and_a_state_comes_through_it(
    tmp_path: Path,
) -> None:
    """From a stranger where the broker stands open; what is forged is refused by name, or not even looked at."""
    with orders_site(tmp_path, ("one",)) as site:
        site.start()
        site.box.ask("record", name="night")
        site.recorded(50)
        stranger = Connection(
            host="127.0.0.1", port=site.broker.port, client_id="stranger",
            on_message=lambda _topic, _payload: None, on_lost=lambda _reason: None,
        )  # fmt: skip
        stranger.open()
        try:
            unsigned = b'{"body":"{\\"kind\\":\\"stimulate\\"}","signatures":[]}'
            garbage = (unsigned, b"[" * 60_000, b"\xff" * 5000, b"x" * 1024 * 1024)
            for i in range(10_000):
                payload = garbage[0 if i % 100 else i // 100 % 4]
                stranger.publish(topics.job("box", f"{i:016x}"), payload)
                stranger.publish(topics.desired("box"), payload)
            version = site.rotate("--aggregator", site.key("new") / "aggregator.pem")
            site.until_stands(version)
        finally:
            stranger.close()
        agent = site.box.status()["orders"]
        assert agent["refused"] > 0
        assert agent["error"] is None
        site.recorded(50)
        for name in ("acquire:one", "agent"):
            assert site.box.worker(name)["restarts"] == 0
        site.box.ask("stop")
        stream = site.box.verify()["night"][CAP]
        assert stream["clean"], stream
        assert stream["gaps"] == []
