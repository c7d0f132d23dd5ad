"""The page's own files. Runs in: web process. Only what is named in its folder is ever answered."""

from importlib.resources import files
from typing import Final

from litestar import Response, get
from litestar.exceptions import NotFoundException

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
# Read once: a request names a key of this, never a path.
FILES: Final = {
    file.name: file.read_bytes()
    for file in files("brainforge_edge.web").joinpath("static").iterdir()
}


@get("/", include_in_schema=False)
async def index() -> Response[bytes]:
    """The page."""
    return _file("index.html")


@get("/static/{name:str}", include_in_schema=False)
async def static(name: str) -> Response[bytes]:
    """One of its files."""
    return _file(name)


def _file(name: str) -> Response[bytes]:
    if name not in FILES:
        raise NotFoundException
    return Response(FILES[name], media_type=_TYPES[name.rpartition(".")[2]])
