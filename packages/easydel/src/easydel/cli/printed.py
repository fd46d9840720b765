"""A config as the YAML file that would give it again."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from easydata_sources.shown import without_secrets

RUN_FILE = "run.yaml"


def config_as_yaml(config: Any) -> str:
    """Write every field of a config dataclass, nested ones as sections, in the order they are declared.

    Passwords and signatures of addresses are left out: whoever goes on with the run gives them again.
    """
    text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
    return without_secrets(text)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
