"""The verb `features` where there is nobody who could answer it."""

import asyncio

import pytest

from brainforge_edge.core.errors import BrainforgeError, SessionError
from brainforge_edge.daemon.commands import Commands


def test_a_box_without_a_pipeline_says_so() -> None:
    commands = Commands(workers=tuple, recording=lambda: "")
    with pytest.raises(SessionError, match="the pipeline is switched off"):
        asyncio.run(commands.verb_features({}))


@pytest.mark.parametrize("wrong", [{"stream": 5}, {"first": -1}, {"n": 1000}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    commands = Commands(workers=tuple, recording=lambda: "")
    with pytest.raises(BrainforgeError):
        asyncio.run(commands.verb_features(wrong))
