"""Train the embedded model from nothing: corpus, tokenizer, weights, graph. About 7 minutes on one core.

    OMP_NUM_THREADS=1 python tools/embedded_model/train.py --out DIR

The same seed gives the same weights, to the byte, on the same machine with the same versions of torch. Another kind of
CPU rounds differently, so that its weights differ in the last bits.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import corpus
import graph
import vocabulary

ROWS, SEED, BATCH, PEAK = 80_000, 7, 10, 2.5e-3
PROMPT_WEIGHT = 0.1  # of the loss; answer tokens weigh 1
Encoded = tuple[list[int], int]


def encode(tokenizer: Any, rows: Sequence[corpus.Row]) -> list[Encoded]:
    """Token ids of each whole chat, and where its last answer begins."""
    heads = tokenizer.apply_chat_template([row.messages for row in rows], add_generation_prompt=True, tokenize=False)
    tails = [f" {row.answer}<|end|>" for row in rows]
    head_ids = tokenizer(heads, add_special_tokens=False)["input_ids"]
    tail_ids = tokenizer(tails, add_special_tokens=False)["input_ids"]
    return [(head + tail, len(head)) for head, tail in zip(head_ids, tail_ids, strict=True) if len(head) + len(tail) <= vocabulary.CONTEXT]


def batches(rows: list[Encoded], seed: int) -> Iterator[list[Encoded]]:
    """Rows of like length together, in an order that the seed fixes."""
    rng = Random(seed)
    order = list(rows)
    rng.shuffle(order)
    made: list[list[Encoded]] = []
    for start in range(0, len(order), BATCH * 64):
        pool = sorted(order[start : start + BATCH * 64], key=lambda row: len(row[0]))
        made += [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    rng.shuffle(made)
    yield from made


def new_model(seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.SIZE,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=320,
            max_position_embeddings=vocabulary.CONTEXT,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
            attn_implementation="eager",  # at this size faster than sdpa
        )
    )


def loss_of(model: Any, batch: list[Encoded]) -> Any:
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    weight = torch.zeros(len(batch), width)
    for i, (row, answer_at) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        weight[i, : len(row)] = PROMPT_WEIGHT
        weight[i, answer_at : len(row)] = 1.0
    # Padding is on the right here, so that the causal mask alone keeps it out of every real place.
    logits = model(input_ids=ids).logits
    each = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weight[:, 1:].flatten()
    return (each * weights).sum() / weights.sum()


def train(rows: list[Encoded], *, seed: int, steps: int | None = None) -> Any:
    """One pass over the rows with AdamW, cosine to zero. ``steps`` ends it early (for a check of determinism)."""
    import torch

    torch.set_num_threads(1)
    model = new_model(seed)
    plan = list(batches(rows, seed))[:steps]
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=PEAK, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=len(plan) + 1, pct_start=0.05, cycle_momentum=False)
    began, tokens = time.process_time(), 0
    for step, batch in enumerate(plan, 1):
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        tokens += sum(len(row[0]) for row in batch)
        if step % 250 == 0:
            spent = time.process_time() - began
            print(f"step {step}/{len(plan)}  loss {loss.item():.3f}  {tokens / spent:,.0f} tokens/CPU-s  {spent:.0f} CPU-s", flush=True)
    return model


def save(model: Any, tokenizer: Any, out: Path) -> str:
    """Write the folder that transformers loads. Returns the SHA-256 of the weights file."""
    import torch
    from transformers import GenerationConfig

    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0, max_new_tokens=64, do_sample=False)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / graph.WEIGHTS).chmod(0o644)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def run(out: Path, *, rows: int = ROWS, seed: int = SEED, steps: int | None = None) -> str:
    """The whole story; returns the SHA-256 of the weights file."""
    drawn = list(corpus.draw(seed, rows))
    tokenizer = vocabulary.learn("\n".join([*(text for _, text in row.turns), f" {row.answer}"]) for row in drawn[:20_000])
    encoded = encode(tokenizer, drawn)
    print(f"{len(encoded):,} rows, {sum(len(ids) for ids, _ in encoded):,} tokens", flush=True)
    model = train(encoded, seed=seed, steps=steps)
    digest = save(model, tokenizer, out)
    graph.write(out)
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"training rows, one pass (default {ROWS:,})")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    options = parser.parse_args()
    print("sha256", run(options.out, rows=options.rows, seed=options.seed, steps=options.steps))


if __name__ == "__main__":
    main()
