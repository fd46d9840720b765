"""The one protocol that every tracker speaks, and how they are found by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from easydel_trainers.errors import ConfigError

_LOG = logging.getLogger(__name__)

#: name in `report_to` -> what to import before it can work
_LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio"}


class Tracker(Protocol):
    """Takes a run's records somewhere. A record is plain numbers by name, with `step` among them."""

    def log(self, record: Mapping[str, float]) -> None:
        """Takes one record of a training log or an evaluation."""
        ...

    def log_texts(self, name: str, texts: Mapping[str, str], *, step: int) -> None:
        """Takes texts by their titles, such as answers by their prompts."""
        ...

    def close(self) -> None:
        """Sends what is still waiting."""
        ...


def open_trackers(
    names: Sequence[str], *, folder: Path, run_name: str, config: Mapping[str, Any], done: int, resources: ExitStack
) -> list[Tracker]:
    """Returns one tracker for each name, closed with `resources`.

    One that cannot be opened, or closed, is told of and left out: it is a service of others, and no reason to lose a
    run.

    Args:
        names: of `report_to`.
        folder: the run's folder; trackers that write files write below it.
        run_name: how the run is called there.
        config: plain values to show beside the run.
        done: steps that the run has taken before; 0 = it begins.
        resources: close the trackers when they close.

    Raises:
        ConfigError: naming the extra to install, if a tracker's library is missing.
    """
    trackers: list[Tracker] = []
    for name in names:
        _require_library(name)
        module = import_module(f"easydel_trainers.trackers.{name}_tracker")
        try:
            tracker: Tracker = module.open_tracker(folder=folder, run_name=run_name, config=config, done=done)
        except Exception as error:  # noqa: BLE001 - of any service's client: told, and the run goes on without it
            _LOG.error("%s could not be opened and gets no records: %r", name, error)
            continue
        resources.callback(_close, name, tracker)
        trackers.append(tracker)
    return trackers


def _close(name: str, tracker: Tracker) -> None:
    try:
        tracker.close()
    except Exception as error:  # noqa: BLE001 - of any service's client: told; what was trained is saved all the same
        _LOG.error("%s failed to close, and may lack the last records: %r", name, error)


def _require_library(name: str) -> None:
    try:
        import_module(_LIBRARIES[name])
    except ModuleNotFoundError as error:
        if error.name != _LIBRARIES[name]:
            raise
        raise ConfigError(
            "report_to", name, f"the library {_LIBRARIES[name]} (pip install 'easydel-trainers[{name}]')"
        ) from None
