"""A product that is wrong in one place: a function's text is changed, in this process, for a while."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

Edit = tuple[Callable[..., Any], str, str]  # function, text in it, what stands there instead


@contextmanager
def edited_all(edits: Sequence[Edit]) -> Iterator[None]:
    """All of them; those of one function together."""
    with ExitStack() as stack:
        for function in dict.fromkeys(function for function, _, _ in edits):
            stack.enter_context(
                _edited(function, [edit[1:] for edit in edits if edit[0] is function])
            )
        yield


@contextmanager
def _edited(function: Callable[..., Any], texts: Sequence[tuple[str, str]]) -> Iterator[None]:
    """The function's own code is replaced, so that whoever imported it runs the other one."""
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in texts:
        if source.count(old) != 1:
            raise ValueError(f"{function.__qualname__} does not say {old!r} once any more")
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(source, "<mutant>", "exec"), function.__globals__, names)
    whole = function.__code__
    function.__code__ = names[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = whole
