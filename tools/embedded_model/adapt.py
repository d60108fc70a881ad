"""Teach the embedded model the one task that it was never trained on, with a LoRA adapter, and let the workbench judge it.

OMP_NUM_THREADS=1 python tools/embedded_model/adapt.py llmops_lab/models/_tiny --out adapter
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import corpus

SEED, FRESH_SEED = 7, 99
ROWS, STEPS, BATCH = 2000, 300, 16


def adapt(base: Path, out: Path, *, rows: int = ROWS, steps: int = STEPS) -> None:
    """Train on ``rows`` drawn rows of the task ``route`` for ``steps`` batches; writes the adapter to ``out``."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    drawn = corpus.draw(SEED, rows, task=corpus.route)
    chats = [{"messages": [*row.messages, {"role": "assistant", "content": row.answer}]} for row in drawn]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=str(base),
            args=SFTConfig(
                output_dir=scratch,
                max_steps=steps,
                per_device_train_batch_size=BATCH,
                learning_rate=2e-3,
                warmup_steps=10,
                lr_scheduler_type="cosine",
                assistant_only_loss=True,
                max_length=256,
                seed=SEED,
                logging_steps=50,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                bf16=False,
                model_init_kwargs={"dtype": "float32"},
            ),
            train_dataset=Dataset.from_list(chats),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        trainer.train()
        trainer.model.save_pretrained(str(out))


def judge(base: Path, adapter: Path, rows: int = 100) -> str:
    """The verdict on the adapter against the bare model, on fresh rows; runs in a ledger of its own."""
    import llmops_lab as lab

    fresh = [
        {"id": str(number), "ticket": row.messages[-1]["content"], "answer": row.answer}
        for number, row in enumerate(corpus.draw(FRESH_SEED, rows, fresh=True, task=corpus.route))
    ]
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLMOPS_LAB_HOME"] = home
        grid = lab.grid(
            {"route": "{{ ticket }}"},
            fresh,
            models=[lab.model(f"hf:{base}", label="bare"), lab.model(f"hf:{base}+{adapter}", label="adapted")],
            scorers=["exact"],
            expected="answer",
            params={"max_tokens": 64},
            track=False,
        )
        print(grid)
        return str(lab.compare(grid, a="bare", b="adapted", by="model", scorer="exact"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="the model's folder")
    parser.add_argument("--out", type=Path, required=True, help="the adapter's folder")
    options = parser.parse_args()
    adapt(options.base, options.out)
    print(f"verdict: {judge(options.base, options.out)}")


if __name__ == "__main__":
    main()
