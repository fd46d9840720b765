"""The one error of this package: a mixture that cannot mean what was asked for."""

from __future__ import annotations


class MixtureError(ValueError):
    """Weights, a schedule, an edit or a saved state that does not fit the mixture.

    Every message says what was given, what was expected, and one way to mend it.
    """
