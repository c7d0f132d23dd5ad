"""A keys file that is damaged costs nobody else a key when one of four is erased, and hides none silently."""

import random
import shutil
from base64 import b64encode
from pathlib import Path

import pytest

from brainforge_edge.recorder import keyscraps
from brainforge_edge.recorder.keyfile import KEYS_FILE, add_key, read_keys
from tests.unit.erasure_material import (
    PEOPLE,
    RECORDING,
    ROLES,
    Make,
    Session,
    erase,
    found_by,
    info_of,
    order,
)
from tests.unit.sealed_material import DISK


def change(made: Session, old: bytes, new: bytes) -> None:
    path = made.folder / KEYS_FILE
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def unclear(made: Session) -> list[tuple[str, str]]:
    return [(e.what, e.why) for e in erase(made).not_reached if e.kind == "unclear"]


@pytest.mark.parametrize("is_set_aside", [False, True])
def test_a_key_that_one_flipped_bit_gives_to_another_is_not_erased_with_his(
    tmp_path: Path, make: Make, *, is_set_aside: bool
) -> None:
    """Also where recording went on, and the entry went into a new file with a CRC of its own."""
    made = make(tmp_path / "box")
    change(made, b'"p3"', b'"p2"')
    if is_set_aside:
        made.sealing("p1", seed=2).key_for(RECORDING, "p1")
        assert (made.folder / "keys.damaged-1").exists()
    left = unclear(made)
    assert [what for what, _ in left] == [f"key {made.keys['p3'].key_id.hex()}"]
    assert "somebody else's" in left[0][1]
    assert [found_by(made, who) for who in PEOPLE] == [
        [] if who == "p2" else list(ROLES) for who in PEOPLE
    ]


def test_a_key_of_a_damaged_file_that_no_segment_names_stays_and_is_listed(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    idle = made.sealing("p3", seed=3).key_for(RECORDING, "p3")
    path = made.folder / KEYS_FILE
    data = path.read_bytes()
    at = data.index(b'"p3"', data.index(idle.key_id.hex().encode()))
    path.write_bytes(data[:at] + b'"p2"' + data[at + 4 :])
    assert [what for what, _ in unclear(made)] == [f"key {idle.key_id.hex()}"]
    found = read_keys(made.folder, DISK)
    assert found is not None
    assert idle.key_id.hex() in {entry.key_id for entry in found.keys}
    assert found_by(made, "p2") == []


def test_so_does_one_whose_label_names_somebody_else(tmp_path: Path, make: Make) -> None:
    """The label may be what was damaged: the participant's own key would stay, and nobody be told."""
    made = make(tmp_path / "box")
    shutil.rmtree(made.folder / info_of("p2").stream_id)
    change(made, b'"p2"', b'"p0"')
    left = unclear(made)
    assert [what for what, _ in left] == [f"key {made.keys['p2'].key_id.hex()}"]
    assert "no segment or journal names it" in left[0][1]
    assert found_by(made, "p2") == list(ROLES)


def test_a_key_that_no_segment_names_is_erased_where_the_keys_file_is_whole(
    tmp_path: Path, make: Make
) -> None:
    """Also one that was made after a damaged file was set aside."""
    made = make(tmp_path / "box")
    change(made, b'"p4"', b'"q4"')
    idle = made.sealing("p2", seed=3).key_for(RECORDING, "p2")
    assert idle.key_id.hex() in {each.what for each in erase(made).erased}


def test_an_entry_that_no_longer_parses_is_listed_though_its_label_names_somebody_else(
    tmp_path: Path, make: Make
) -> None:
    """Behind a label may stand what is left of another entry."""
    made = make(tmp_path / "box")
    path = made.folder / KEYS_FILE
    data = path.read_bytes()
    mine = data.index(made.keys["p2"].key_id.hex().encode())
    own = data.index(b'"sealed"', mine)
    start = data.rindex(b'"wrapped"', 0, mine)  # of the entry before: its recipients go, too
    path.write_bytes(data[:start] + bytes(own - start) + data[own:])
    assert "keys.damaged-1" in [what for what, _ in unclear(made)]


def test_where_nothing_is_known_of_the_participant_a_damaged_file_is_listed_all_the_same(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    entry = read_keys(made.folder, DISK)
    assert entry is not None
    add_key(made.folder, entry.keys[0], made.log_id, DISK)
    change(made, f'"{made.keys["p4"].key_id.hex()}"'.encode(), b'"x"')
    before = (made.folder / KEYS_FILE).read_bytes()
    left = erase(made, said=order("p9")).not_reached
    assert [e.what for e in left if e.kind == "unclear"] == [KEYS_FILE]
    assert (made.folder / KEYS_FILE).read_bytes() == before


def test_a_key_whose_owner_was_lost_is_not_listed_where_its_segments_say_whose_it_is(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    data = (made.folder / KEYS_FILE).read_bytes()
    (made.folder / KEYS_FILE).write_bytes(data.replace(b'"participant"', b'"parti\0ipant"'))
    assert f"key {made.keys['p3'].key_id.hex()}" not in [what for what, _ in unclear(made)]
    assert found_by(made, "p2") == []
    assert found_by(made, "p3") == list(ROLES)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One or a few flipped bits, or a stretch of zeros."""
    out = bytearray(data)
    if rng.random() < 0.5:
        for _ in range(rng.choice((1, 1, 2))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    else:
        at = rng.randrange(len(out))
        n = min(rng.randrange(16, 600), len(out) - at)
        out[at : at + n] = bytes(n)
    return bytes(out)


def test_whatever_is_damaged_no_other_key_is_blanked_and_none_of_the_participant_stays_unsaid(
    tmp_path: Path, make: Make
) -> None:
    made = make(tmp_path / "box")
    data = (made.folder / KEYS_FILE).read_bytes()
    found = read_keys(made.folder, DISK)
    assert found is not None
    sealed = {b64encode(w.sealed): e.participant for e in found.keys for w in e.wrapped}
    ids = frozenset(e.key_id for e in found.keys if e.participant == "p2")
    rng = random.Random(17)
    n_blanked = 0
    for _ in range(1500):
        now = damaged(data, rng)
        left, n_unclear = keyscraps.without(now, ids)
        # A key under another id is listed by that: no segment names it.
        n_unclear += sum(
            s.participant == "p2" and s.key_id not in ids for s in keyscraps.scraps(now)
        )
        for text, who in sealed.items():
            if text not in now:
                continue
            if who == "p2":
                n_blanked += text not in left
                assert text not in left or n_unclear
            else:
                assert text in left
    assert n_blanked > 2000
