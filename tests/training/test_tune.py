"""A tuning from its files to an adapter that answers, its card and its MLflow run; what cannot be tuned is refused before it starts."""

import dataclasses
import json
import logging
import shutil

import pytest

import llmops_lab as lab
from llmops_lab.errors import BadInput, LabError, MissingExtra, UnknownName
from llmops_lab.flows import sweep, tune, tune_data, tune_rows, tune_track
from llmops_lab.flows.tune_base import base_of
from llmops_lab.models.hf import model_folder
from llmops_lab.records import Verdict
from llmops_lab.settings import load
from llmops_lab.track import connect
from llmops_lab.training import estimate, sft
from llmops_lab.training.data import Example, Examples
from llmops_lab.training.tokens import IGNORED, encode
from tests.training import route

pytest.importorskip("trl")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, empty_mlflow):
    shutil.copytree(empty_mlflow, tmp_path / "home")
    monkeypatch.setenv("LLMOPS_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def warned(caplog):
    """What transformers warns of: its loggers hand nothing on, and write to what was standard error when it was imported."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def sets(tmp_path):
    train = route.write(tmp_path / "train.jsonl", route.rows(7, 24))
    test = route.write(tmp_path / "test.jsonl", route.rows(9, 6, fresh=True))
    replay = route.write(tmp_path / "replay.jsonl", route.rows(8, 8, routed=False))
    return tune_data.read_sets(train, validation=test, test=test, general=test, replay=replay, leaked="keep")


def planned(sets, **asked):
    return tune.plan("tiny", sets, tune.recipe_for("tiny", **{"epochs": 1, "rank": 4, **asked}))


def test_an_adapter_comes_out_that_answers_and_is_told_to_mlflow_with_all_that_it_came_from(sets, home):
    heard = []
    asked = planned(sets)
    expected = tune.estimate(asked)
    tuned = tune.tune(asked, tell=lambda step, total: heard.append((step, total)))
    assert expected.steps == tuned.trained.last_step == heard[-1][1] == 4
    assert expected.seconds > 0 and expected.memory > sum(expected.parts.values()) / 2 and "4 steps" in str(expected)
    assert heard[0][0].loss > heard[-2][0].loss and heard[-1][0].validation == tuned.trained.best
    assert tuned.folder == home / "tuned" / tuned.digest[:16] and tuned.model == f"hf:tiny+{tuned.folder}"
    config = json.loads((tuned.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny" and config["r"] == 4
    assert not list((home / "tuning").glob("*"))

    models = [lab.model(asked.base.spec, label="base"), lab.model(tuned.model, label="tuned")]
    grid = lab.grid(**tune_rows.asked(sets.test, asked), models=models, scorers=["exact"], track=False)
    assert grid.state == "done" and (grid.frame()["status"] == "ok").all()
    verdict = lab.compare(grid, a="base", b="tuned", by="model")

    result = tune_track.keep(tuned, verdicts=[("on the test", verdict)], leaks=sets.leaks)
    assert json.loads(json.dumps(result)) == result and result["train_rows"] == 32
    card = tune_track.card_of(tuned)
    assert str(verdict) in card and tuned.digest in card and "leak check" in card.lower() and 'base_model: "tiny"' in card
    client = connect.client(load())
    run = client.get_run(result["run_id"])
    assert run.info.status == "FINISHED" and run.data.params["rank"] == "4"
    assert run.data.tags["llmops_lab.digest.model"] == tuned.digest and run.data.tags["llmops_lab.digest.train"] == asked.rows.digest
    assert len(client.get_metric_history(result["run_id"], "loss")) == sum(step.loss is not None for step in tuned.trained.steps)
    logged = {file.path for file in client.list_artifacts(result["run_id"], "model")}
    assert {"model/adapter_model.safetensors", "model/adapter_config.json", "model/README.md"} <= logged
    for name in ("train", "validation", "test", "general", "replay"):
        kept = result["sets"][name]
        assert f"- {name}: {len(getattr(sets, name))} rows, digest `{getattr(sets, name).digest[:16]}`, {name_of(name)}" in card, kept
    assert "- trained on: 32 rows" in card and "The licence is not known" in card
    assert (
        _as_peft_answers(client.download_artifacts(result["run_id"], "model"), "Hello")
        == lab.ask("Hello", model=tuned.model, params={"max_tokens": 12, "temperature": 0}, track=False).text
    )


def name_of(name):
    return {"train": "train.jsonl", "replay": "replay.jsonl"}.get(name, "test.jsonl")


def _as_peft_answers(adapter, text):
    """What the adapter in MLflow answers, by transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder("tiny"), dtype="float32"), adapter)
    asked = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
    ids = tokenizer(asked, add_special_tokens=False, return_tensors="pt")
    written = model.generate(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"], max_new_tokens=12, do_sample=False)
    return tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).removeprefix(" ")


