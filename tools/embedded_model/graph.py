"""Write ``model.onnx`` beside ``model.safetensors``: the same model for onnxruntime, with a key-value cache.

The graph holds no weights. It points at the bytes of the safetensors file (ONNX external data, bfloat16) and casts them,
so that there is one copy of the weights and a retrained file of the same shapes needs no new graph.

Inputs, with B rows, T new places, C cache places (at least 1; unused ones are masked), H heads of D:
    ids        int64   (B, T)
    positions  int64   (B, T)            rotary position of each new place
    bias       float32 (B, 1, T, C + T)  added to the attention scores: 0, or a large negative number to mask
    k_0 v_0 k_1 v_1 ...  float32 (B, H, C, D)  cached keys (rotated) and values of each layer
Outputs:
    logits     float32 (B, vocabulary)   of the last place
    new_k_0 new_v_0 ...  float32 (B, H, T, D)  of the new places, for the caller to put into its cache

The cache is not handed on from input to output: attention runs over cached and new places separately, and joins the
scores before the softmax. So a step copies one place, whatever the length.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = "model.safetensors"


class _Graph:
    """A list of nodes that grows; each call returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def __call__(self, op: str, *inputs: str, outputs: int | list[str] = 1, **attributes: Any) -> Any:
        from onnx import helper

        named = outputs if isinstance(outputs, list) else [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), named, **attributes))
        return named[0] if len(named) == 1 else named

    def constant(self, name: str, values: Any, dtype: type) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, name: str, shape: list[int], offset: int, length: int) -> str:
        """A bfloat16 tensor that lies in the safetensors file, as float32."""
        from onnx import TensorProto

        tensor = TensorProto(name=name, data_type=TensorProto.BFLOAT16, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self.initializers.append(tensor)
        return str(self("Cast", name, to=TensorProto.FLOAT))


def _weights(graph: _Graph, path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    (header_length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + header_length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name.removeprefix("model.")] = graph.weight(name, entry["shape"], 8 + header_length + begin, end - begin)
    return found


def _norm(graph: _Graph, x: str, scale: str) -> str:
    # y = x / sqrt(mean(x^2) + eps) * scale; onnxruntime fuses this pattern into one kernel.
    mean = graph("ReduceMean", graph("Pow", x, "two"), axes=[-1], keepdims=1)
    return str(graph("Mul", graph("Div", x, graph("Sqrt", graph("Add", mean, "epsilon"))), scale))


def _linear(graph: _Graph, x: str, *weights: str) -> str:
    """``x`` times several (out, in) weights at once, side by side."""
    joined = weights[0] if len(weights) == 1 else graph("Concat", *weights, axis=0)
    return str(graph("MatMul", x, graph("Transpose", joined, perm=[1, 0])))


def _attention(graph: _Graph, x: str, layer: int, w: dict[str, str]) -> str:
    at = f"layers.{layer}.self_attn"
    joined = _linear(graph, x, *(w[f"{at}.{part}_proj.weight"] for part in "qkv"))
    heads = graph("Transpose", graph("Reshape", joined, "to_heads"), perm=[0, 2, 1, 3])
    turning, value = graph("Split", heads, "rotated_and_not", axis=1, outputs=[f"turning_{layer}", f"new_v_{layer}"])
    first, second = graph("Split", turning, "halves", axis=3, outputs=2)
    swapped = graph("Concat", second, first, axis=3)
    turned = graph("Add", graph("Mul", turning, "cosines"), graph("Mul", swapped, "sines"))
    query, key = graph("Split", turned, "query_and_key", axis=1, outputs=[f"query_{layer}", f"new_k_{layer}"])
    query = graph("Mul", query, "scale")
    old = graph("MatMul", query, graph("Transpose", f"k_{layer}", perm=[0, 1, 3, 2]))
    new = graph("MatMul", query, graph("Transpose", key, perm=[0, 1, 3, 2]))
    share = graph("Softmax", graph("Add", graph("Concat", old, new, axis=3), "bias"), axis=3)
    share_old, share_new = graph("Split", share, "old_and_new", axis=3, outputs=2)
    mixed = graph("Add", graph("MatMul", share_old, f"v_{layer}"), graph("MatMul", share_new, value))
    flat = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), "from_heads")
    return _linear(graph, flat, w[f"{at}.o_proj.weight"])


