"""`trace_with_passes` against a stand-in with the documented signature of `torch_neuronx.trace`."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passes import DeadkvError, PrunePrefixCache
from tests.support.fakes.torch_neuronx import Calls, documented_keywords, installed
from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights
from tracing.integrations.torch_neuronx import trace_with_passes


@pytest.fixture
def neuronx() -> Iterator[Calls]:
    with installed() as calls:
        yield calls


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    made = build_decoder("tiny", "base", batch=2, bucket=32, device="cpu")
    random_weights(made, 0)
    random_caches(made, 1)
    return made


class Gathers(nn.Module):
    """Someone else's model, without a cache that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = nn.Parameter(torch.arange(12.0).reshape(4, 3), requires_grad=False)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor, rows: Tensor) -> dict[str, Any]:
        prefix = self.cache.index_select(0, rows)
        return {"y": x + prefix.sum(0) * self.scale, "states": (self.cache.index_add(0, rows, x.expand(2, 3)),)}


def test_it_takes_the_keywords_of_the_real_one() -> None:
    ours = inspect.signature(trace_with_passes).parameters
    keywords = {name for name, parameter in ours.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert keywords - {"passes", "frontend"} == documented_keywords()
    assert list(ours)[:2] == ["func", "example_inputs"]


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_the_decoder_is_traced_pruned(frontend: str, decoder: Decoder, neuronx: Calls) -> None:
    inputs = random_inputs(decoder, 3, padded=False)
    traced = trace_with_passes(
        decoder, inputs, input_output_aliases=decoder.aliases(), compiler_workdir="work", frontend=frontend,
        compiler_args="--target inf2", inline_weights_to_neff=False, cpu_backend=True,
    )  # fmt: skip
    names = dict(decoder.named_parameters())
    assert all(names[name] is parameter for name, parameter in traced.func.named_parameters())
    assert all(key is pool for key, pool in zip(traced.aliases, decoder.aliases(), strict=True))
    assert list(traced.aliases.values()) == list(decoder.aliases().values())
    assert traced.options == {
        "compiler_workdir": "work", "compiler_args": "--target inf2", "partitioner_config": None,
        "inline_weights_to_neff": False, "cpu_backend": True,
    }  # fmt: skip
    assert not [n for n in traced.func.graph.nodes if "permute" in str(n.target) and not n.users]
    with torch.no_grad():
        expected = decoder(*inputs)
    assert type(traced.outputs) is type(expected)
    for ours, theirs in zip(traced.outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_model_without_a_dead_cache_is_traced_as_it_is(neuronx: Calls) -> None:
    model, inputs = Gathers(), (torch.ones(3), torch.tensor([0, 2]))
    traced = trace_with_passes(model, inputs, input_output_aliases={model.cache: 1})
    assert list(traced.outputs) == ["y", "states"] and type(traced.outputs["states"]) is tuple
    assert torch.equal(traced.outputs["y"], model(*inputs)["y"])
    assert [str(n.target) for n in traced.func.graph.nodes].count("aten.index_select.default") == 1


def test_a_function_of_one_tensor(neuronx: Calls) -> None:
    weight = torch.full((2,), 3.0)
    traced = trace_with_passes(lambda x: x * weight, torch.ones(2))
    assert torch.equal(traced(torch.ones(2)), weight)


def test_an_alias_must_be_a_parameter(neuronx: Calls) -> None:
    model, inputs = Gathers(), (torch.ones(3), torch.tensor([0, 2]))
    with pytest.raises(DeadkvError, match="key for output 1 is not a parameter of the model"):
        trace_with_passes(model, inputs, input_output_aliases={torch.zeros(4, 3): 1})  # type: ignore[dict-item]
    with pytest.raises(DeadkvError, match=r"alias 'scale' -> output 1: the graph has no parameter of that name"):
        trace_with_passes(model, inputs, input_output_aliases={model.scale: 1})  # type: ignore[dict-item]
    with pytest.raises(DeadkvError, match="key for output 0 is not a parameter"):
        trace_with_passes(lambda x: x + 1, torch.ones(2), input_output_aliases={model.cache: 0})
    assert not neuronx.traced


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([torch.ones(3)], "example_inputs is a list: give a tensor or a tuple of tensors"),
        ((torch.ones(3), [torch.tensor([1])]), r"takes tensors only, but input '1' is \["),
        ((torch.ones(3), torch.ones(2, device="meta")), "needs real tensors, but '1' has no values"),
        ((torch.ones(3),), r"do not fit Gathers\.forward"),
    ],
)
def test_inputs_that_cannot_be_used(given: Any, message: str, neuronx: Calls) -> None:
    with pytest.raises(DeadkvError, match=message):
        trace_with_passes(Gathers(), given)