@pytest.mark.parametrize("method", ["qlora", "full"])
def test_the_other_methods_train_on_a_cpu_too(sets, method, warned):
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    tuned = tune.tune(planned(sets, method=method, packing=method == "full"))
    assert "missing keys" not in warned.text  # the tied head is in the checkpoint as the embedding
    assert tuned.trained.best is not None and tuned.model.startswith("hf:tiny+" if method == "qlora" else "hf:/")
    assert lab.ask("Hello", model=tuned.model, params={"max_tokens": 4}, track=False).text


def test_only_the_answer_is_learnt_and_it_is_rendered_as_the_model_is_asked():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny"))
    chat = Example((("system", "Be short."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Who are you?")), "A fixture.")
    (found,) = encode(Examples((chat,), "x"), tokenizer, 512)
    learnt = [label for label in found.labels if label != IGNORED]
    assert tokenizer.decode(learnt) == "A fixture.<|end|>" and found.ids[-len(learnt) :] == learnt
    asked = tokenizer.apply_chat_template(chat.messages, add_generation_prompt=True, tokenize=False)
    assert found.ids[: -len(learnt)] == tokenizer(asked, add_special_tokens=False)["input_ids"]
    with pytest.raises(BadInput, match=r"1 rows of x are longer than max_length=8 tokens: row 1 \(\d+\)"):
        encode(Examples((chat,), "x"), tokenizer, 8)
    tokenizer.chat_template = None
    (bare,) = encode(Examples((chat,), "x"), tokenizer, 512)
    assert tokenizer.decode(bare.ids) == "Be short.\n\nHi\n\nHello\n\nWho are you?A fixture.<|end|>"


def test_packed_rows_do_not_see_each_other_and_teach_their_answers_only(sets, tmp_path):
    import torch

    asked = planned(sets, max_length=256)
    sums = {}
    for packing in (False, True):
        recipe = dataclasses.replace(asked.recipe, packing=packing, batch=8 if not packing else 24)
        trainer = sft.trainer_for(asked.base.folder, asked.encoded, asked.encoded_validation, recipe, work=tmp_path)
        trainer.model.eval()
        with torch.no_grad():
            for name, loader in (("training", trainer.get_train_dataloader()), ("validation", trainer.get_eval_dataloader())):
                taught = loss = rows = 0
                for batch in loader:
                    count = int((batch["labels"] != IGNORED).sum())
                    taught, rows = taught + count, rows + batch["input_ids"].shape[0]
                    loss += float(trainer.compute_loss(trainer.model, dict(batch))) * count
                sums[packing, name] = (taught, loss, rows)
    for name, rows in (("training", asked.encoded), ("validation", asked.encoded_validation)):
        count = sum(label != IGNORED for each in rows for label in each.labels)
        assert sums[False, name][0] == sums[True, name][0] == count
        assert sums[True, name][1] == pytest.approx(sums[False, name][1], rel=1e-4)
    assert sums[True, "training"][2] < sums[False, "training"][2]  # so they were packed


@pytest.mark.parametrize(
    ("base", "asked", "error", "said"),
    [
        ("tny", {}, UnknownName, "no base model called 'tny'. Did you mean tiny?"),
        ("openai:gpt@http://127.0.0.1:1", {}, BadInput, "its weights are elsewhere"),
        ("hf:no/such/folder", {}, BadInput, "no folder 'no/such/folder'"),
        ("hf:tiny+adapter", {}, BadInput, "has an adapter already"),
        ("tiny", {"method": "dora"}, UnknownName, "no method called 'dora'"),
        ("tiny", {"epochs": 0}, BadInput, "epochs must be a number above 0"),
        ("tiny", {"learning_rate": float("nan")}, BadInput, "learning_rate must be a number above 0"),
        ("tiny", {"rank": 0}, BadInput, "rank must be a whole number, 1 or more"),
    ],
)
def test_what_cannot_be_tuned_is_refused_at_once(base, asked, error, said):
    with pytest.raises(error) as caught:
        tune.recipe_for(base, **asked)
    assert said in str(caught.value)


def test_a_method_whose_package_is_missing_says_what_to_install(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more))
    assert base_of("tiny", sft.Recipe(method="lora")).folder == model_folder("tiny")
    with pytest.raises(MissingExtra, match=r"bitsandbytes is not installed. Type: pip install 'llmops-lab\[train\]'"):
        base_of("tiny", sft.Recipe(method="qlora"))


def test_a_training_that_goes_astray_ends_with_a_word(sets):
    with pytest.raises(LabError, match=r"the loss is nan at step \d.*lower learning_rate"):
        tune.tune(planned(sets, method="full", learning_rate=1e9, epochs=4))


def test_a_checkpoint_that_lacks_a_weight_is_told_and_a_tied_one_is_not(sets, tmp_path, warned):
    from torch.nn.modules.module import _IncompatibleKeys

    asked = planned(sets, method="full")
    trainer = sft.trainer_for(asked.base.folder, asked.encoded, [], asked.recipe, work=tmp_path)
    trainer._issue_warnings_after_load(_IncompatibleKeys(["lm_head.weight"], []))
    assert "missing keys" not in warned.text
    trainer._issue_warnings_after_load(_IncompatibleKeys(["lm_head.weight", "model.norm.weight"], []))
    assert "missing keys in the checkpoint model loaded: ['model.norm.weight']" in warned.text


def test_the_estimate_of_a_part_of_an_epoch_counts_steps_as_the_trainer_does(sets, tmp_path):
    asked = planned(sets, epochs=0.3)
    trainer = sft.trainer_for(asked.base.folder, asked.encoded, [], asked.recipe, work=tmp_path)
    trainer.train()
    assert tune.estimate(asked).steps == trainer.state.global_step == 2


def test_free_memory_is_that_of_the_container_and_unknown_where_nobody_says(tmp_path):
    assert estimate.free_memory(tmp_path) is None
    assert "nobody knows how much is free." in str(estimate.Estimate(1, 1, 1.0, 1 << 40, {}, None, "cpu"))
    files = {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:  9000 kB\n", "proc/self/cgroup": "0::/jobs/one\n"}
    files |= {
        f"sys/fs/cgroup/jobs/memory.{name}": text for name, text in (("max", "5000"), ("current", "4000"), ("stat", "inactive_file 7"))
    }
    files |= {"sys/fs/cgroup/jobs/one/memory.max": "max", "sys/fs/cgroup/jobs/one/memory.stat": "inactive_file 0"}
    for name, text in list(files.items())[:2]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert estimate.free_memory(tmp_path) == 9000 * 1024
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert estimate.free_memory(tmp_path) == 1007


def test_a_training_that_had_stopped_early_and_was_killed_before_it_was_saved_does_not_go_on(sets, monkeypatch):
    asked = planned(sets, method="full", learning_rate=0.3, epochs=6, patience=1)  # steps that are far too large
    with monkeypatch.context() as patch:
        patch.setattr(sft, "_save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tune.tune(asked)
    resumed = tune.tune(asked)
    whole = tune.tune(asked)
    assert whole.trained.stopped_early and resumed.trained.stopped_early and whole.trained.resumed_from == 0
    assert resumed.trained.resumed_from == whole.trained.last_step == resumed.trained.last_step - 1
    assert resumed.digest == whole.digest


def test_a_sweep_goes_on_after_a_failed_training_and_trains_nothing_twice(sets, home):
    recipes = sweep.recipes("tiny", {"learning_rate": [0.003, 1e9, 0.001]}, method="full", epochs=1, patience=0)
    plans = {label: tune.plan("tiny", sets, recipe) for label, recipe in recipes.items()}
    said = []
    tuned, failed = sweep.trained(plans, tell=said.append)
    assert list(tuned) == ["learning_rate=0.003", "learning_rate=0.001"] and list(failed) == ["learning_rate=1000000000.0"]
    assert "the loss is" in failed["learning_rate=1000000000.0"] and "failed, the others go on" in said[1]
    (home / "tuned" / tuned["learning_rate=0.001"].folder.name / "model.safetensors").write_bytes(b"no weights any more")
    again, _ = sweep.trained({label: plans[label] for label in tuned}, tell=said.append)
    assert again["learning_rate=0.003"] == tuned["learning_rate=0.003"] and "trained by an earlier sweep" in said[3]
    assert again["learning_rate=0.001"].digest == tuned["learning_rate=0.001"].digest and "steps" in said[4]
    with pytest.raises(LabError, match=r"no training came to its end\. learning_rate=1000000000\.0: LabError: the loss is"):
        sweep.trained({label: plans[label] for label in failed}, tell=said.append)


def test_what_is_chosen_where_nothing_is_asked_suits_the_size():
    assert (tune.recipe_for("tiny").learning_rate, tune.recipe_for("tiny").alpha) == (3e-3, 32)
    assert tune.recipe_for("tiny", learning_rate=0.5, alpha=7) == sft.Recipe(learning_rate=0.5, alpha=7)
    assert estimate.size_of(model_folder("tiny")) == 885_888 and estimate.context_of(model_folder("tiny")) == 512


def test_a_sweep_has_a_recipe_for_each_combination_and_only_verdicts_make_a_winner():
    found = sweep.recipes("tiny", {"rank": [4, 8], "learning_rate": [0.001, 0.01]}, epochs=2)
    assert [(each.rank, each.learning_rate, each.epochs) for each in found.values()] == [
        (4, 0.001, 2),
        (4, 0.01, 2),
        (8, 0.001, 2),
        (8, 0.01, 2),
    ]
    assert next(iter(found)) == "rank=4 learning_rate=0.001"
    for tried, said in (({"rnk": [1]}, "field of a recipe"), ({"rank": 4}, "as a list"), ({"rank": [4]}, "2 to 12")):
        with pytest.raises(BadInput, match=said):
            sweep.recipes("tiny", tried)
    assert sweep.leader_of({"a": 0.5, "b": 0.9, "c": 0.9}) == "b"

    def verdict(name, outcome):
        return Verdict(**dict.fromkeys(Verdict.__dataclass_fields__) | {"a": "b", "b": name, "outcome": outcome})

    won = sweep.settled("b", ["a", "b", "c"], [verdict("a", "worse"), verdict("c", "worse")])
    assert won.winner == "b" and str(won) == "b won: each of the other 2 is worse by its verdict."
    level = sweep.settled("b", ["a", "b", "c"], [verdict("a", "worse"), verdict("c", "inconclusive")])
    assert (
        level.winner is None and level.level == ("b", "c") and "no verdict sets it apart from c. Worse by their verdicts: a." in str(level)
    )
    assert str(sweep.settled("b", ["a", "b"], [verdict("a", "equivalent")])).startswith("None is distinguishable from the others: b has")
    rose = sweep.settled("b", ["a", "b"], [verdict("a", "worse"), verdict("base", "worse")], base="base")
    assert rose.gained and str(rose) == "b won: each of the other 1 is worse by its verdict. It is better than the base."
    flat = sweep.settled("b", ["b"], [verdict("base", "inconclusive")], base="base")
    assert str(flat) == "b is the only one that came to its end. No verdict says that b is better than the base."
