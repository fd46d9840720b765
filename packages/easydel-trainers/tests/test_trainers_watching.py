"""Seeing what a run does: spikes and divergence with their rows, skipped batches, trackers, profiles, FLOPs."""

from __future__ import annotations

import copy
import json
import logging
import time

import jax
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig, LoraConfig
from easydel_models.adapters.lora import with_lora
from easydel_models.experts.routing import RouterConfig
from easydel_models.layers.attention import Attention
from easydel_models.layers.experts import Experts
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.linear import is_adapter
from easydel_models.parameters import flattened, split_params
from easydel_trainers import Callback, ConfigError, DivergedError, SFTConfig, SFTTrainer
from easydel_trainers.data.steps import PreparedStep, count_attended
from easydel_trainers.run.flops import attention_dims, matmul_parameters, peak_flops_per_second, step_flops
from easydel_trainers.run.loss_watch import LossWatch


def config(directory=None, **options) -> SFTConfig:
    shared = {
        "learning_rate": 1e-2,
        "total_batch_size": 4,
        "max_length": 32,
        "max_training_steps": 10,
        "log_steps": 1,
        "length_buckets": [128],
        "scheduler": "constant",
        "shuffle_train_dataset": False,
        "save_directory": None if directory is None else str(directory),
    }
    return SFTConfig(**(shared | options))


@pytest.fixture
def make(tiny_model, tokenizer, text_rows):
    def make(arguments: SFTConfig, **options) -> SFTTrainer:
        rows = {"train_dataset": text_rows}
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, processing_class=tokenizer, **(rows | options))

    return make


def poison(run):
    """What a burst of bad numbers does: a parameter becomes NaN, so the next step's loss is."""
    state = run._state.state
    broken = state.params | {"final_norm": state.params["final_norm"] * np.nan}
    run._state.state = state._replace(params=broken)


class At(Callback):
    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, run):
        if run.step == self.step:
            self.action(run)


def test_divergence_names_step_batch_position_and_rows(make, text_rows):
    trainer = make(config(), callbacks=[At(5, poison)])
    with pytest.raises(DivergedError, match=r"Step 6: the loss is nan.*skip_batches=\[6\]") as caught:
        trainer.train()
    (note,) = caught.value.__notes__
    assert "Batch 6 begins at data position" in note
    rows = [line for line in note.splitlines() if " row " in line]
    assert len(rows) == 4
    for number, line in zip(range(20, 24), rows, strict=True):
        assert f"row {number}," in line
        assert text_rows[number]["text"].split()[0] in line


def test_skipped_batches_are_read_and_not_trained(make, text_rows):
    skipping = make(config(skip_batches=[2, 3], max_training_steps=3))
    without = make(config(max_training_steps=3), train_dataset=text_rows[:4] + text_rows[12:])
    for ours, theirs in zip(skipping.train().history, without.train().history, strict=True):
        assert (ours["loss"], ours["num_tokens"]) == (theirs["loss"], theirs["num_tokens"])


def test_a_diverged_run_goes_on_without_the_batch_that_was_named(make, tmp_path):
    with pytest.raises(DivergedError):
        make(config(tmp_path, save_steps=2), callbacks=[At(5, poison)]).train()
    output = make(config(tmp_path, save_steps=2, skip_batches=[6])).train()
    assert output.global_step == 10
    whole = make(config(skip_batches=[6])).train()
    assert [r["loss"] for r in output.history] == [r["loss"] for r in whole.history]


def test_skipped_batches_shorten_an_epoch(make):
    output = make(config(max_training_steps=None, num_train_epochs=1, skip_batches=[1, 99])).train()
    assert output.global_step == 9
    assert output.history[-1]["step"] == 9


def test_a_spike_is_told_with_its_rows_and_the_run_goes_on(make, caplog):
    noise = " ".join(f"w{n}" for n in np.random.default_rng(0).integers(3, 97, 28))
    easy = [{"text": " ".join(["w5"] * 28)}] * 60
    rows = [*easy[:56], *[{"text": noise}] * 4, *easy]
    options = {"loss_spike_factor": 2.0, "max_training_steps": 16, "learning_rate": 3e-2}
    with caplog.at_level(logging.WARNING):
        output = make(config(**options), train_dataset=rows).train()
    assert output.metrics["loss_spikes"] == 1
    assert "LOSS SPIKE at step 15" in caplog.text
    assert noise[:20] in caplog.text
    assert output.global_step == 16


@pytest.mark.parametrize(
    ("factor", "losses", "spikes"),
    [(2.0, [1, 9, 1, 9], 0), (None, [1] * 20 + [50], 0), (2.0, [1] * 20 + [50], 1)],
)
def test_no_spike_is_seen_in_the_first_losses_or_without_a_factor(factor, losses, spikes):
    watch = LossWatch(factor, lambda position: ())
    prepared = PreparedStep(arrays={}, tokens=1, held=1, padded_tokens=1, epoch=0, data_state={})
    for step, loss in enumerate(losses):
        watch.look(step, prepared, loss, 1.0)
    assert watch.spikes == spikes


