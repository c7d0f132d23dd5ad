"""Names of channels as one readable line each, all different. Pure. Runs in: `brainforge-edge export`."""

from collections.abc import Iterable


def one_line(text: str) -> str:
    """Without breaks, tabs, NUL and other characters that nobody sees; blanks single."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def numbered(names: Iterable[str], most: int | None = None, taken: Iterable[str] = ()) -> list[str]:
    """`names`, cut to `most` characters; with their number before them where two would be the same, or
    one is empty or `taken`."""
    plain = [name[:most].rstrip() for name in names]
    if len({*plain} - {"", *taken}) == len(plain):
        return plain
    return [f"{k} {name}"[:most].rstrip() for k, name in enumerate(plain)]
