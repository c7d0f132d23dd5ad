"""Each family of errors has a status of HTTP, and what to do is never lost."""

import pytest

from brainforge_edge.core.errors import FAMILIES
from brainforge_edge.web.problem import of_error


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_a_status_that_names_whose_fault_it_is(family: str) -> None:
    error = FAMILIES[family]("some_reason", "it failed", why="of that", remedy="Do this")
    said = of_error(error)
    assert 400 <= said.status < 600
    assert said.status != 500
    assert (said.code, said.title, said.detail, said.fix) == (
        f"{family}.some_reason",
        "it failed",
        "of that",
        "Do this",
    )
    assert said.type.endswith(said.code)
