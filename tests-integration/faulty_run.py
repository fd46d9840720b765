"""A run of adapters with best-model tracking and an export at its end, to be broken off at chosen moments.

`python faulty_run.py CACHE` reads one attempt a line from standard input, as JSON: `{"folder", "fault", "number"}`,
makes it in a child of its own, and answers with one line: how the child ended. The parent has imported everything and
started nothing, so that an attempt costs its own work alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig, LoraConfig
from easydel_models.files import whole_folder
from easydel_models.parameters import split_params
from easydel_trainers import CheckpointError, SFTConfig, SFTTrainer
from easydel_trainers.checkpoints.checkpointer import Checkpointer
from easydel_trainers.row_steps import RowSteps
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

STEPS = 8
MODEL = DecoderConfig(
    vocab_size=64, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=32, eos_token_ids=(2,), pad_token_id=2
)
FAULTS = ("evaluation", "save", "manifest", "commit", "export", "moment", "full disk")
REFUSED = 3  # exit code of an attempt that another one, or a full disk, kept from going on


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(fault: str | None, number: int) -> None:
    """Arrange for a fault: at the `number`-th chance of its kind."""
    if fault == "evaluation":
        RowSteps.measure = _at(number, RowSteps.measure)
    elif fault == "save":
        Checkpointer.save = _at(number, Checkpointer.save)
    elif fault == "manifest":
        Checkpointer._before_rename = _at(number, Checkpointer._before_rename)
    elif fault == "commit":  # between the last file of a checkpoint and the removal of older ones
        before_rename = Checkpointer._before_rename

        def soon(checkpointer: Checkpointer) -> None:
            before_rename(checkpointer)
            threading.Timer(number / 1000, kill).start()

        Checkpointer._before_rename = soon  # type: ignore[method-assign]
    elif fault == "export":
        whole_folder._move_into_place = _counted(whole_folder._move_into_place, number)
    elif fault == "moment":
        threading.Timer(number / 10, kill).start()
    elif fault == "full disk":  # of whatever file first grows beyond it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the file of errors is no part of the run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (number**3 * 10, resource.RLIM_INFINITY))


def _at(number: int, function: Callable[..., Any]) -> Any:
    calls = [0]

    def counting(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            if number % 2:
                function(*arguments, **options)
            kill()
        return function(*arguments, **options)

    return counting


def _counted(move: Callable[..., None], number: int) -> Any:
    """Dies before the `number`-th file that is moved into place."""

    def moving(*arguments: Any) -> None:
        Path.replace = _at(2 * (number // 2), Path.replace) if number > 1 else kill  # type: ignore[method-assign]
        move(*arguments)

    return moving


def attempt(folder: Path) -> None:
    config = SFTConfig(
        learning_rate=1e-2,
        total_batch_size=4,
        max_length=16,
        length_buckets=[64],
        lora=LoraConfig(rank=2, dropout=0.1),
        max_training_steps=STEPS,
        save_directory=str(folder),
        save_steps=3,
        save_total_limit=1,
        evaluation_steps=2,
        eval_batch_size=4,
        metric_for_best_model="eval_loss",
        load_best_model_at_end=True,
        log_steps=1,
    )
    texts = [" ".join(f"w{first + number}" for number in range(3 + first % 7)) for first in range(3, 31)]
    rows = [{"text": text} for text in texts]
    trainer = SFTTrainer(
        AutoEasyDeLModelForCausalLM.from_config(MODEL, seed=7),
        config,
        processing_class=tokenizer(),
        train_dataset=rows[:-4],
        eval_dataset=rows[-4:],
    )
    output = trainer.train()
    assert output.global_step == STEPS
    trainer.save_pretrained(folder / "model")
    leaves = jax.tree.leaves(split_params(trainer.model)[1])
    np.savez(folder / "parameters.npz", *[np.asarray(leaf) for leaf in leaves])


def tokenizer() -> PreTrainedTokenizerFast:
    names = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(3, MODEL.vocab_size))]
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def child(told: dict[str, Any]) -> int:
    errors = os.dup(2)
    prepare(told["fault"], told["number"])
    try:
        attempt(Path(told["folder"]))
    except (CheckpointError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return REFUSED
    except BaseException:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.write(errors, traceback.format_exc().encode())
        raise
    return 0


def main() -> None:
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    for line in sys.stdin:
        told = json.loads(line)
        waiting = []
        for _ in range(told.get("at once", 1)):
            process = os.fork()
            if not process:
                code = 70
                try:
                    code = child(told)
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            waiting.append(process)
            time.sleep(0.05)
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in waiting]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
