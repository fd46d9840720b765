"""Models: the decoder with a head that predicts tokens, and with one that scores rows.

Both hold their parameters as `flax.nnx` state under the same names that `easydel_models.parameters` lists,
and compute through the pure functions of `easydel_models.decoder`.

Axis letters: B batch, T tokens, D dim, V vocabulary, C labels.
"""

import abc
import os
import zlib
from dataclasses import replace
from typing import Any, TypeVar, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.merged import merged_params
from easydel_models.attention import Implementation
from easydel_models.config import DecoderConfig
from easydel_models.cpu_bfloat16 import compute_dtype
from easydel_models.decoder import Decoded, Remat, decode, read_prompts
from easydel_models.dtypes import resolve_dtype
from easydel_models.embedding_noise import EmbeddingNoise
from easydel_models.errors import ConfigError
from easydel_models.generation.model_engine import generate
from easydel_models.layers.linear import DROPOUT, LORA_B, LoraDropout
from easydel_models.layers.stacks import stacks
from easydel_models.layers.tokens import Memory
from easydel_models.lm_loss import LinearHead
from easydel_models.lm_loss.chunks import softcapped
from easydel_models.mesh.sharding import init_shardings, one_writer
from easydel_models.parameters import Params, init_params, joined_stacks, layer_stacks, split_params, update_params

Model = TypeVar("Model", bound="DecoderModel")
Mask = Int[Array, "B T"] | Bool[Array, "B T"]


class DecoderModel(nnx.Module):
    """What both models share: a configuration, a compute dtype, parameters, hidden states. Abstract."""

    config: DecoderConfig
    dtype: Any
    """What it was asked to compute in."""
    compute_dtype: Any
    """What it computes in: `dtype`, but float32 where that is bfloat16 and this CPU has no instructions for it."""
    lora: LoraConfig | None

    @abc.abstractmethod
    def __call__(self, input_ids: Int[Array, "B T"]) -> Float[Array, "..."]:
        """Returns what the model says of rows of tokens; models take more, by keyword."""

    def __init__(
        self, config: DecoderConfig, params: Params, *, dtype: DTypeLike | None = None, lora: LoraConfig | None = None
    ):
        """Wraps parameters.

        Args:
            config: Sizes and switches.
            params: One array for every path of `easydel_models.parameters.parameter_specs`, and adapters.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            lora: What the adapters among `params` are; None = there are none.
        """
        self.config = config
        self.lora = lora
        self._compute_in(resolve_dtype(dtype))
        self.embedding = nnx.Param(params["embedding"])
        self.layers = _param_dict(params["layers"])
        for name in params.keys() - {"embedding", "layers", "head", "score"}:
            setattr(self, name, nnx.Param(params[name]))

    @classmethod
    def from_config(
        cls: type[Model],
        config: DecoderConfig,
        *,
        seed: int = 0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = "float32",
        mesh: Mesh | None = None,
    ) -> Model:
        """Builds a model with fresh random parameters.

        Args:
            config: Sizes and switches.
            seed: Of the parameters.
            dtype: Compute dtype; None = float32 on CPU, bfloat16 on accelerators.
            param_dtype: What the parameters are kept in.
            mesh: Devices to lay the parameters over; None = one device.
        """
        shardings = None if mesh is None else init_shardings(config, mesh)
        params = init_params(config, seed=seed, dtype=resolve_dtype(param_dtype), shardings=shardings)
        return cls(config, params, dtype=dtype)

    def hidden(
        self,
        input_ids: Int[Array, "B T"],
        *,
        positions: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        prefix_ids: Int[Array, "B T"] | None = None,
        longest_segment: int | None = None,
        remat: Remat = "none",
        dropout_key: Array | None = None,
        neftune_alpha: float | None = None,
        implementation: Implementation = "auto",
    ) -> Float[Array, "B T D"]:
        """Returns the hidden states after the final norm, in the compute dtype: what the head is applied to.

        Args:
            input_ids: Tokens.
            positions: For rope. None = restart in every segment, which suits padding on either side.
            segment_ids: 0 = padding, 1 and up = document. None = every token is real.
            prefix_ids: Document before a token's own that it sees too, such as a prompt that several answers continue;
                0 = none. Needs `positions`.
            longest_segment: Most tokens of any document, if known; keeps attention cheap in rows of many documents.
            remat: What training recomputes in its backward pass: ``none``, ``dots`` or ``full``.
            dropout_key: Random key of this training pass, by which adapters leave out inputs and embeddings get noise;
                None = neither.
            neftune_alpha: Size of that noise; None = none.
            implementation: Of attention.

        Raises:
            ValueError: If prefixes come without positions or with noise.
        """
        return self.decoded(
            input_ids,
            positions=positions,
            segment_ids=segment_ids,
            prefix_ids=prefix_ids,
            longest_segment=longest_segment,
            remat=remat,
            dropout_key=dropout_key,
            neftune_alpha=neftune_alpha,
            implementation=implementation,
        ).hidden

    def decoded(
        self,
        input_ids: Int[Array, "B T"],
        *,
        positions: Int[Array, "B T"] | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        prefix_ids: Int[Array, "B T"] | None = None,
        longest_segment: int | None = None,
        remat: Remat = "none",
        dropout_key: Array | None = None,
        neftune_alpha: float | None = None,
        implementation: Implementation = "auto",
    ) -> Decoded:
        """Returns the hidden states together with how experts were chosen; arguments as of `hidden`."""
        return decode(
            self.config,
            self._decoder_params(dropout_key),
            input_ids,
            dtype=self.compute_dtype,
            positions=positions,
            segment_ids=segment_ids,
            prefix_ids=prefix_ids,
            longest_segment=longest_segment,
            remat=remat,
            implementation=implementation,
            noise=_noise(dropout_key, neftune_alpha),
        )

    def cast(self, *, dtype: DTypeLike | None = None, param_dtype: DTypeLike | None = None) -> None:
        """Changes the compute dtype, and what the parameters are kept in; None = as they are."""
        if dtype is not None:
            self._compute_in(resolve_dtype(dtype))
        if param_dtype is not None:
            _, params = split_params(self)
            update_params(self, jax.tree.map(lambda leaf: leaf.astype(param_dtype), params))

    def name_tokens(
        self,
        *,
        bos_token_id: int | None = None,
        pad_token_id: int | None = None,
        eos_token_ids: tuple[int, ...] | None = None,
    ) -> None:
        """Says which tokens are special, as a tokenizer knows them; they are saved with the model. None = as it is."""
        named = {"bos_token_id": bos_token_id, "pad_token_id": pad_token_id, "eos_token_ids": eos_token_ids}
        self.config = replace(self.config, **{name: token for name, token in named.items() if token is not None})

    def memories(self, input_ids: Int[Array, "B T"], *, segment_ids: Int[Array, "B T"]) -> tuple[Memory, ...]:
        """Returns what each layer keeps of prompts; see `easydel_models.decoder.read_prompts`."""
        params, dtype = self._decoder_params(), self.compute_dtype
        return read_prompts(self.config, params, input_ids, dtype=dtype, segment_ids=segment_ids)

    def save_pretrained(self, path: str | os.PathLike[str], *, max_shard_size: int = 5_000_000_000) -> None:
        """Writes a Hugging Face folder that `transformers` loads; see `easydel_models.files.folder.save_folder`.

        With several processes all must call it; process 0 writes.
        Adapters are merged into the kernels; `save_adapter` writes them by themselves.
        """
        from easydel_models.files.folder import save_folder
        from easydel_models.files.weights import take_part

        params = split_params(self)[1]
        params = params if self.lora is None else merged_params(params, self.lora)
        with one_writer() as writes:
            if writes:
                save_folder(path, self.config, params, max_shard_size=max_shard_size)
            else:
                take_part(params, self.config)

    def _compute_in(self, dtype: np.dtype) -> None:
        self.dtype, self.compute_dtype = dtype, compute_dtype(dtype)

    def _decoder_params(self, dropout_key: Array | None = None) -> Params:
        params = {name: value for name, value in split_params(self)[1].items() if name not in ("head", "score")}
        if self.lora is not None:
            branches = layer_stacks(self.config, params["layers"])
            keys = None
            if dropout_key is not None and self.lora.dropout > 0:
                keys = jax.random.split(dropout_key, self.config.num_layers)
            numbered = zip(stacks(self.config.all_layers), branches, strict=True)
            own = [_with_adapters_ready(self.lora, branch, stack.numbers, keys) for stack, branch in numbered]
            params = {**params, "layers": joined_stacks(own)}
        return params