def test_weights_without_values(neuronx: Calls) -> None:
    with torch.device("meta"):
        model = Gathers()
    with pytest.raises(DeadkvError, match="needs real tensors, but 'cache' has no values: load the weights first"):
        trace_with_passes(model, (torch.ones(3), torch.tensor([0, 2])))


def test_inputs_keep_their_places(neuronx: Calls) -> None:
    class OnlyTable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.past_key_values = nn.ParameterList([nn.Parameter(torch.zeros(4, 2, 1, 2), requires_grad=False)])

        def forward(self, x: Tensor, active_block_table: Tensor) -> Tensor:
            blocks = self.past_key_values[0].index_select(0, active_block_table.reshape(-1))
            blocks.reshape(1, -1, 1, 2).permute(0, 2, 1, 3)
            return x + 1

    given = (torch.ones(2), torch.zeros(1, 2, dtype=torch.int32))
    kept = trace_with_passes(OnlyTable(), given, passes=[PrunePrefixCache(policy="liveness")])
    assert len(kept.inputs) == 2 and "aten.permute.default" not in str(kept.func.graph)
    with pytest.raises(DeadkvError, match="leave out its option shrink_inputs"):
        trace_with_passes(OnlyTable(), given, passes=[PrunePrefixCache(policy="liveness", shrink_inputs=True)])


def test_everything_else_is_by_keyword(neuronx: Calls) -> None:
    with pytest.raises(DeadkvError, match="everything else by keyword"):
        trace_with_passes(lambda x: x, torch.ones(1), {})
    with pytest.raises(DeadkvError, match="unknown pass 'prune'"):
        trace_with_passes(lambda x: x, torch.ones(1), passes=["prune"])


def test_the_package_is_missing() -> None:
    assert "torch_neuronx" not in sys.modules
    with pytest.raises(DeadkvError, match=r"torch_neuronx is not installed: .*pip install .*pip\.repos\.neuron"):
        trace_with_passes(lambda x: x, torch.ones(1))


def test_the_placeholder_of_the_public_index() -> None:
    with (
        installed(trace=None),
        pytest.raises(DeadkvError, match=r"has no trace: it is not the wheel of Neuron's index; .*pip install"),
    ):
        trace_with_passes(lambda x: x, torch.ones(1))


def test_a_release_that_is_too_old() -> None:
    def old(func: Any, example_inputs: Any, *_: Any, input_output_aliases: Any = None, compiler_workdir: Any = None,
            compiler_args: Any = None, options: Any = None) -> None:  # fmt: skip
        raise AssertionError("must not be called")

    with (
        installed(trace=old),
        pytest.raises(
            DeadkvError,
            match=r"is too old: its trace takes no partitioner_config, inline_weights_to_neff, cpu_backend; pip inst",
        ),
    ):
        trace_with_passes(lambda x: x, torch.ones(1))


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    def fails(func: Any, example_inputs: Any, *_: Any, **options: Any) -> None:
        (tmp_path / "log-neuron-cc.txt").write_text("\n".join(f"line {i}" for i in range(30)))
        raise RuntimeError("neuronx-cc failed with 70\n[F137] out of memory")

    with installed(trace=fails), pytest.raises(DeadkvError) as raised:
        trace_with_passes(lambda x: x + 1, torch.ones(1), compiler_workdir=str(tmp_path))
    message = str(raised.value)
    assert message.startswith(
        "torch_neuronx.trace failed: neuronx-cc failed with 70 | [F137] out of memory; last lines"
    )
    assert message.endswith("line 28 | line 29") and "line 19 " not in message and "\n" not in message
