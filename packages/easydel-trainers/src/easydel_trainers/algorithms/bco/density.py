"""Underlying distribution matching: how much likelier a prompt is among desirable rows than among undesirable ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np

from easydel_trainers.errors import ConfigError, TrainerError

Embed = Callable[[list[str]], Any]
Rows = Sequence[Mapping[str, Any]]
_EMBEDDED_AT_ONCE = 256


@final
class PromptDensity:
    r"""A logistic regression that tells prompts of desirable rows from those of undesirable ones.

    An undesirable row's weight is the density ratio $w = p/(1-p)$, within bounds, where p is the probability that its
    prompt is one of a desirable row; both classes count the same. Jung et al. 2024, https://arxiv.org/abs/2404.04656,
    section 3.3.

    Args:
        embed: from texts to embeddings `[texts, dim]`.
        texts: from rows to their prompts as texts.
        bounds: smallest and largest weight.
        seed: of the regression.
    """

    def __init__(self, embed: Embed, texts: Callable[[Rows], list[str]], *, bounds: tuple[float, float], seed: int):
        self._embed, self._texts, self._bounds, self._seed = embed, texts, bounds, seed
        self._classifier: Any = None

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return self._classifier is not None

    def fit(self, rows: Iterable[Mapping[str, Any]], *, per_class: int) -> None:
        """Fit the regression to the first rows of each class.

        Args:
            rows: in training order, which is shuffled; read until there are enough, or to their end.
            per_class: most rows of each class.

        Raises:
            TrainerError: if scikit-learn is not installed, or all rows are of one class.
        """
        classes: dict[bool, list[Mapping[str, Any]]] = {True: [], False: []}
        for row in rows:
            of_class = classes[bool(row["label"])]
            if len(of_class) < per_class:
                of_class.append(row)
            if all(len(members) >= per_class for members in classes.values()):
                break
        if not all(classes.values()):
            raise TrainerError(
                f"Underlying distribution matching compares prompts of desirable and undesirable rows; found "
                f"{len(classes[True])} desirable and {len(classes[False])} undesirable ones. Leave embedding_func out."
            )
        members = [*classes[True], *classes[False]]
        labels = [True] * len(classes[True]) + [False] * len(classes[False])
        classifier = _logistic_regression(self._seed)
        self._classifier = classifier.fit(self._embeddings(members), labels)

    def weights(self, rows: Rows) -> np.ndarray:
        """Returns the weight of every row, float32; 1 where the row is desirable."""
        probability = self._classifier.predict_proba(self._embeddings(rows))[:, 1]
        ratio = np.clip(probability / (1 - probability + 1e-8), *self._bounds)
        return np.where([bool(row["label"]) for row in rows], 1.0, ratio).astype(np.float32)

    def _embeddings(self, rows: Rows) -> np.ndarray:
        texts = self._texts(rows)
        starts = range(0, len(texts), _EMBEDDED_AT_ONCE)
        parts = [np.asarray(self._embed(texts[start : start + _EMBEDDED_AT_ONCE]), np.float64) for start in starts]
        embeddings = np.concatenate(parts)
        if embeddings.ndim != 2 or len(embeddings) != len(texts):
            raise ConfigError(
                "embedding_func",
                f"a function that made an array {list(embeddings.shape)} of {len(texts)} prompts",
                "one that makes [prompts, dim]: a vector of equal length for each text",
            )
        return embeddings


def _logistic_regression(seed: int) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingImports] - an extra
    except ImportError as error:
        raise TrainerError(
            "Underlying distribution matching (embedding_func) needs scikit-learn, which is not installed: "
            'pip install "easydel-trainers[udm]"'
        ) from error
    return LogisticRegression(class_weight="balanced", random_state=seed, max_iter=1000)