def _noise(dropout_key: Array | None, alpha: float | None) -> EmbeddingNoise | None:
    if dropout_key is None or alpha is None:
        return None
    # A stream of its own, apart from those of the layers.
    return EmbeddingNoise(jax.random.fold_in(dropout_key, zlib.crc32(b"embedding")), alpha)


def _with_adapters_ready(lora: LoraConfig, branch: Params, numbers: tuple[int, ...], keys: Array | None) -> Params:
    # Scaled here, once: (x A) (scale B) is what an adapter adds.
    ready = branch | {name: lora.scale * array for name, array in branch.items() if name.endswith(LORA_B)}
    if keys is not None:
        own = keys[jnp.asarray(numbers)] if len(numbers) < keys.shape[0] else keys
        ready[DROPOUT] = LoraDropout(own, jnp.full(len(numbers), lora.dropout, jnp.float32))
    return ready


def _param_dict(params: Params) -> Any:
    return nnx.Dict(
        {name: _param_dict(value) if isinstance(value, dict) else nnx.Param(value) for name, value in params.items()}
    )


@final
class CausalLM(DecoderModel):
    """Predicts the next token. Final."""

    def __init__(
        self, config: DecoderConfig, params: Params, *, dtype: DTypeLike | None = None, lora: LoraConfig | None = None
    ):
        """Wraps parameters; see `DecoderModel`.

        Raises:
            ConfigError: If the configuration asks for a classification head.
        """
        if config.num_labels is not None:
            raise ConfigError(f"`num_labels` is {config.num_labels}; a CausalLM has none: use a SequenceClassifier.")
        super().__init__(config, params, dtype=dtype, lora=lora)
        if not config.tie_embeddings:
            self.head = nnx.Param(params["head"])

    def head_weights(self) -> Float[Array, "V D"]:
        """Returns the matrix W that turns hidden states into logits, ``hidden @ W.T``: the embedding, where tied."""
        return self.embedding[...] if self.config.tie_embeddings else self.head[...]

    def linear_head(self) -> LinearHead:
        """Returns what losses take: the matrix of `head_weights` with the bound on its logits."""
        return LinearHead(self.head_weights(), self.config.logit_softcap)

    def __call__(
        self,
        input_ids: Int[Array, "B T"],
        *,
        attention_mask: Mask | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        positions: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T V"]:
        """Returns the logits in float32: convenient for short rows; losses go through the fused head instead.

        Args:
            input_ids: Tokens.
            attention_mask: 1 or True = real token; shorthand for `segment_ids` of 0 and 1.
            segment_ids: See `hidden`. At most one of the two is given.
            positions: See `hidden`.
        """
        segments = segments_of(attention_mask, segment_ids)
        hidden = self.hidden(input_ids, segment_ids=segments, positions=positions)
        head = self.head_weights().astype(hidden.dtype)
        return softcapped(
            jnp.einsum("btd,vd->btv", hidden, head, preferred_element_type=jnp.float32), self.config.logit_softcap
        )

    generate = generate


@final
class SequenceClassifier(DecoderModel):
    """Scores rows by the hidden state of one token of each. Final.

    Which token: the last real one that is not the pad token. Rows end in padding, and where the pad token is
        also
    the end-of-turn token the real one at the end is passed over too, as transformers does, so that scores do
    not depend on whether a row was closed. A row of nothing but pad tokens is scored at its last real position;
    without a ``pad_token_id`` in the configuration every row is.
    """

    def __init__(
        self, config: DecoderConfig, params: Params, *, dtype: DTypeLike | None = None, lora: LoraConfig | None = None
    ):
        """Wraps parameters; see `DecoderModel`.

        Raises:
            ConfigError: If the configuration has no `num_labels`.
        """
        if config.num_labels is None:
            raise ConfigError("`num_labels` is None; a SequenceClassifier needs a number, 1 for a reward model.")
        super().__init__(config, params, dtype=dtype, lora=lora)
        self.score = nnx.Param(params["score"])

    def __call__(
        self,
        input_ids: Int[Array, "B T"],
        *,
        attention_mask: Mask | None = None,
        segment_ids: Int[Array, "B T"] | None = None,
        positions: Int[Array, "B T"] | None = None,
        remat: Remat = "none",
        dropout_key: Array | None = None,
    ) -> Float[Array, "B C"]:
        """Returns one float32 score per row and label; rows hold one document each, padded on either side.

        Args:
            input_ids: Tokens.
            attention_mask: 1 or True = real token; shorthand for `segment_ids` of 0 and 1.
            segment_ids: See `hidden`. At most one of the two is given.
            positions: See `hidden`.
            remat: See `hidden`.
            dropout_key: See `hidden`.
        """
        segments = segments_of(attention_mask, segment_ids)
        hidden = self.hidden(input_ids, segment_ids=segments, positions=positions, remat=remat, dropout_key=dropout_key)
        positions = pooled_positions(input_ids, segments, self.config.pad_token_id)
        pooled = jnp.take_along_axis(hidden, positions[:, None, None], axis=1)[:, 0]
        score = self.score[...].astype(hidden.dtype)
        return jnp.einsum("bd,cd->bc", pooled, score, preferred_element_type=jnp.float32)


def segments_of(attention_mask: Mask | None, segment_ids: Int[Array, "B T"] | None) -> Int[Array, "B T"] | None:
    """Returns the segment ids that either argument stands for.

    Raises:
        ValueError: If both are given.
    """
    if attention_mask is None:
        return segment_ids
    if segment_ids is not None:
        raise ValueError("give `attention_mask` or `segment_ids`, not both; segment id 0 already says padding.")
    return attention_mask.astype(jnp.int32)


def pooled_positions(
    input_ids: Int[Array, "B T"], segment_ids: Int[Array, "B T"] | None, pad_token_id: int | None
) -> Int[Array, " B"]:
    """Returns the position in each row whose hidden state a `SequenceClassifier` scores; its docstring has the rule."""
    real = jnp.ones_like(input_ids, bool) if segment_ids is None else segment_ids > 0
    last_real = _last(real)
    if pad_token_id is None:
        return last_real
    wanted = real & (input_ids != pad_token_id)
    return jnp.where(wanted.any(axis=1), _last(wanted), last_real)


def _last(mask: Bool[Array, "B T"]) -> Int[Array, " B"]:
    positions = jnp.arange(mask.shape[1], dtype=jnp.int32)[None]
    return jnp.where(mask, positions, jnp.int32(0)).max(axis=1)
