"""Generation by a server that speaks OpenAI's completions API on token ids: vLLM, SGLang and their like.

One request per prompt, several at a time. Prompts go out as token ids and completions come back as token ids
(``return_token_ids``, or vLLM's older ``return_tokens_as_token_ids``), so nothing is tokenized twice.

The log-probabilities are the server's, by its own arithmetic. vLLM gives those at temperature 1 unless started with
``--logprobs-mode processed_logprobs``, which gives those of the distribution drawn from: at the temperature, after
top-k and top-p. A trainer corrects for the difference from its own (importance sampling) or computes them anew.
"""

import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from easydel_models.config_values import is_number, is_whole
from easydel_models.errors import EngineError, OptionsError
from easydel_models.generation.http_post import Patience, post_json
from easydel_models.generation.options import FinishReason, GenerateResult, GenerationOptions
from easydel_models.safe_text import quoted

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM

_TOKEN = "token_id:"
_MOST_DIGITS = 12
_ROUNDING = 1e-2  # log-probabilities of bfloat16 may come out a little above 0
_Completion = tuple[list[int], list[float], FinishReason]


class HttpEngine:
    """A `GenerationEngine` on an OpenAI-compatible server. Final."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        publish: Callable[["CausalLM"], None] | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        patience: Patience | None = None,
        vocab_size: int | None = None,
    ):
        """Makes no connection yet.

        Args:
            url: Where the API begins, for instance ``http://localhost:8000/v1``.
            model: Name by which the server knows the model.
            publish: Brings a model's weights to the server when `update` is called, for instance by saving a folder and
                having the server load it. None = `update` is refused, since the server would go on with old weights.
            api_key: Sent as a bearer token, never shown.
            concurrency: Most requests under way at a time; the server batches them.
            patience: Timeouts, limits and retries; None = the defaults of `Patience`.
            vocab_size: Ids that a completion holds are below it; None = that of the model last given to `update`.

        Raises:
            OptionsError: If the address is not http or https, the key holds a line break or another character that no
                header may have, or ``concurrency`` is below 1.
        """
        _check_address(url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise OptionsError("`api_key` holds characters that no header may have, a line break for instance")
        if concurrency < 1:
            raise OptionsError(f"`concurrency` must be >= 1, got {concurrency}")
        self._url = url.rstrip("/") + "/completions"
        self._model = model
        self._publish = publish
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._concurrency = concurrency
        self._patience = Patience() if patience is None else patience
        self._vocab_size = vocab_size

    def generate(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> GenerateResult:
        """See `GenerationEngine`; the server says how it draws from a seed, and which prompts are too long for it.

        Raises:
            OptionsError: If a prompt is empty.
            EngineError: If the server cannot be reached, refuses, or answers without token ids or log-probabilities.
        """
        for number, prompt in enumerate(prompts):
            if len(prompt) == 0:
                raise OptionsError(f"prompt {number} is empty; give it at least one token, the BOS token for instance")
        with ThreadPoolExecutor(self._concurrency) as pool:
            waiting = [pool.submit(self._completions, number, prompt, options) for number, prompt in enumerate(prompts)]
            try:
                done = [completion for future in waiting for completion in future.result()]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return GenerateResult(
            token_ids=[tokens for tokens, _, _ in done],
            logprobs=[logprobs for _, logprobs, _ in done],
            finish_reasons=[reason for _, _, reason in done],
        )

    def update(self, model: "CausalLM") -> None:
        """Hands the weights to ``publish``.

        Raises:
            EngineError: If there is none.
        """
        if self._publish is None:
            raise EngineError(
                "the server would go on with the weights it was started with; pass publish=FUNCTION, which brings a "
                "model's weights to it (publish=lambda model: None if that is what you want)"
            )
        self._publish(model)
        self._vocab_size = model.config.vocab_size

    def _completions(self, number: int, prompt: Sequence[int], options: GenerationOptions) -> list[_Completion]:
        body = request_body(self._model, number, prompt, options)
        answer = post_json(self._url, body, self._headers, self._patience)
        try:
            found = completions_in(answer, options.num_return_sequences)
            for tokens, _, _ in found:
                check_tokens(tokens, most=options.max_new_tokens, vocab_size=self._vocab_size)
            return found
        except EngineError as error:
            raise EngineError(f"prompt {number}: {error}") from None


def request_body(model: str, number: int, prompt: Sequence[int], options: GenerationOptions) -> dict[str, Any]:
    """Returns the request for one prompt; what is off is left out, so that a server that does not know it has no
    complaint.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": [int(token) for token in prompt],
        "n": options.num_return_sequences,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature if options.do_sample else 0.0,
        # Every prompt has draws of its own, equal prompts too.
        "seed": _seed_of_prompt(options.seed, number),
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    for name, off in {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}.items():
        if getattr(options, name) != off:
            body[name] = getattr(options, name)
    if options.min_new_tokens:
        body["min_tokens"] = options.min_new_tokens
    if options.stop_strings:
        body |= {"stop": list(options.stop_strings), "include_stop_str_in_output": True}
    if options.eos_token_ids is not None:
        body |= {"ignore_eos": True, "stop_token_ids": list(options.eos_token_ids)}
    return body


