"""The inspector: what it says of rows is what the trainer would do with them."""

import copy
import io
import json

import numpy as np
import pytest
from easydel.inspector import inspect_rows, inspection_page, print_inspection
from easydel.inspector.sequences import runs
from easydel_trainers import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer():
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, 60)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def words(first, count):
    return "".join(f" w{first + number % 20}" for number in range(count))


@pytest.fixture
def sft(tokenizer):
    rows = [{"prompt": words(3, 3), "completion": words(10, 2 + number)} for number in range(12)]
    config = SFTConfig(max_length=10, total_batch_size=4, length_buckets=[64], shuffle_train_dataset=False)
    return SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=rows)


@pytest.fixture
def dpo(tokenizer):
    rows = [{"prompt": words(3, 8), "chosen": words(20, 3), "rejected": words(30, 9)}] * 4
    config = DPOConfig(max_prompt_length=5, max_completion_length=6, total_batch_size=4, length_buckets=[64])
    return DPOTrainer.without_model(config, processing_class=tokenizer, train_dataset=rows)


def text_of(print_to, **options):
    output = io.StringIO()
    print_to(Console(file=output, width=120, **options))
    return output.getvalue()


def test_tokens_and_masks_are_those_of_the_batches(sft):
    inspection = inspect_rows(sft, shown=12)
    batches = list(sft.padded_batches())
    ids = np.concatenate([batch["input_ids"][batch["attention_mask"] > 0] for batch in batches])
    labels = np.concatenate([batch["labels"][batch["attention_mask"] > 0] for batch in batches])
    kept = [token for row in inspection.rows for token in row.sequences[0].tokens if not token.cut]
    assert [token.token_id for token in kept] == ids.tolist()
    assert [token.trained for token in kept] == (labels != -100).tolist()


def test_what_a_limit_cuts_is_shown_where_it_was(sft):
    row = inspect_rows(sft, shown=12).rows[11]
    kinds = [(kind, len(run)) for kind, run in runs(row.sequences[0].tokens)]
    assert kinds == [("read", 3), ("trained", 7), ("cut", 7)]  # 3 + 13 words and the stop token; 10 are kept
    assert row.reasons == ("truncated",)
    assert row.sequences[0].tokens[-1].special


def test_prompt_and_answer_are_cut_apart_from_each_other(dpo):
    chosen, rejected = inspect_rows(dpo, shown=1).rows[0].sequences
    assert [(kind, len(run)) for kind, run in runs(chosen.tokens)] == [("cut", 3), ("read", 5), ("trained", 4)]
    assert [(kind, len(run)) for kind, run in runs(rejected.tokens)][-2:] == [("trained", 6), ("cut", 4)]
    assert (rejected.length, rejected.trained, rejected.cut) == (11, 6, 7)


def test_figures_are_those_of_the_sample(sft):
    inspection = inspect_rows(sft, shown=2, sample=12)
    assert inspection.lengths == tuple(min(3 + 2 + number + 1, 10) for number in range(12))
    assert (inspection.total_rows, inspection.total_steps) == (12, 3)
    assert inspection.shapes == {(1, 1, 64): 3}
    assert inspection.fill == pytest.approx(sum(inspection.lengths) / (3 * 64))
    (truncated,) = inspection.warned
    assert (truncated.reason, truncated.rows, truncated.limit) == ("truncated", 7, None)
    assert truncated.examples == (6, 7), "examples are shown although nobody asked for these rows"


def test_segments_of_a_bin_add_up_to_it(sft):
    segments = inspect_rows(sft, shown=1).batches[0].bins[0]
    assert sum(segment.tokens for segment in segments) == 64
    assert sorted(segment.tokens for segment in segments if not segment.empty) == [6, 7, 8, 9]
    assert segments[-1].empty


def test_packs_are_shown_as_the_bins_they_become(tokenizer):
    rows = [{"text": words(3, count)} for count in (4, 5, 3, 6, 30, 2)]
    config = SFTConfig(
        packing=True, packing_strategy="bfd_split", max_length=10, total_batch_size=2, shuffle_train_dataset=False
    )
    trainer = SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=rows)
    inspection = inspect_rows(trainer, shown=6)
    assert inspection.rows[4].reasons == (), "split over packs, not cut"
    assert inspection.rows[4].sequences[0].cut == 0
    bins = [segments for batch in inspection.batches for segments in batch.bins]
    lengths = [segment.tokens for segments in bins for segment in segments if not segment.empty]
    assert sum(lengths) == sum(inspection.lengths) == sum(count + 1 for count in (4, 5, 3, 6, 30, 2))
    assert inspection.fill > 0.7


