"""What one of eight simulated devices holds of a small SFT run: prints JSON, given the config's axes as JSON."""

from __future__ import annotations

import json
import sys

import jax

jax.config.update("jax_num_cpu_devices", 8)


def bytes_held(tree) -> dict[str, int]:
    """Of all arrays together, and of those parts that the first device holds."""
    leaves = jax.tree.leaves(tree)
    own = [part.data.nbytes for leaf in leaves for part in leaf.addressable_shards if part.device.id == 0]
    return {"whole": sum(leaf.nbytes for leaf in leaves), "own": sum(own)}


def main() -> None:
    from easydel_models import CausalLM, DecoderConfig
    from easydel_trainers import SFTConfig, SFTTrainer
    from easydel_trainers.step_source import StepStart
    from first_step import Beginning, rows_of, tokenizer

    axes = json.loads(sys.argv[1])
    config = DecoderConfig(vocab_size=512, dim=128, num_layers=4, num_heads=8, num_kv_heads=8, mlp_dim=512)
    trainer = SFTTrainer(
        CausalLM.from_config(config, dtype="float32"),
        SFTConfig(total_batch_size=8, max_training_steps=1, length_buckets=[16], shuffle_train_dataset=False, **axes),
        processing_class=tokenizer(),
        train_dataset=rows_of("SFT"),
    )
    state = trainer.program.initial_state()
    batch = next(trainer.source.steps(Beginning(state.params), StepStart())).arrays
    before = {"params": bytes_held(state.params), "optimizer": bytes_held(state.opt_state)}
    state, _ = trainer.program.train_step(state, batch)
    after = {"params": bytes_held(state.params), "optimizer": bytes_held(state.opt_state)}
    with jax.set_mesh(trainer.program.mesh):
        program = jax.jit(trainer.program.train_step.function).lower(state, batch).compile()
    memory = program.memory_analysis()
    sizes = {"arguments": memory.argument_size_in_bytes, "temporary": memory.temp_size_in_bytes}
    print(json.dumps({"before": before, "after": after, "program": sizes}))


if __name__ == "__main__":
    main()
