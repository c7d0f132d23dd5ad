"""Every error of the command line without a daemon: one sentence, its cause, its remedy, its status."""

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from brainforge_edge.cli.demo.children import python
from brainforge_edge.recorder.catalog import RecordingFile, write_recording_file
from brainforge_edge.storage.files import SystemDisk
from tests.faults.box import check_refusal, cli, is_root

CONFIG, STORAGE, SESSION, USAGE, NO_DAEMON = 10, 12, 15, 2, 20
NODE = '[node]\nid = "box"\n'


class Wrong(NamedTuple):
    """A configuration and the words that its refusal must have."""

    text: str
    words: tuple[str, ...]


def device(name: str = "a", kind: str = "opm", settings: str = 'port = "/dev/x"') -> str:
    return f'[[device]]\nname = "{name}"\nkind = "{kind}"\nsettings = {{ {settings} }}\n'


WRONG = {
    "syntax": Wrong("[node\nid = 1\n", ("not valid TOML", "line 1")),
    "unknown key": Wrong(f"{NODE}[recording]\nauto_recrod = true\n", ("auto_recrod", "$.recording")),
    "unknown section": Wrong(f"{NODE}[recrding]\n", ("recrding",)),
    "wrong type": Wrong(f'{NODE}[recording]\nsync_ms = "often"\n', ("$.recording.sync_ms",)),
    "no node": Wrong("[recording]\n", ("node",)),
    "bad node id": Wrong('[node]\nid = "Box 1"\n', ("'Box 1'", "a-z")),
    "too small": Wrong(f"{NODE}[recording]\nsync_ms = 1\n", ("recording.sync_ms", "10 to")),
    "too large": Wrong(f"{NODE}[recording]\npreroll_s = 61\n", ("recording.preroll_s", "60")),
    "cut_s": Wrong(f"{NODE}[recording]\ncut_s = 9\n", ("recording.cut_s", "10 to")),
    "not a number": Wrong(f"{NODE}[recording]\njournal_s = nan\n", ("recording.journal_s",)),
    "port": Wrong(f"{NODE}[uplink]\nport = 0\n", ("uplink.port", "65535")),
    "protocol": Wrong(f"{NODE}[uplink]\nprotocol = 3\n", ("uplink.protocol",)),
    "keepalive": Wrong(f"{NODE}[uplink]\nkeepalive_s = 0\n", ("uplink.keepalive_s",)),
    "edges of the band": Wrong(
        f"{NODE}[pipeline]\nl_freq = 50.0\nh_freq = 10.0\n", ("pipeline.h_freq",)
    ),
    "no live rate": Wrong(f"{NODE}[pipeline]\nlive_sfreq = 0.0\n", ("pipeline.live_sfreq",)),
    "notch": Wrong(f"{NODE}[pipeline]\nnotch = -50.0\n", ("pipeline.notch",)),
    "two of one name": Wrong(NODE + device() + device(), ("two devices", "'a'")),
    "one port for two": Wrong(
        NODE + device() + device("b", "openbci"), ("'a'", "'b'", "same port /dev/x")
    ),
    "one port by two names": Wrong(
        NODE + device() + device("b", settings='port = "/dev/../dev//x"'), ("same port",)
    ),
    "run path": Wrong(f'[node]\nid = "b"\nrun = "/{"x" * 94}"\n', ("node.run", "108 bytes", "107")),
    "run path in bytes": Wrong(f'[node]\nid = "b"\nrun = "/{"ä" * 50}"\n', ("node.run", "114 bytes")),
    "empty run": Wrong('[node]\nid = "b"\nrun = ""\n', ("node.run",)),
    "empty root": Wrong('[node]\nid = "b"\nroot = ""\n', ("node.root",)),
    "zero byte": Wrong('[node]\nid = "b"\nrun = "/a\\u0000b"\n', ("$.node.run", "zero byte")),
    "setting without end": Wrong(
        NODE + device(settings='port = "/dev/x", silent_s = inf'), ("silent_s", "inf")
    ),
    "no end of brackets": Wrong(f"x = {'[' * 5000}", ("nested too deeply",)),
    "no host": Wrong(f'{NODE}[uplink]\nhost = ""\n', ("uplink.host",)),
    "a host of two words": Wrong(f'{NODE}[uplink]\nhost = "a b"\n', ("uplink.host", "'a b'")),
    "never silent": Wrong(NODE + device(settings='port = "/dev/x", silent_s = -1'), ("silent_s",)),
    "no speed": Wrong(NODE + device(settings='port = "/dev/x", baud = -3'), ("baud", "50")),
    "empty port": Wrong(NODE + device(settings='port = ""'), ("port", "'a'")),
    "device name": Wrong(NODE + device("A/B"), ("'A/B'",)),
    "unknown kind": Wrong(NODE + device(kind="eeg9000"), ("'eeg9000'", "opm", "openbci")),
    "kind that is a module": Wrong(NODE + device(kind="transport"), ("'transport'", "openbci")),
    "no port": Wrong(NODE + device(settings="baud = 9600"), ("port", "'a'")),
    "unknown setting": Wrong(
        NODE + device(settings='port = "/dev/x", bauds = 1'), ("bauds", "'a'")
    ),
    "setting's type": Wrong(NODE + device(settings="port = 1"), ("$.port", "'a'")),
}  # fmt: skip