def test_flops_are_those_of_the_matrix_products(tiny_model):
    """Against the products of one forward pass written out, times three for the backward pass."""
    tokens, dim, mlp, heads, head_dim, kv, vocabulary, layers = 10, 16, 32, 2, 8, 8, 97, 2
    per_token = dim * heads * head_dim * 2 + dim * kv * 2 + dim * mlp * 3
    forward = 2 * tokens * (layers * per_token + dim * vocabulary)
    attention = layers * 2 * (2 * tokens * tokens * heads * head_dim) / 2  # scores and values, causal half
    counted = step_flops(
        tokens=tokens,
        attended=tokens**2,
        matmul_parameters=matmul_parameters(tiny_model),
        attention_dims=attention_dims(tiny_model),
    )
    assert counted == 3 * (forward + attention)


def test_of_experts_those_are_counted_that_a_token_goes_to():
    dim, width, experts, active, vocabulary = 32, 16, 8, 2, 96
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
    of_experts = Experts(router=RouterConfig(num_experts=experts, experts_per_token=active), width=width)
    layers = (LayerConfig(mixer=attention, feed_forward=of_experts),) * 2
    config = DecoderConfig(vocab_size=vocabulary, dim=dim, layers=layers, tie_embeddings=True, model_type="qwen3_moe")
    model = AutoEasyDeLModelForCausalLM.from_config(config)
    of_attention = dim * 8 * (2 + 1 + 1 + 2)
    per_layer = of_attention + dim * experts + active * 3 * dim * width
    assert matmul_parameters(model) == 2 * per_layer + dim * vocabulary

    base = 2 * per_layer + dim * vocabulary
    adapted = with_lora(model, LoraConfig(rank=4, targets=[], target_parameters=["mlp.experts.gate_up_proj"]))
    layers = flattened(split_params(adapted)[1]["layers"])
    adapters = sum(leaf.size for path, leaf in layers.items() if is_adapter(path))
    assert adapters > 0
    assert matmul_parameters(adapted) == base + adapters * active // experts - base // 3


def test_attention_is_counted_by_row_not_by_line():
    segments = np.array([[[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]]], np.int32)
    assert count_attended({"segment_ids": segments}) == 9 + 4 + 36


class Slow(Callback):
    """Makes steps so long that it does not matter how late their ends are seen: those seen too late have no rates."""

    def on_step(self, run):
        time.sleep(0.5)


def test_share_of_the_peak_is_told_where_the_peak_is_known(make, monkeypatch):
    assert peak_flops_per_second() is None  # a CPU's is in no data sheet
    record = make(config(max_training_steps=2), callbacks=[Slow()]).train().history[-1]
    assert record["model_flops_per_second"] > 0
    assert "mfu" not in record
    monkeypatch.setattr("easydel_trainers.run.run.peak_flops_per_second", lambda: 1e12)
    record = make(config(max_training_steps=2), callbacks=[Slow()]).train().history[-1]
    assert record["mfu"] == pytest.approx(record["model_flops_per_second"] / 1e12)


def test_tensorboard_gets_every_record(make, tmp_path, text_rows):
    options = {"report_to": ["tensorboard"], "run_name": "mine", "evaluation_steps": 2, "max_training_steps": 2}
    make(config(tmp_path, **options), eval_dataset=text_rows[:4]).train()
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 - the reader below mirrors its framing

    (path,) = (tmp_path / "tensorboard" / "mine").iterdir()
    data, at, scalars = path.read_bytes(), 0, {}
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + length])
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
        at += 16 + length
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [(r["step"], pytest.approx(r["loss"], rel=1e-6)) for r in log if "loss" in r]
    assert scalars["loss"] == losses
    assert [step for step, _ in scalars["eval_loss"]] == [2]


def test_a_tracker_that_fails_is_told_and_left_alone(make, monkeypatch, caplog, tmp_path):
    from easydel_trainers.trackers import tensorboard_tracker

    def fail(self, record):
        raise ConnectionError("service away")

    monkeypatch.setattr(tensorboard_tracker.TensorBoardTracker, "log", fail)
    assert make(config(tmp_path, report_to=["tensorboard"])).train().global_step == 10
    assert caplog.text.count("service away") == 1


def test_a_tracker_that_is_not_installed_names_the_extra(make, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"easydel-trainers\[wandb\]"):
        make(config(tmp_path, report_to=["wandb"])).train()


def test_the_profiler_records_the_steps_asked_for(make, tmp_path):
    make(config(tmp_path, profile_steps=(2, 3), max_training_steps=4)).train()
    traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1
    assert traces[0].stat().st_size > 1000


def test_a_profile_that_the_run_ends_inside_of_is_written(make, tmp_path):
    make(config(tmp_path, profile_steps=(2, 9), max_training_steps=3)).train()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    jax.profiler.start_trace(str(tmp_path / "again"))  # and another may begin
    jax.profiler.stop_trace()
