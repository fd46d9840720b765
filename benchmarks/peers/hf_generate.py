"""The same prompts continued by `transformers` under torch, for a ratio in one sitting; `generate.py` starts this.

Needs an environment of its own with torch and transformers. Prints one line of JSON for each batch size.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from peak_memory import peak_gb
from transformers import AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--prompts", required=True, help="JSON file: {batch size: [token ids of each prompt]}")
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", default="float32", choices=("float32", "default"))
    options = parser.parse_args()
    # By default transformers loads a model in the type that it is published in, for SmolLM2 bfloat16.
    dtype = torch.float32 if options.precision == "float32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
    model.generation_config.eos_token_id = None
    for prompts in json.loads(Path(options.prompts).read_text()).values():
        width = max(map(len, prompts))
        ids, mask = (
            torch.zeros(len(prompts), width, dtype=torch.long),
            torch.zeros(len(prompts), width, dtype=torch.long),
        )
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
        best = min(seconds_of(model, ids, mask, options) for _ in range(options.repeats))
        rate = len(prompts) * options.new_tokens / best
        print(json.dumps({"batch": len(prompts), "tokens_per_second": rate, "peak_gb": peak_gb()}), flush=True)


def seconds_of(model, ids, mask, options) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=options.new_tokens,
            min_new_tokens=options.new_tokens,
            pad_token_id=0,
            **({"do_sample": True, "top_k": 0} if options.sample else {"do_sample": False}),
        )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
