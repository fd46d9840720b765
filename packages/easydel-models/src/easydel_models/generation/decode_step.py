"""One token through the decoder: the layers, one after the other, over a `slot_cache`.

Axes: B rows, V vocabulary.
"""

import dataclasses

from jaxtyping import Array, Float, Int

from easydel_models.config import DecoderConfig
from easydel_models.decoder import embedded_tokens, finished, ropes_of
from easydel_models.generation.slot_cache import Store
from easydel_models.generation.weights import DecodeWeights
from easydel_models.layers.layer import OWN_INPUT, Mix, layer_forward
from easydel_models.layers.linear import Layer
from easydel_models.layers.mixer import Mixer
from easydel_models.layers.tokens import Memory, Step, Tokens
from easydel_models.lm_loss.chunks import softcapped
from easydel_models.mesh.parallel import ONE_DEVICE


def decode_step(
    config: DecoderConfig,
    weights: DecodeWeights,
    tokens: Int[Array, " B"],
    store: Store,
    recent: Store,
    *,
    lengths: Int[Array, " B"],
    step: Int[Array, ""],
) -> tuple[Float[Array, "B V"], Store]:
    """Returns the float32 logits after ``tokens``, and ``recent`` with them entered.

    Args:
        config: The decoder's switches.
        weights: Its weights.
        tokens: The newest token of each row, in neither store yet.
        store: What was settled before this block; only read.
        recent: The tokens of this block's steps so far.
        lengths: How many slots of ``store`` each row uses.
        step: Which step of the block this is, from 0.
    """
    positions = (lengths + step)[:, None]
    x, own_inputs = embedded_tokens(config, weights.others, tokens[:, None], positions, weights.head.dtype)
    ropes = ropes_of(config, positions)
    where = Tokens(positions=positions, segment_ids=None, ropes=ropes, norm=config.norm, exchange=ONE_DEVICE)
    memories: list[Memory] = []
    shared: dict[str, tuple[Memory, Memory]] = {}
    layers = zip(config.all_layers, weights.layers, store.layers, recent.layers, strict=True)
    for number, (kind, kernels, settled, own) in enumerate(layers):
        now = Step(tokens=where, lengths=lengths, number=step, shared=dict(shared))
        layer = kernels if own_inputs is None else kernels | {OWN_INPUT: own_inputs[:, :, number]}
        x, memory, _ = layer_forward(kind, layer, x, where, _stepping(kind.mixer, layer, settled, own, now))
        memories.append(memory)
        if kind.mixer.publishes is not None:
            shared[kind.mixer.publishes] = settled, memory
    hidden = finished(config, weights.others, x)[:, 0]
    logits = weights.logits(hidden)
    return softcapped(logits, config.logit_softcap), dataclasses.replace(recent, layers=tuple(memories))


def _stepping(mixer: Mixer, layer: Layer, settled: Memory, recent: Memory, now: Step) -> Mix:
    return lambda inner: mixer.step(layer, inner, settled, recent, now)
