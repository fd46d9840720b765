"""Which layers look through a window: `layer_types` of transformers 5, or what transformers 4 had in its place."""

from collections.abc import Callable

from easydel_models.errors import ConfigError
from easydel_models.families.keys import Keys
from easydel_models.safe_text import quoted

FULL, SLIDING = "full_attention", "sliding_attention"
_MOST_LAYERS = 2**12


def layer_count(keys: Keys) -> int:
    """Returns the number of layers.

    Raises:
        ConfigError: If it is none that a decoder can have.
    """
    (count,) = keys.sizes("num_hidden_layers")
    if not 1 <= count <= _MOST_LAYERS:
        raise ConfigError(f"`num_layers` is {quoted(count)}; expected a whole number from 1 to {_MOST_LAYERS:,}.")
    return count


def layer_types(keys: Keys, otherwise: Callable[[int], str], known: tuple[str, ...] = (FULL, SLIDING)) -> list[str]:
    """Returns the type of each layer.

    Args:
        keys: Of config.json.
        otherwise: From a layer's number to its type, where the file has no list.
        known: Types that the family has.

    Raises:
        ConfigError: If the list has another length than the decoder, or a type that is not known.
    """
    count, given = layer_count(keys), keys("layer_types")
    if given is None:
        return [otherwise(number) for number in range(count)]
    if not isinstance(given, list) or len(given) != count or any(one not in known for one in given):
        raise ConfigError(
            f"`layer_types` is {quoted(given)}; expected a list of num_hidden_layers={count} words out of "
            f"{', '.join(known)}."
        )
    return given


def every(pattern: int) -> Callable[[int], str]:
    """Returns the rule by which each ``pattern``-th layer sees everything, and those between look through a window."""
    return lambda number: SLIDING if (number + 1) % pattern else FULL