def test_rows_that_cannot_be_read_are_shown_with_the_reason(tokenizer):
    rows = [{"text": words(3, 4)}, {"number": 3}, {"text": words(5, 4)}]
    config = SFTConfig(total_batch_size=1, length_buckets=[64], shuffle_train_dataset=False)
    trainer = SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=rows)
    inspection = inspect_rows(trainer, shown=1)
    assert [(row.raw.number, row.dropped) for row in inspection.rows] == [(1, False), (2, True)]
    assert "number" in inspection.rows[1].error
    assert inspection.warned[0].limit == 0
    assert inspection.batches == ()


def test_what_the_template_does_not_print_is_shown_with_its_limit(tokenizer):
    chatting = copy.deepcopy(tokenizer)
    chatting.chat_template = "{% for m in messages %}{{ m.content }} </s>{% endfor %}"
    chat = [{"role": "user", "content": "w3"}, {"role": "assistant", "content": "w4", "reasoning_content": "w5"}]
    config = SFTConfig(data_thresholds={"not_rendered": 0.25}, drop_unrendered=["system"], length_buckets=[64])
    trainer = SFTTrainer.without_model(
        config, processing_class=chatting, train_dataset=[{"messages": chat}, {"messages": chat[:1]}] * 4
    )
    inspection = inspect_rows(trainer, shown=2)
    (lost,) = inspection.warned
    assert (lost.reason, lost.rows, lost.limit) == ("not_rendered/reasoning", 4, 0.25)
    assert inspection.settings["drop_unrendered"] == ("system",)
    text = text_of(lambda console: print_inspection(console, inspection))
    assert "not_rendered/reasoning" in text
    assert "it would stop" in inspection_page(inspection, command="sft", source="rows")


def test_a_mixture_shows_its_shares(tokenizer):
    from easydata_mix import MixedShardedSource, WeightSchedulePoint, WeightScheduler

    points = [WeightSchedulePoint(0, {"a": 1, "b": 0}), WeightSchedulePoint(20, {"a": 0, "b": 1})]
    sources = {name: [{"text": words(3, 4)}] * 40 for name in "ab"}
    mixed = MixedShardedSource(sources, block_size=1, weight_scheduler=WeightScheduler(points, "linear"))
    config = SFTConfig(total_batch_size=4, max_training_steps=20, length_buckets=[64])
    plan = inspect_rows(SFTTrainer.without_model(config, processing_class=tokenizer, train_dataset=mixed)).mixture
    assert plan.rows == {"a": 42, "b": 38}  # 4 rows of step s in shares of 1 - s/20 and s/20, s from 0 to 19
    assert plan.shares["a"][0] == 1
    assert plan.shares["b"][-1] >= 0.75


def test_the_terminal_tells_kinds_apart_without_colours(sft, dpo):
    text = text_of(lambda console: print_inspection(console, inspect_rows(sft, shown=12)))
    assert "\x1b" not in text
    assert next(line.split()[1] for line in text.splitlines() if "w3" in line) == "read"
    assert "cut " in text
    assert "truncated" in text
    pair = text_of(lambda console: print_inspection(console, inspect_rows(dpo, shown=1)))
    heads = [line for line in pair.splitlines() if "chosen" in line and "rejected" in line and "tokens" not in line]
    assert heads, "chosen and rejected stand beside each other"


def test_the_terminal_colours_trained_tokens(sft):
    text = text_of(
        lambda console: print_inspection(console, inspect_rows(sft, shown=1)),
        force_terminal=True,
        color_system="standard",
    )
    assert "\x1b[30;42m" in text, "black on green"


def test_the_page_is_whole_and_escapes_what_it_shows(tokenizer):
    rows = [{"text": f"<script>alert(1)</script> {words(3, 3)}"}]
    trainer = SFTTrainer.without_model(
        SFTConfig(total_batch_size=1, length_buckets=[64]), processing_class=tokenizer, train_dataset=rows
    )
    page = inspection_page(inspect_rows(trainer), command="sft", source="run.yaml")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'id="row-1"' in page


def test_the_command_guesses_the_trainer_and_prints_json(tmp_path, monkeypatch, capsys, tokenizer):
    from easydel.cli.main import main

    monkeypatch.chdir(tmp_path)
    tokenizer.save_pretrained("tokenizer")
    pair = {"prompt": words(3, 2), "chosen": words(20, 3), "rejected": words(30, 3)}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (tmp_path / "run.yaml").write_text("model: m\ntokenizer: tokenizer\ntrain_dataset: pairs.jsonl\n")
    assert main(["inspect", "run.yaml", "--json", "--html", "page.html"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["trainer"] == "DPOTrainer"
    assert [sequence["name"] for sequence in found["rows"][0]["sequences"]] == ["chosen", "rejected"]
    assert "easydel dpo" in captured.err
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert main(["inspect", "run.yaml", "--trainer", "reward", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainer"] == "RewardTrainer"
    assert main(["inspect", "run.yaml", "--trainer", "rewards"]) == 2
