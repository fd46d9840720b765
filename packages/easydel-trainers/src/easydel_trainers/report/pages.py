"""Templates to pages; other packages may add folders of templates that extend `page.html.jinja`."""

from __future__ import annotations

from functools import cache

import jinja2
from easydata_sources.safe_text import without_secrets


def render(template: str, *, package: str = "easydel_trainers.report", **values: object) -> str:
    """Fills in a template; every value is escaped unless it is markup already, and secrets are hidden.

    Args:
        template: its file name.
        package: where that file is; `page.html.jinja` is always found.
        values: what the template names.
    """
    return without_secrets(_environment(package).get_template(template).render(values))


@cache
def _environment(package: str) -> jinja2.Environment:
    packages = dict.fromkeys((package, "easydel_trainers.report"))
    loaders = [jinja2.PackageLoader(name, package_path="") for name in packages]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
