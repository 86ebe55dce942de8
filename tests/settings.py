"""Settings for tests: the section `detect` of params.yaml with some values changed."""

from pathlib import Path
from typing import Any

from stages.core.params import load_params
from stages.core.sections import Detect, Scale

DEFAULTS = load_params(Path(__file__).parents[1] / "params.yaml").detect
NATIVE = Scale(upscale=False, short_side=1024, long_side=1980)


def detect_settings(scale: Scale = NATIVE, **changes: Any) -> Detect:
    """The section with these values, which are not validated."""
    changes = {"detector": "mobilenet0.25", "score_threshold": 0.9} | changes
    return DEFAULTS.model_copy(update={"scale": scale, **changes})


def changed(settings: Detect, **changes: Any) -> Detect:
    """A copy with other values, which are not validated."""
    return settings.model_copy(update=changes)


def limits(file_bytes: int, archive_bytes: int, members: int) -> Detect:
    """The section with these limits of an archive."""
    return detect_settings(
        max_file_bytes=file_bytes, max_archive_bytes=archive_bytes, max_members=members
    )
