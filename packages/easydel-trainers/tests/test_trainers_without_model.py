"""A trainer without a model: the same rows, batches and counts as with one."""

import numpy as np
from easydel_trainers import Callback, DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

CONFIG = SFTConfig(total_batch_size=8, max_length=32, length_buckets=[256], learning_rate=1e-2)


class Shapes(Callback):
    def on_end(self, run):
        self.shapes = dict(run.shapes)


def test_it_gives_the_batches_and_counts_that_training_has(tiny_model, tokenizer, text_rows):
    watch = Shapes()
    looked = SFTTrainer.without_model(CONFIG, processing_class=tokenizer, train_dataset=text_rows)
    trained = SFTTrainer(tiny_model, CONFIG, processing_class=tokenizer, train_dataset=text_rows, callbacks=(watch,))
    for ours, theirs in zip(looked.padded_batches(), trained._training_batch_iterator(), strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert looked.total_steps == trained.total_steps == trained.train().global_step
    assert watch.shapes == {(1, 1, 256): 5}
    assert "w5" in looked.explain({"text": "w4 w5"})


def test_trainers_with_a_reference_need_none_to_look_at_rows(tokenizer):
    rows = [{"prompt": "w3", "chosen": "w4 w5", "rejected": "w6"}] * 8
    looked = DPOTrainer.without_model(DPOConfig(length_buckets=[64]), processing_class=tokenizer, train_dataset=rows)
    batch = next(looked.padded_batches())
    assert batch["input_ids"].shape == (16, 64)
