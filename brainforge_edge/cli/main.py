"""`brainforge-edge`: verbs are imported when they run. Runs in: a process of its own, main thread."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_tb
from typing import TextIO

import click

from brainforge_edge.cli.output import report_error, wants_json
from brainforge_edge.core.errors import BrainforgeError, ConfigError, ExitStatus, StorageError

INTERRUPTED = 130  # 128 + SIGINT, what shells expect

# verb → module and the line that `--help` shows; the module holds the command under the verb's name.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("brainforge_edge.cli.run", "Run the daemon in the foreground."),
    "status": ("brainforge_edge.cli.status", "Show what the daemon does."),
    "devices": (
        "brainforge_edge.cli.devices.verb",
        "List the devices in reach; bind, forget, name them.",
    ),
    "streams": ("brainforge_edge.cli.streams", "List the streams of the devices."),
    "features": (
        "brainforge_edge.cli.features",
        "Show band powers, quality and age of a stream, or a line for each.",
    ),
    "record": ("brainforge_edge.cli.record", "Start a recording."),
    "session": (
        "brainforge_edge.cli.session.verb",
        "Start, stop and look at a bedside session.",
    ),
    "mark": ("brainforge_edge.cli.mark", "Put a marker into the open recording."),
    "device": (
        "brainforge_edge.cli.device",
        "Let a device do something: zero, calibrate, self_test …",
    ),
    "stop": ("brainforge_edge.cli.stop", "Stop the recording and wait until it is safe."),
    "verify": ("brainforge_edge.cli.verify", "Account for every sample of a recording."),
    "repair": ("brainforge_edge.cli.repair", "Cut torn tails and archive what journals hold."),
    "export": (
        "brainforge_edge.cli.export",
        "Write closed recordings as BDF, EDF, FIF, CSV, Parquet, BrainVision, XDF, SNIRF or a BIDS dataset, or copy one to a medium.",
    ),
    "retention": (
        "brainforge_edge.cli.retention",
        "Show what may be freed, and why the rest waits.",
    ),
    "release": ("brainforge_edge.cli.release", "Free a recording that was copied to a medium."),
    "emulate": ("brainforge_edge.cli.emulate", "Emulate a device on a port, or a stream."),
    "keys": ("brainforge_edge.cli.keys", "Make keys, show and change who can open recordings."),
    "erase": (
        "brainforge_edge.cli.erase.verb",
        "Order that a participant is erased, sign the order, carry it out.",
    ),
    "enrol": (
        "brainforge_edge.cli.enrol",
        "Get this box a certificate of its site, and renew it.",
    ),
    "logins": ("brainforge_edge.cli.logins", "Make logins for the bedside page."),
    "cloud": ("brainforge_edge.cli.cloud", "Run the aggregator."),
    "config": ("brainforge_edge.cli.config", "Check a configuration."),
    "demo": (
        "brainforge_edge.cli.demo.verb",
        "Run box, devices, broker and aggregator; account for all.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its verbs' names and help, and imports a verb when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="brainforge-edge")
def cli() -> None:
    """Bedside recorder for neural sensors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; every expected error is one sentence on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments, as_json=wants_json(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing more can be said there.
        _let_go(sys.stdout)
        return int(ExitStatus.FAILED)
    except OSError as error:
        if not _is_of_output(error):
            raise
        _let_go(sys.stdout)
        lost = _lost_output(error)
        try:
            report_error(lost, as_json=False)
        except OSError:  # stderr leads there, too
            _let_go(sys.stderr)
        return int(lost.exit_status)
    return status


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        result = cli.main(arguments, prog_name="brainforge-edge", standalone_mode=False)
    except BrainforgeError as error:
        report_error(error, as_json=as_json)
        return int(error.exit_status)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return int(ExitStatus.USAGE)
    except click.ClickException as error:
        report_error(_usage_error(error), as_json=as_json)
        return int(ExitStatus.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "brainforge_edge":
            raise
        report_error(_missing_package(error.name or "?"), as_json=as_json)
        return int(ExitStatus.CONFIG)
    except OSError as error:
        if error.filename is None or _is_of_output(error):
            raise
        failed = _failed_file(error)
        report_error(failed, as_json=as_json)
        return int(failed.exit_status)
    return result if isinstance(result, int) else int(ExitStatus.OK)


def _is_of_output(error: OSError) -> bool:
    """Such an error tells no file: it is known by who raised it. All output is click's or rich's."""
    raised_in = [frame.f_globals for frame, _ in walk_tb(error.__traceback__)][-1]
    package = str(raised_in.get("__name__")).partition(".")[0]
    is_output = package in {"click", "rich"} or raised_in is globals()  # the flush in `main`
    return is_output and error.filename is None


def _let_go(stream: TextIO) -> None:
    """What is left in the stream goes nowhere, and does not fail once more at the end of Python."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _lost_output(error: OSError) -> StorageError:
    return StorageError(
        "output",
        "what the command had to say could not be written",
        why=str(error.strerror or error).lower(),
        remedy="Make room where its output leads, or lead it elsewhere",
    )


def _failed_file(error: OSError) -> StorageError:
    """Of a look at a path that was given, say in a folder that this user may not enter."""
    from brainforge_edge.storage.files import failed_to  # noqa: PLC0415 - --help stays light

    failed = failed_to("look at", Path(os.fsdecode(error.filename)), error)
    if isinstance(error, PermissionError):
        failed.remedy = "Run it as a user who may enter that folder: the daemon's, or root"
    return failed


def _usage_error(error: click.ClickException) -> BrainforgeError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context is not None else "brainforge-edge"
    return BrainforgeError(
        "usage",
        "the command line is wrong",
        why=" ".join(error.format_message().split()).rstrip("."),
        remedy=f"`{command} --help` lists what it takes",
    )


def _missing_package(name: str) -> ConfigError:
    return ConfigError(
        "missing_package",
        "this verb cannot run here",
        why=f"the package {name!r} is not installed",
        remedy="Install the extra that holds it (edge, cloud, export or demo; "
        "brainforge_edge/docs/dependencies.md tells)",
        package=name,
    )


if __name__ == "__main__":
    sys.exit(main())
