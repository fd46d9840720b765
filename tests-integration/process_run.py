"""One process of a small run: `python process_run.py JSON`, with the place of the process in the environment.

The JSON object: `rows` (a file), `directory`, `out` (a file of process 0's parameters and losses), `config` (fields of
`SFTConfig`), `kill` or `stop` (a list [process, step]: that process sends itself SIGKILL or SIGTERM right behind the
step) and `devices` (simulated ones of each process).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    settings = json.loads(sys.argv[1])
    jax.config.update("jax_num_cpu_devices", settings.get("devices", 1))
    jax.config.update("jax_disable_most_optimizations", True)
    from easydel_trainers import join_processes

    join_processes()
    from easydata_tokenize import load_tokenizer
    from easydel_models import CausalLM, DecoderConfig
    from easydel_models.mesh.sharding import to_host
    from easydel_models.parameters import flattened, split_params
    from easydel_trainers import Callback, SFTConfig, SFTTrainer

    class SignalAfter(Callback):
        rows_read = 0

        def on_step(self, run) -> None:
            self.rows_read = sum(read)  # behind the last step the report is counted once more, up to where it ended
            here = [jax.process_index(), run.step]
            if here == settings.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if here == settings.get("stop"):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(3)  # JAX looks for the notice once a second, and these steps take milliseconds

    read = []
    config = DecoderConfig(
        vocab_size=49152, dim=16, num_layers=1, num_heads=4, num_kv_heads=4, mlp_dim=32, initializer_range=0.2
    )
    shared = {
        "learning_rate": 1e-2,
        "total_batch_size": 8,
        "max_length": 64,
        "length_buckets": [64, 128],
        "padding_free": False,
        "log_steps": 1,
        "progress_bar": False,
        "save_directory": settings["directory"],
    }
    watcher = SignalAfter()
    trainer = SFTTrainer(
        CausalLM.from_config(config, seed=3, dtype="float32"),
        SFTConfig(**shared | settings["config"]),
        processing_class=load_tokenizer(GOLDEN / "tokenizer"),
        train_dataset=settings["rows"],
        callbacks=[watcher],
    )
    counted = trainer.data.transform.transform_batch
    object.__setattr__(trainer.data.transform, "transform_batch", lambda rows: read.append(len(rows)) or counted(rows))
    output = trainer.train()
    parameters = {path: to_host(leaf) for path, leaf in flattened(split_params(trainer.model)[1]).items()}
    losses = np.asarray([record["loss"] for record in output.history])
    report = json.dumps(output.data_report)
    np.savez(
        f"{settings['out']}.{jax.process_index()}.npz",
        losses=losses,
        report=report,
        read=watcher.rows_read,
        **parameters,
    )


if __name__ == "__main__":
    main()
