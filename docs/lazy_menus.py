"""Shows griffe what the lazy packages offer: the names that their stubs import under their own names."""

from __future__ import annotations

from typing import Any

import griffe


class LazyMenus(griffe.Extension):
    """Treats `from home import name as name` in a package's stub as the stub's readers do: as public."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        del kwargs
        for module in (pkg, *pkg.modules.values()):
            if "_lazy_menu" in module.members:
                imported = (name for name, member in module.members.items() if member.is_alias)
                module.exports = sorted(name for name in imported if not name.startswith("_"))
