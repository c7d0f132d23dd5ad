"""systemd's door: READY, WATCHDOG and STATUS through sdnotify; silent outside systemd.

Runs in: supervisor.
"""

import os

import sdnotify


class Service:
    """Tells systemd how we are; does nothing where NOTIFY_SOCKET is not set."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    @property
    def watchdog_s(self) -> float | None:
        """Half of systemd's limit, None where there is none."""
        limit = os.environ.get("WATCHDOG_USEC")
        return int(limit) / 2e6 if limit and self._notifier else None

    def _notify(self, text: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(text)

    def ready(self) -> None:
        self._notify("READY=1")

    def alive(self, status: str) -> None:
        """Called from the supervisor's own loop and from nowhere else."""
        self._notify(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._notify("STOPPING=1")