def _feed_forward(graph: _Graph, x: str, layer: int, w: dict[str, str]) -> str:
    at = f"layers.{layer}.mlp"
    gate, up = graph("Split", _linear(graph, x, w[f"{at}.gate_proj.weight"], w[f"{at}.up_proj.weight"]), "gate_and_up", axis=2, outputs=2)
    return _linear(graph, graph("Mul", graph("Mul", gate, graph("Sigmoid", gate)), up), w[f"{at}.down_proj.weight"])


def _shared(graph: _Graph, config: dict[str, Any]) -> None:
    """Constants, the rotary angles and the cache's length, computed once for all layers."""
    heads, dim, hidden = config["num_attention_heads"], config["head_dim"], config["hidden_size"]
    theta = config["rope_parameters"]["rope_theta"]
    graph.constant("two", 2.0, np.float32)
    graph.constant("epsilon", config["rms_norm_eps"], np.float32)
    graph.constant("scale", dim**-0.5, np.float32)
    graph.constant("to_heads", [0, 0, 3 * heads, dim], np.int64)
    graph.constant("from_heads", [0, 0, hidden], np.int64)
    graph.constant("rotated_and_not", [2 * heads, heads], np.int64)
    graph.constant("halves", [dim // 2] * 2, np.int64)
    graph.constant("query_and_key", [heads] * 2, np.int64)
    graph.constant("gate_and_up", [config["intermediate_size"]] * 2, np.int64)
    graph.constant("frequencies", theta ** (-np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)), np.float32)
    graph.constant("axis_1", [1], np.int64)
    graph.constant("axis_3", [3], np.int64)
    graph.constant("index_1", [1], np.int64)
    graph.constant("index_2", [2], np.int64)
    graph.constant("last", -1, np.int64)
    places = graph("Unsqueeze", graph("Unsqueeze", graph("Cast", "positions", to=1), "axis_1"), "axis_3")
    angles = graph("Mul", places, "frequencies")
    sines = graph("Sin", angles)
    cosines = graph("Cos", angles)
    graph("Concat", cosines, cosines, axis=3, outputs=["cosines"])
    # The rotation takes the second half with a minus; the sign is put into the sines once.
    graph("Concat", graph("Neg", sines), sines, axis=3, outputs=["sines"])
    cached = graph("Gather", graph("Shape", "k_0"), "index_2")
    graph("Concat", cached, graph("Gather", graph("Shape", "ids"), "index_1"), axis=0, outputs=["old_and_new"])


def write(folder: Path) -> Path:
    """Write ``folder/model.onnx`` for the Llama model in ``folder``; returns its path."""
    import onnx
    from onnx import TensorProto, helper

    config = json.loads((folder / "config.json").read_text("utf-8"))
    heads, dim, layers = config["num_attention_heads"], config["head_dim"], config["num_hidden_layers"]
    if config["num_key_value_heads"] != heads or not config["tie_word_embeddings"]:
        raise ValueError("this graph is written for one key per query head and tied embeddings")
    graph = _Graph()
    w = _weights(graph, folder / WEIGHTS)
    _shared(graph, config)
    x = graph("Gather", w["embed_tokens.weight"], "ids", axis=0)
    for layer in range(layers):
        x = graph("Add", x, _attention(graph, _norm(graph, x, w[f"layers.{layer}.input_layernorm.weight"]), layer, w))
        x = graph("Add", x, _feed_forward(graph, _norm(graph, x, w[f"layers.{layer}.post_attention_layernorm.weight"]), layer, w))
    last = _norm(graph, graph("Gather", x, "last", axis=1), w["norm.weight"])
    graph("MatMul", last, graph("Transpose", w["embed_tokens.weight"], perm=[1, 0]), outputs=["logits"])

    cache = ["B", heads, "C", dim]
    inputs = [("ids", TensorProto.INT64, ["B", "T"]), ("positions", TensorProto.INT64, ["B", "T"])]
    inputs += [("bias", TensorProto.FLOAT, ["B", 1, "T", "C+T"])]
    inputs += [(f"{kind}_{layer}", TensorProto.FLOAT, cache) for layer in range(layers) for kind in "kv"]
    outputs = [("logits", TensorProto.FLOAT, ["B", config["vocab_size"]])]
    outputs += [(f"new_{kind}_{layer}", TensorProto.FLOAT, ["B", heads, "T", dim]) for layer in range(layers) for kind in "kv"]
    made = helper.make_graph(
        graph.nodes,
        "llama",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        graph.initializers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))
    return path