def completions_in(answer: Any, expected: int) -> list[_Completion]:
    """Reads the completions out of a server's answer, in the order of their index.

    Raises:
        EngineError: If it is not what was asked for.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != expected:
        found = len(choices) if isinstance(choices, list) else "no"
        raise EngineError(f"the server answered {found} completions where {expected} were asked for")
    for choice in choices:
        if not isinstance(choice, dict):
            raise EngineError(f"the server's answer holds {quoted(choice)} where a completion is expected")
    indices = [choice.get("index", number) for number, choice in enumerate(choices)]
    if not all(map(is_whole, indices)) or sorted(indices) != list(range(expected)):
        raise EngineError(f"the server numbered its completions {quoted(indices)}; expected 0 to {expected - 1}")
    return [_completion(choices[indices.index(number)]) for number in range(expected)]


def check_tokens(tokens: Sequence[int], *, most: int, vocab_size: int | None) -> None:
    """Refuses a completion that is longer than what was asked for, or holds an id that is none.

    Args:
        tokens: Of one completion.
        most: How many were asked for.
        vocab_size: Ids are below it; None = unknown, and only negative ids are refused.

    Raises:
        EngineError: Naming the token and its number in the completion.
    """
    if len(tokens) > most:
        raise EngineError(f"the engine wrote {len(tokens)} tokens where at most {most} were asked for")
    above = 2**31 if vocab_size is None else vocab_size
    for number, token in enumerate(tokens):
        if not 0 <= token < above:
            raise EngineError(
                f"token {number} of a completion is {token}, outside the vocabulary of {above}: the engine serves "
                "another model than the one that is trained"
            )


def _completion(choice: dict[str, Any]) -> _Completion:
    table = choice.get("logprobs")
    table = table if isinstance(table, dict) else {}
    logprobs, tokens = table.get("token_logprobs"), choice.get("token_ids") or _ids_of_names(table.get("tokens"))
    if not tokens:
        raise EngineError(
            "the server's answer holds no token ids; it must know `return_token_ids` (recent vLLM and "
            "SGLang) or `return_tokens_as_token_ids` (vLLM)"
        )
    if not isinstance(tokens, list) or not all(map(is_whole, tokens)):
        raise EngineError(f"the server's answer holds the token ids {quoted(tokens)}; expected a list of whole numbers")
    if not isinstance(logprobs, list) or len(logprobs) != len(tokens):
        found = len(logprobs) if isinstance(logprobs, list) else "no"
        raise EngineError(f"the server's answer holds {len(tokens)} tokens and {found} log-probabilities")
    if not all(is_number(value) and value < _ROUNDING for value in logprobs):
        raise EngineError("the server's answer holds a log-probability that is no finite number of at most 0")
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise EngineError(f"the server ended a completion for the reason {quoted(reason)}; expected 'stop' or 'length'")
    return tokens, [float(value) for value in logprobs], reason


def _ids_of_names(names: Any) -> list[int]:
    """Reads ``token_id:17``, as vLLM writes tokens when asked to."""
    if not isinstance(names, list):
        return []
    numbers = [name.removeprefix(_TOKEN) for name in names if isinstance(name, str) and name.startswith(_TOKEN)]
    whole = [number for number in numbers if number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS]
    return [int(number) for number in whole] if len(whole) == len(names) else []


def _check_address(url: str) -> None:
    """Refuses what no connection can be made to, without repeating it: it may hold a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url:
        raise OptionsError("`url` must be an address that begins with http:// or https://, as in http://host:8000/v1")


def _seed_of_prompt(seed: int, number: int) -> int:
    """Returns a seed of 31 bits, which servers take, that depends on every bit of the user's."""
    return int.from_bytes(blake2b(f"{seed}/{number}".encode(), digest_size=4).digest(), "big") >> 1
