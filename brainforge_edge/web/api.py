"""Routes of the API: each is one verb of the control socket. Runs in: web process, its asyncio loop.

Litestar's door. Nothing is kept here: what a verb did is the daemon's to know.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License

from brainforge_edge.core import log
from brainforge_edge.core.errors import BrainforgeError
from brainforge_edge.web import metrics
from brainforge_edge.web.daemon import LONG_S, Daemon, given, start_session
from brainforge_edge.web.problem import MEDIA_TYPE, Problem, of_error, problem
from brainforge_edge.web.requests import Marker, Record, Scan, Status, Step
from brainforge_edge.web.watch import Watch

MOST_BYTES: Final = 64 * 1024

TheDaemon = NamedDependency[Daemon]
TheWatch = NamedDependency[Watch]
AnyRequest = Request[Any, Any, Any]

_log = log.get(part="web")


@get("/status")
async def status(watch: TheWatch) -> Status:
    """What the box does, as the daemon said it at most half a second ago."""
    await watch.first.wait()
    return status_of(watch)


def status_of(watch: Watch) -> Status:
    """What is known now, for the API and for those who watch."""
    seen = watch.seen
    return Status(
        age_ms=round(seen.age_s * 1000),
        verdict=seen.recorded.verdict.value,
        devices=seen.recorded.devices,
        status=seen.status,
        error=seen.error.as_dict() if seen.error is not None else None,
    )


@get("/devices")
async def devices(daemon: TheDaemon) -> dict[str, Any]:
    """Configured and known devices, with how they stand."""
    return await daemon.ask("devices")


@get("/features")
async def features(
    daemon: TheDaemon, stream: str = "", first: int | None = None, n: int | None = None
) -> dict[str, Any]:
    """The newest features of `stream`, of `n` channels from `first` on; of all a line each without one."""
    asked: dict[str, Any] = {"stream": stream, "first": first, "n": n}
    return await daemon.ask("features", **{k: v for k, v in asked.items() if v is not None})


@post("/record", status_code=200)
async def record(data: Record, daemon: TheDaemon) -> dict[str, Any]:
    """Start a recording; which devices write at once and which are waited for."""
    return await daemon.ask("record", timeout_s=LONG_S, **given(data))


@post("/stop", status_code=200)
async def stop(daemon: TheDaemon) -> dict[str, Any]:
    """End the recording; answers when every row of it is archived."""
    return await daemon.ask("stop", timeout_s=LONG_S)


@post("/markers", status_code=200)
async def markers(data: Marker, daemon: TheDaemon) -> dict[str, Any]:
    """Set a marker now; answers when it is on the disk."""
    return await daemon.ask("mark", timeout_s=LONG_S, **given(data))


@post(["/scan/start", "/sessions"], status_code=200)
async def scan(data: Scan, daemon: TheDaemon) -> dict[str, Any]:
    """Start a session."""
    return await start_session(daemon, data)


@get("/sessions")
async def session(daemon: TheDaemon) -> dict[str, Any]:
    """The session that is under way."""
    return await daemon.ask("session", do="status")


@post("/sessions/{step:str}", status_code=200)
async def session_step(step: Step, data: dict[str, Any], daemon: TheDaemon) -> dict[str, Any]:
    """One step of a session; the body holds what the step needs."""
    is_urgent = step is Step.EMERGENCY_STOP
    return await daemon.ask("session", data, timeout_s=LONG_S, is_urgent=is_urgent, do=step.value)


@get("/metrics", media_type="text/plain; version=0.0.4")
async def prometheus(watch: TheWatch) -> str:
    """The figures of `status` for Prometheus."""
    await watch.first.wait()
    return metrics.text(watch.seen)


def make_app(daemon: Daemon, watch: Watch, more: Sequence[BaseRouteHandler] = ()) -> Litestar:
    """The API and `more`: the page, and what it listens to."""
    return Litestar(
        [
            status,
            devices,
            features,
            record,
            stop,
            markers,
            scan,
            session,
            session_step,
            prometheus,
            *more,
        ],
        dependencies={
            "daemon": Provide(lambda: daemon, sync_to_thread=False),
            "watch": Provide(lambda: watch, sync_to_thread=False),
        },
        exception_handlers={
            BrainforgeError: _refused,
            HTTPException: _not_understood,
            UnicodeDecodeError: _not_text,
            RecursionError: _not_text,
            Exception: _failed,
        },
        openapi_config=OpenAPIConfig(
            title="brainforge-edge",
            version="1",
            description="A box that records brain signals. Errors are RFC 9457 problems with "
            "`code`, `detail` (why) and `fix` (what to do).",
            license=License(name="Apache-2.0", identifier="Apache-2.0"),
            path="/openapi.json",
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
        request_max_body_size=MOST_BYTES,
        logging_config=None,
    )


def _answer(said: Problem) -> Response[bytes]:
    return Response(msgspec.json.encode(said), status_code=said.status, media_type=MEDIA_TYPE)


def _refused(_: AnyRequest, error: BrainforgeError) -> Response[bytes]:
    return _answer(of_error(error))


_TITLES: Final = {
    400: ("malformed", "the request was not understood", "Send one JSON object as /openapi.json has it"),
    404: ("no_such_path", "there is nothing at this path", "Look the path up in /openapi.json"),
    405: ("wrong_method", "this path does not take that method", "Look it up in /openapi.json"),
    413: ("too_large", "the request was refused", f"Send at most {MOST_BYTES} bytes"),
}  # fmt: skip


def _not_understood(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    code, title, fix = _TITLES.get(error.status_code, _TITLES[400])
    detail = error.detail
    if isinstance(error, ValidationException) and error.extra:
        code = "invalid"
        found = [f"{each.get('key')}: {each.get('message')}" for each in error.extra]  # type: ignore[union-attr]
        detail = "; ".join(found)
    elif error.status_code != 400:
        detail = f"{request.method} {request.url.path}"
    status_code = error.status_code if error.status_code in _TITLES else 400
    return _answer(problem(status_code, f"web.{code}", title, detail=detail, fix=fix))


def _not_text(_: AnyRequest, error: Exception) -> Response[bytes]:
    code, title, fix = _TITLES[400]
    return _answer(problem(400, f"web.{code}", title, detail=f"it is no JSON ({error})", fix=fix))


def _failed(request: AnyRequest, error: Exception) -> Response[bytes]:
    """A mistake of ours: it is logged whole, and the caller learns no more than that."""
    _log.error("request failed", path=request.url.path, exc_info=error)
    return _answer(
        problem(
            500,
            "web.failed",
            "the request could not be answered",
            detail="the page's process made a mistake; its log has it",
            fix="Recording is not touched by it. Try again, and report it if it happens again",
        )
    )
