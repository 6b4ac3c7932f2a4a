"""Nested state is stored with its tensors, keys, types and the order of dimensions in memory."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.trees import assert_equal
from vae_plugin.training.trees import STRUCTURE, read_tree, write_tree

SHARED = torch.arange(4.0)
TREES = [
    {},
    [],
    None,
    torch.ones(2, dtype=torch.bool),
    {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "param_groups": [{"betas": (0.9, 0.99), "foreach": None}]},
    {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "a.b_": torch.full((1,), 2.0)},
    {0: torch.zeros(1), "0": torch.ones(1)},
    {"twice": [SHARED, SHARED, SHARED[1:3], SHARED[::2]]},
    {"numbers": [True, 1, 1.5, -0.0, math.inf, "ü", 2**70], "empty": torch.zeros(0, 3)},
    {"bf16": torch.ones(2).bfloat16(), "bytes": torch.arange(3, dtype=torch.uint8), "scalar": torch.tensor(2**40)},
]


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_a_tree_comes_back(tree, tmp_path):
    write_tree(tmp_path / "t.safetensors", tree)
    assert_equal(read_tree(tmp_path / "t.safetensors"), tree)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_the_order_in_memory_comes_back(order, tmp_path):
    """The fused kernels of AdamW want the moments to lie as the weights do."""
    x = torch.randn(2, 3, 4, 5).permute(order)
    write_tree(tmp_path / "t.safetensors", {"x": x})
    found = read_tree(tmp_path / "t.safetensors")["x"]
    assert torch.equal(found, x)
    assert found.stride() == x.stride()


def test_weights_are_the_file_that_safetensors_writes(tmp_path):
    weights = {"a.weight": torch.randn(2, 3), "a.bias": torch.randn(2)}
    write_tree(tmp_path / "t.safetensors", weights)
    assert_equal(dict(sorted(load_file(tmp_path / "t.safetensors").items())), dict(sorted(weights.items())))
    save_file(weights, tmp_path / "plain.safetensors")
    assert_equal(dict(sorted(read_tree(tmp_path / "plain.safetensors").items())), dict(sorted(weights.items())))


@pytest.mark.parametrize("leaf", [object(), {1.5: 2}, {"a": {3}}, 1j])
def test_nothing_else_is_stored(leaf, tmp_path):
    with pytest.raises(TypeError):
        write_tree(tmp_path / "t.safetensors", leaf)


@pytest.mark.parametrize(
    "structure",
    [
        "[]", "{}", '{"set": []}', '{"dict": 3}', '{"dict": [1]}', '{"dict": [[[], 1]]}', '{"tensor": "b"}',
        '{"tensor": "a", "order": [0, 0]}', '{"tensor": "a", "order": "x"}', "not json", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_structure_that_cannot_be_is_a_value_error(structure, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "t.safetensors", metadata={STRUCTURE: structure})
    with pytest.raises(ValueError, match=r"."):
        read_tree(tmp_path / "t.safetensors")


def test_a_file_that_is_cut_is_a_value_error(tmp_path):
    write_tree(tmp_path / "t.safetensors", {"a": torch.arange(9.0)})
    whole = (tmp_path / "t.safetensors").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "t.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"."):
            read_tree(tmp_path / "t.safetensors")
    assert json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["a"]["shape"] == [9]
