"""The shipped fixture: what it can do, what it weighs, and that it can be made again."""

import csv
import json
import re
import sys
from pathlib import Path
from random import Random

import pytest

from llmops_lab.models import tiny
from llmops_lab.prompts.files import load_prompts
from llmops_lab.prompts.template import Prompt

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "embedded_model"
DATA = ROOT / "llmops_lab" / "data"
sys.path.insert(0, str(TOOLS))

import corpus  # noqa: E402
import demo_data  # noqa: E402
import measure  # noqa: E402


@pytest.fixture(scope="module")
def engine():
    return tiny.Onnx(tiny.FOLDER)


def accuracy(engine, prompt, rows: list[dict[str, str]]) -> float:
    chats = [[{"role": turn.role, "content": turn.content} for turn in prompt.render(row)] for row in rows]
    texts = measure.answers(engine, chats)
    return sum(text == row["answer"] for text, row in zip(texts, rows, strict=True)) / len(rows)


def test_the_model_card_says_what_is_measured(engine):
    text = (tiny.FOLDER / "MODEL_CARD.md").read_text("utf-8")
    said = {name: float(share) for name, share in re.findall(r"^\| ([a-z_ 0-9]+) \| ([01]\.\d\d) \|", text, re.MULTILINE)}
    # Another CPU rounds otherwise, and a near tie may fall to the other side.
    assert said == pytest.approx(measure.card(engine, measure.ROWS), abs=0.02)


def test_it_answers_most_fresh_rows_and_every_task_is_among_them(engine):
    rows = list(corpus.draw(measure.FRESH_SEED, 400, fresh=True))
    shares = measure.by_task(engine, rows)
    assert shares["overall"][0] >= 0.69
    assert set(shares) == {make.__name__ for make in corpus.MIX} | {"overall"}
    assert shares["intent"][0] >= 0.95
    assert shares["extract"][0] >= 0.9


def test_the_held_out_task_fails(engine):
    rows = list(corpus.draw(measure.FRESH_SEED, 100, fresh=True, task=corpus.route))
    assert measure.by_task(engine, rows)["route"] == (0.0, 100)
    assert all(json.loads(row.answer).keys() == {"queue", "priority"} for row in rows)


def test_wording_matters(engine):
    rng = Random(measure.FRESH_SEED)
    tickets = [corpus.sided_ticket(rng, fresh=True) for _ in range(60)]
    shares = measure.by_wording(engine, tickets, measure.WORDINGS)
    assert min(shares["trained"], shares["trained_2"]) >= 0.95
    assert 0.2 <= shares["unseen"] <= 0.7
    assert shares["bare"] <= 0.5


def test_no_training_row_is_about_what_was_kept_out():
    seen = {row.subject for row in corpus.draw(1, 2_000) if row.task not in corpus.CLOSED}
    fresh = {row.subject for row in corpus.draw(2, 500, fresh=True) if row.task not in corpus.CLOSED}
    assert seen
    assert fresh
    assert not seen & fresh


def test_the_corpus_is_fixed_by_its_seed():
    assert list(corpus.draw(3, 200)) == list(corpus.draw(3, 200))
    assert list(corpus.draw(3, 200)) != list(corpus.draw(4, 200))


def test_the_demos_tickets_are_the_generators_and_not_trained_on():
    with (DATA / "tickets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == demo_data.tickets()
    assert len(rows) == len({row["id"] for row in rows}) == len({row["ticket"] for row in rows}) == 200
    assert all(corpus.kept_out(row["ticket"]) for row in rows)


def test_the_demos_prompts_differ_clearly_and_examples_help(engine):
    with (DATA / "tickets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = load_prompts(DATA / "demo_prompts.toml")
    shares = {name: accuracy(engine, prompt, rows) for name, prompt in prompts.items()}
    assert 0.4 <= shares["plain"] <= 0.6
    assert 0.7 <= shares["short"] <= 0.95
    assert shares["labels"] >= 0.97
    examples = [{"ticket": "My parcel is late.", "output": "delivery"}, {"ticket": "I cannot get into my account.", "output": "login"}]
    assert accuracy(engine, Prompt(prompts["plain"].template, examples=examples), rows) >= 0.95


def test_the_shipped_folder_is_small_and_whole():
    files = {path.name: path.stat().st_size for path in tiny.FOLDER.iterdir() if path.is_file()}
    assert sum(files.values()) <= 6_000_000
    assert set(files) == {
        "MODEL_CARD.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.onnx",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_graph_is_written_from_the_folder(tmp_path):
    pytest.importorskip("onnx")
    import graph

    for path in tiny.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert graph.write(tmp_path).read_bytes() == (tiny.FOLDER / "model.onnx").read_bytes()


def test_transformers_renders_the_same_chat_and_marks_the_answers():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.FOLDER, local_files_only=True)
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello <b>"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Who are you?"},
    ]
    ours = tiny._chat_template((tiny.FOLDER / "chat_template.jinja").read_text("utf-8"))(chat)
    assert ours == tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert ours == "<|system|>Be short.<|end|><|user|>Hello <b><|end|><|assistant|> Hi<|end|><|user|>Who are you?<|end|><|assistant|>"
    marked = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    answer = [token for token, inside in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if inside]
    assert tokenizer.decode(answer) == "Hi<|end|>"


def test_training_twice_gives_the_same_bytes(tmp_path):
    pytest.importorskip("torch")
    import train

    digests = [train.run(tmp_path / name, rows=600, steps=20) for name in ("one", "two")]
    assert digests[0] == digests[1]
    assert digests[0] != train.run(tmp_path / "three", rows=600, steps=20, seed=8)
    engine = tiny.Onnx(tmp_path / "one")
    assert measure.by_task(engine, list(corpus.draw(1, 10)))["overall"][1] == 10
