"""All targets by name."""

from tests.fuzz import (
    disk_targets,
    enrolment_targets,
    frame_targets,
    headset_targets,
    model_targets,
    mqtt_targets,
    order_targets,
    word_targets,
)
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for part in (
        frame_targets,
        headset_targets,
        model_targets,
        word_targets,
        disk_targets,
        mqtt_targets,
        enrolment_targets,
        order_targets,
    )
    for target in part.TARGETS
}