AT_RUN = (
    "syntax", "unknown key", "too small", "two of one name", "unknown kind", "no port",
    "one port for two", "run path",
)  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "case"),
    [("check", case) for case in WRONG] + [("run", case) for case in AT_RUN],
)
def test_a_wrong_configuration_is_refused_with_its_path(
    verb: str, case: str, tmp_path: Path
) -> None:
    wrong = WRONG[case]
    path = tmp_path / "edge.toml"
    here = f'root = "{tmp_path}/root"\nrun = "{tmp_path}/run"\n'
    path.write_text(wrong.text.replace('id = "box"\n', f'id = "box"\n{here}'))
    before = ("config", "check") if verb == "check" else ("run", "--config")
    check_refusal(cli(*before, path, timeout_s=20), CONFIG, *wrong.words)
    assert not (tmp_path / "root").exists()


def test_a_configuration_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    check_refusal(cli("run", "--config", tmp_path / "no.toml"), CONFIG, "no.toml", "no such file")
    check_refusal(cli("status", "--config", tmp_path / "no.toml"), CONFIG, "no such file")
    check_refusal(cli("config", "check", tmp_path), CONFIG, "directory")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    check_refusal(cli("config", "check", binary), CONFIG, "UTF-8")


@pytest.mark.parametrize(
    "verb", [("status",), ("streams",), ("record",), ("stop",), ("mark", "eyes closed")]
)
def test_a_verb_without_a_daemon_says_how_to_start_one(
    verb: tuple[str, ...], tmp_path: Path
) -> None:
    check_refusal(cli(*verb, "--run", tmp_path), NO_DAEMON, "control.sock", "brainforge-edge run")
    as_json = cli(*verb, "--run", tmp_path, "--json")
    reply = json.loads(as_json.stdout)
    assert as_json.returncode == NO_DAEMON
    assert not as_json.stderr
    assert reply["ok"] is False
    assert set(reply["error"]) >= {"code", "what", "why", "remedy"}


def test_a_socket_that_nobody_listens_at_is_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control.sock"))
    check_refusal(cli("status", "--run", tmp_path), NO_DAEMON, "not running")
    (tmp_path / "control.sock").unlink()
    (tmp_path / "control.sock").mkdir()
    check_refusal(cli("status", "--run", tmp_path), NO_DAEMON, "control.sock")


@pytest.mark.parametrize(
    "line",
    [
        ("recrod",),
        ("record", "--nmae", "x"),
        ("record", "--preroll", "61"),
        ("mark",),
        ("export", "somewhere"),
        ("export", "somewhere", "--format", "wav"),
        ("emulate", "muse", "--link", "x"),
        ("emulate", "opm", "--link", ""),
        ("verify", ""),
        ("export", "somewhere", "--format", "csv", "--output", ""),
        ("cloud", "run", "--root", ""),
        ("cloud", "run", "--root", "x", "--broker", ":1883"),
        ("status", "--run", ""),
        ("config", "check", ""),
        ("mark", "\udcff\udcfe"),
    ],
)
def test_a_wrong_command_line_names_the_help(line: tuple[str, ...]) -> None:
    check_refusal(cli(*line), USAGE, "--help")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "line", [("--help",), ("config", "check", "{}"), ("config", "check", "none", "--json")]
)
def test_output_that_cannot_be_written_is_one_sentence(
    line: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(NODE)
    command = python("brainforge_edge.cli.main", *(word.format(config) for word in line))
    changed = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=changed
        )
        result.stdout = ""
        check_refusal(result, STORAGE, "no space left on device")
        both = subprocess.run(command, stdout=full, stderr=full, check=False, env=changed)
        assert both.returncode == STORAGE


NONSENSE = {
    "absent": "there is no such folder",
    "a file": "",
    "empty": "neither",
    "garbage": "",
}


