"""What README and docs say exists: commands, exit statuses, keys, events, pins."""

import re
import tomllib
from typing import Any

import click
import msgspec
import pytest

from brainforge_edge.cli.main import VERBS, cli
from brainforge_edge.core import config, liveconfig
from brainforge_edge.core.errors import ExitStatus
from brainforge_edge.core.events import EventType
from brainforge_edge.devices import registry
from tests.structure.tree import DOCS, PACKAGE, ROOT, sources

FIRST_COMMAND = (
    "sudo apt-get install -y python3-venv python3-dev g++ && python3 -m venv .venv && "
    ".venv/bin/pip install -c constraints.txt -e '.[demo]' && .venv/bin/brainforge-edge demo"
)
OPERATOR = DOCS / "operator.md"


def _pages() -> list[Any]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def _commands() -> list[tuple[str, list[str]]]:
    """`brainforge-edge …` as written in code spans and blocks."""
    found = []
    for page in _pages():
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(
            r"(?:^|[`/ ])brainforge-edge +([a-z][^`\n|#]*)", text, re.MULTILINE
        ):
            found += [(page.name, match.group(1).split())]
    return found


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        step = command.get_command(click.Context(command), rest[0])
        assert step is not None, f"no verb {rest[0]!r} in {' '.join(words)!r}"
        command = step
        rest.pop(0)
    return command, rest


def test_the_readme_starts_with_the_two_commands() -> None:
    block = re.search(
        r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert block is not None
    assert block.group(1).splitlines()[:2] == [FIRST_COMMAND, "tests/run"]


def test_every_command_in_the_pages_exists_with_its_options() -> None:
    commands = _commands()
    assert len(commands) > 10
    for page, words in commands:
        command, rest = _resolve(words)
        options = {name for param in command.params for name in param.opts}
        used = {word.split("=")[0].strip("[]().,") for word in rest if word.startswith(("-", "[-"))}
        used.discard("")
        assert used <= options | {"--help"}, f"{page}: {words} uses {used - options}"


def test_every_verb_is_described_for_operators_and_helps_as_the_list_says() -> None:
    text = OPERATOR.read_text(encoding="utf-8")
    for verb, (_, line) in VERBS.items():
        assert f"`brainforge-edge {verb}" in text, verb
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        assert command.get_short_help_str(200) == line


def test_the_device_table_is_the_registry() -> None:
    rows = re.findall(
        r"^\|[^|]*\| `([a-z0-9_]+)` \|.*`(devices/[a-z0-9_]+\.py)` \|"
        r" `(?:brainforge-edge emulate [a-z0-9_]+|(emulators/[a-z0-9_]+\.py))`",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert sorted(kind for kind, _, _ in rows) == registry.kinds()
    assert all((PACKAGE / path).exists() for _, *paths in rows for path in paths if path)


def test_every_driver_setting_is_documented() -> None:
    text = OPERATOR.read_text(encoding="utf-8")
    for kind in registry.kinds():
        for name in registry.load(kind).Config.__struct_fields__:
            assert f"| `{kind}` | `{name}` |" in text, f"{kind}: {name}"


def test_every_exit_status_is_documented() -> None:
    text = OPERATOR.read_text(encoding="utf-8")
    for status in ExitStatus:
        assert re.search(rf"^\| {status.value} \| `{status.name}` \|", text, re.MULTILINE), status


@pytest.mark.parametrize(
    ("table", "section"),
    [
        ("node", config.NodeConfig),
        ("recording", config.RecordingConfig),
        ("disk", config.DiskConfig),
        ("pipeline", config.PipelineConfig),
        ("pipeline.stream", liveconfig.StreamTable),
        ("uplink", config.UplinkConfig),
        ("uplink.tls", config.TlsConfig),
        ("retention", config.RetentionConfig),
        ("orders", config.OrdersConfig),
        ("lsl", config.LslConfig),
        ("web", config.WebConfig),
        ("device", config.DeviceConfig),
    ],
)
def test_every_configuration_key_is_documented(table: str, section: type[msgspec.Struct]) -> None:
    text = OPERATOR.read_text(encoding="utf-8")
    for name in section.__struct_fields__:
        assert f"| `{table}.{name}` |" in text, f"{table}.{name}"


def test_the_configuration_example_parses() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", OPERATOR.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        config.parse(block, "docs/operator.md")


def test_every_event_name_in_the_code_is_registered() -> None:
    names = {event.value for event in EventType}
    used = set()
    for path in sources():
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"Event\(\s*event_type=\"([a-z_.]+)\"", text))
        used |= {getattr(EventType, n).value for n in re.findall(r"EventType\.([A-Z_]+)", text)}
    assert used <= names


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in _pages():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def test_constraints_pin_everything_exactly_and_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines == sorted(lines, key=str.lower)
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.+]+)", line)
        assert match, line
        pins[_normal(match.group(1))] = match.group(2)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        requirement
        for group in project["project"]["optional-dependencies"].values()
        for requirement in group
    ]
    names = {_normal(re.split(r"[\[=<>;~ ]", requirement)[0]) for requirement in wanted}
    assert names - set(pins) <= {"brainforge-edge"}
    for requirement in project["build-system"]["requires"]:
        name, _, version = requirement.partition("==")
        assert pins[_normal(name)] == version
    assert tuple(int(part) for part in pins["numpy"].split(".")[:2]) < (2, 4)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_has_its_reason_and_licence() -> None:
    text = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for group in project["project"]["optional-dependencies"].values():
        for requirement in group:
            if not requirement.startswith("brainforge-edge"):
                name = re.split(r"[\[=<>;~ ]", requirement)[0]
                assert re.search(rf"^\| {re.escape(name)} \|", text, re.MULTILINE), name


def test_docs_lie_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["brainforge_edge"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert set(DOCS.rglob("*.md")) <= shipped
