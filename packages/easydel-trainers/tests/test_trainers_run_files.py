"""Files of a run's folder, after kills, full disks, odd texts and odd folders."""

from __future__ import annotations

import copy
import json
import os
import resource

import pytest
from easydel_trainers import SFTConfig, SFTTrainer
from easydel_trainers.records.files import append_line, keep_lines, read_lines, write_whole
from easydel_trainers.records.log import RunLog
from easydel_trainers.records.sampled import Sampled, read_sampled, write_sampled
from easydel_trainers.run.previews import read_previews, write_previews

#: What str.splitlines() takes for line ends, half a surrogate pair, and what JSON escapes.
ODD = 'one\u2028two\u2029three\x85four\x0bfive\x0c\x1c\r\n\ud800 "six" \\ ü'


def test_any_character_in_a_text_stays_in_its_line(tmp_path):
    write_previews(tmp_path, 1, ["w3"], [ODD])
    write_previews(tmp_path, 2, [ODD], ["w4"])
    assert read_previews(tmp_path) == [(1, "w3", ODD), (2, ODD, "w4")]
    sampled = Sampled(prompt=ODD, completion=ODD, rewards={"good": 1.0}, advantage=0.5, extras={"why": ODD})
    write_sampled(tmp_path, 3, [sampled])
    assert read_sampled(tmp_path / "completions.jsonl", last=5) == [(3, sampled)]


@pytest.mark.parametrize(
    "broken", ['{"step": 1, "pre', '{"step": 1}\n[1, 2]\nnull\n{"loss": 1}\n{"step": "x"}\n', "\0\0\0"]
)
def test_half_a_line_takes_no_other_with_it(tmp_path, broken):
    path = tmp_path / "lines.jsonl"
    path.write_text(broken)
    append_line(path, {"step": 2, "a": "b"})
    append_line(path, {"step": 3})
    assert read_lines(path)[-2:] == [{"step": 2, "a": "b"}, {"step": 3}]
    assert keep_lines(path, lambda line: line["step"] > 2) == [{"step": 3}]
    assert path.read_text() == '{"step": 3}\n'


def test_a_log_goes_on_behind_half_a_line(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    log = RunLog(tmp_path, resumed_step=2)
    log.cut()
    log.add({"step": 3, "loss": 1.0})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 3]


def test_a_full_disk_leaves_the_old_file_or_the_new_one(tmp_path):
    path, before = tmp_path / "summary.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_whole(path, "old")
    append_line(tmp_path / "log.jsonl", {"step": 1})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
        with pytest.raises(OSError, match="too large"):
            write_whole(path, "new" * 50)
        with pytest.raises(OSError, match="too large"):
            append_line(tmp_path / "log.jsonl", {"step": 2, "text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append_line(tmp_path / "log.jsonl", {"step": 3})
    assert path.read_text() == "old"
    assert [line["step"] for line in read_lines(tmp_path / "log.jsonl")] == [1, 3]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "summary.json"]


def test_links_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("log.jsonl", ".summary.json.part", "summary.json"):
        os.symlink(victim, tmp_path / name)
    with pytest.raises(OSError, match="symbolic link"):
        append_line(tmp_path / "log.jsonl", {"step": 1})
    write_whole(tmp_path / "summary.json", "new")  # takes the link's place
    assert victim.read_text() == "precious"
    assert (tmp_path / "summary.json").read_text() == "new"


def test_a_run_whose_previews_hold_odd_lines_goes_on_and_keeps_what_was_before(
    tiny_model, tokenizer, text_rows, tmp_path
):
    options = {"learning_rate": 1e-2, "total_batch_size": 4, "max_length": 32, "length_buckets": [128]}
    options |= {"save_directory": str(tmp_path), "scheduler": "constant", "preview_prompts": ["w3"], "preview_steps": 1}

    def train(steps):
        arguments = SFTConfig(**options, preview_max_new_tokens=2, max_training_steps=steps)
        rows = {"processing_class": tokenizer, "train_dataset": text_rows}
        return SFTTrainer(copy.deepcopy(tiny_model), arguments, **rows).train()

    train(1)
    before = read_previews(tmp_path)
    line = {"step": 9, "previews": [{"prompt": "of a step behind the checkpoint", "answer": "x"}]}
    with (tmp_path / "previews.jsonl").open("a") as file:
        file.write(json.dumps(line) + '\n{"step": 1, "previews": [{"prompt": "half\u2028')
    train(2)
    after = read_previews(tmp_path)
    assert after[:1] == before
    assert [step for step, _, _ in after] == [1, 2]