@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize("verb", ["verify", "repair", "export"])
def test_what_is_no_recording_is_refused(verb: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if what == "a file":
        path.write_text("hello")
    elif what == "empty":
        path.mkdir()
    elif what == "garbage":
        (path / "mag").mkdir(parents=True)
        (path / "mag" / "notes.txt").write_text("not ours")
    options = ("--format", "csv", "--output", tmp_path / "out") if verb == "export" else ()
    check_refusal(cli(verb, path, *options), STORAGE, str(path), NONSENSE[what])


def test_an_export_of_a_recording_that_is_open_does_not_fit(tmp_path: Path) -> None:
    write_recording_file(tmp_path, RecordingFile("rec", None, "box"), SystemDisk())
    options = ("--format", "csv", "--output", tmp_path / "out")
    check_refusal(cli("export", tmp_path / "rec", *options), SESSION, "brainforge-edge stop")
    assert not (tmp_path / "out").exists()


def test_garbage_in_a_segment_is_named_by_verify_and_not_exported(tmp_path: Path) -> None:
    folder = tmp_path / "rec" / "helmet-mag"
    folder.mkdir(parents=True)
    (folder / "0001.seg").write_bytes(bytes(range(256)) * 64)
    verified = cli("verify", tmp_path / "rec")
    assert verified.returncode == 1, verified.stderr
    assert "0001.seg" in verified.stdout
    assert "Traceback" not in verified.stderr
    out = tmp_path / "out"
    exported = cli("export", tmp_path / "rec", "--format", "csv", "--output", out)
    assert exported.returncode == SESSION  # it has no recording.json that says it was closed
    assert "Traceback" not in exported.stderr
    assert not list(out.glob("*")) if out.exists() else True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(
        f'[node]\nid = "box"\nroot = "{tmp_path}/root"\nrun = "{tmp_path}/run"\n'
        "[uplink]\nenabled = false\n"
    )
    return path


@pytest.mark.parametrize("which", ["root", "run"])
def test_a_folder_that_is_a_file_is_named(which: str, config: Path, tmp_path: Path) -> None:
    (tmp_path / which).write_text("in the way")
    check_refusal(cli("run", "--config", config, timeout_s=20), STORAGE, str(tmp_path / which))


def test_the_longest_run_folder_that_is_accepted_holds_a_socket(
    config: Path, tmp_path: Path
) -> None:
    room = 107 - len(f"{tmp_path}//control.sock")
    for length, status in ((room, 0), (room + 1, CONFIG)):
        run = tmp_path / ("x" * length)
        config.write_text(f'[node]\nid = "box"\nrun = "{run}"\n')
        assert cli("config", "check", config).returncode == status
    (tmp_path / ("x" * room)).mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / ("x" * room) / "control.sock"))


@pytest.fixture
def nobody(tmp_path: Path) -> int:
    """A user without rights; root alone can become one."""
    if not is_root():
        pytest.skip("only root can become another user; the folder tests above run everywhere")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    return 65_534


def test_an_unwritable_folder_is_refused_with_its_cause(
    config: Path, tmp_path: Path, nobody: int
) -> None:
    (tmp_path / "root").mkdir(mode=0o755)
    (tmp_path / "run").mkdir(mode=0o777)
    (tmp_path / "run").chmod(0o777)
    # Root's modules are imported first: another user may not be able to read this checkout.
    program = (
        "import os, sys; from brainforge_edge.cli import main, run; from brainforge_edge.daemon "
        "import supervisor; import brainforge_edge.cli.main as m; run._check_settings = lambda _: None; "
        f"os.setgroups([]); os.setuid({nobody}); sys.exit(m.main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "run", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    check_refusal(result, STORAGE, str(tmp_path / "root"), "permission")


def test_an_export_that_the_disk_refuses_names_the_cause(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = cli("export", tmp_path, "--format", "csv", "--output", tmp_path / "out")
    check_refusal(result, STORAGE)


def test_few_descriptors_do_not_end_in_a_traceback(config: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    del soft
    result = subprocess.run(
        python("brainforge_edge.cli.main", "status", "--config", str(config)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard)),
    )
    check_refusal(result, NO_DAEMON)


@pytest.mark.parametrize("name", ["", "store", "store.lock", "catalogue.sqlite"])
def test_an_aggregator_whose_root_holds_something_else_names_it(tmp_path: Path, name: str) -> None:
    place = tmp_path / "root" / name
    place.parent.mkdir(exist_ok=True)
    place.touch() if name in {"", "store"} else place.mkdir()
    result = cli("cloud", "run", "--root", tmp_path / "root", timeout_s=20)
    check_refusal(result, STORAGE, str(place))


def test_a_demo_that_cannot_write_its_configuration_says_so(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").mkdir()
    result = cli("demo", "--root", tmp_path, "--json", timeout_s=30)
    assert result.returncode == STORAGE
    assert json.loads(result.stdout)["error"]["code"] == "storage.demo_config"
