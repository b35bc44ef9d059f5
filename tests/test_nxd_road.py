"""The passes under NxD's builders, against stand-ins that call and check what the real ones do."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passes import DeadkvError
from tests.support.fakes.neuronx_distributed import BaseModelInstance, ModelBuilder, trace
from tests.support.fakes.neuronx_distributed_inference import DecoderModelInstance, ModelWrapper, NeuronDecoder, weights
from tests.support.releases import needs_torch_xla
from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights
from tracing.integrations.nxd import (
    PrunedForward,
    PrunedModelInstance,
    hook_model_wrapper,
    pruned_for_nxd,
    with_passes_nxd,
)

BUCKETS = (16, 32)
Wrap = Callable[[Any], Any]


def built(wrapper: ModelWrapper, wrap: Wrap = lambda instance: instance) -> ModelBuilder:
    """A builder with the one submodel that `wrapper` stands for."""
    builder = ModelBuilder(None, 1, lambda: weights(wrapper.variant, max(wrapper.buckets)))
    return builder.add(
        key=wrapper.tag, model_instance=wrap(wrapper.get_model_instance()), example_inputs=wrapper.input_generator()
    )


@pytest.fixture(scope="module")
def wrapper() -> ModelWrapper:
    return ModelWrapper("token_generation_model", "base", BUCKETS)


@pytest.fixture(scope="module")
def plain(wrapper: ModelWrapper) -> ModelBuilder:
    return built(wrapper)


@pytest.fixture(scope="module")
def pruned(wrapper: ModelWrapper) -> ModelBuilder:
    return built(wrapper, with_passes_nxd)


def graphs(instance: PrunedModelInstance) -> list[Any]:
    """What the instance's module has captured since its last `get`."""
    forward = instance.module.forward
    assert isinstance(forward, PrunedForward)
    return list(forward.graphs.values())


def test_every_bucket_is_traced_alike_and_pruned(plain: ModelBuilder, pruned: ModelBuilder) -> None:
    expected, found = plain.trace(), pruned.trace()
    for ours, theirs in zip(found["token_generation_model"], expected["token_generation_model"], strict=True):
        assert ours.weight_name_to_idx == theirs.weight_name_to_idx
        assert ours.aliases == theirs.aliases
        assert type(ours.outputs) is type(theirs.outputs)
        for mine, other in zip(ours.outputs, theirs.outputs, strict=True):
            torch.testing.assert_close(mine, other)
    (graph,) = graphs(pruned.submodels["token_generation_model"].model_instance)
    assert not [n for n in graph.graph.nodes if "permute" in str(n.target) and not n.users]
    assert not any("index_select" in str(n.target) for n in graph.graph.nodes)


def test_the_module_stays_what_it_is() -> None:
    instance = DecoderModelInstance("base", BUCKETS)
    wrapped = with_passes_nxd(instance)
    wrapped.load_module()
    state = {name: id(tensor) for name, tensor in instance.module.named_parameters()}
    module, aliases = wrapped.get(1)
    assert module is instance.module and aliases is instance.input_output_aliases
    assert type(module) is NeuronDecoder and module.n_positions == BUCKETS[1]
    assert {name: id(tensor) for name, tensor in module.named_parameters()} == state
    assert [name for name, _ in module.named_modules()] == [
        name for name, _ in NeuronDecoder("base", 32).named_modules()
    ]
    assert list(module.state_dict()) == list(NeuronDecoder("base", 32).state_dict())


def test_sharding_and_loading_walk_the_module_as_ever(plain: ModelBuilder, pruned: ModelBuilder) -> None:
    ours, theirs = pruned.shard_checkpoint(), plain.shard_checkpoint()
    assert list(ours) == list(theirs) and "not.a.weight" not in ours
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_bucket_is_captured_after_get_has_set_it() -> None:
    wrapped = with_passes_nxd(DecoderModelInstance("base", BUCKETS))
    wrapped.load_module()
    for rank, bucket in enumerate(BUCKETS):
        decoder = build_decoder("tiny", "base", batch=2, bucket=bucket)
        module, _ = wrapped.get(rank)
        module(*random_inputs(decoder, 3, padded=False))
        (graph,) = graphs(wrapped)
        assert graph.meta["capture"].inputs[0] == "input_ids"
        table = next(n for n in graph.graph.find_nodes(op="placeholder") if n.target == "active_block_table")
        assert table.meta["val"].shape == (2, bucket // decoder.config.block_size)
    assert not isinstance(module.forward.forward, PrunedForward)


def test_it_runs_on_the_parameters_that_the_module_has_now() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("shift", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.shift

    wrapped = with_passes_nxd(BaseModelInstance(Scaled, {}))
    wrapped.load_module()
    module, _ = wrapped.get(None)
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(module(torch.ones(2)), torch.ones(2))
    module.weight = nn.Parameter(torch.full((2,), 3.0), requires_grad=False)
    module.shift.add_(1)
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 4.0))
    assert len(calls) == 2 and len(module.forward.graphs) == 1
    module(torch.ones(1, 2))
    assert len(module.forward.graphs) == 2


def test_what_the_instance_has_beside_is_reached() -> None:
    instance = DecoderModelInstance("base", BUCKETS)
    wrapped = with_passes_nxd(instance, ["prune-prefix-cache{policy=liveness}"])
    assert wrapped.buckets == BUCKETS
    with pytest.raises(AttributeError, match="no_such"):
        wrapped.no_such  # noqa: B018
    simple = with_passes_nxd(BaseModelInstance(nn.Identity, {}))
    assert pickle.loads(pickle.dumps(simple)).inner.module_cls is nn.Identity


class Masked(nn.Module):
    """Writes in place into an expanded mask, as NxDI's block token generation does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, mask: Tensor, active: Tensor) -> Tensor:
        heads = mask.expand(-1, 4, -1)
        heads[:, :, -1:] = active
        return heads * self.weight


class Branches(nn.Module):
    """Its control flow depends on a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if bool(x.sum() > 0) else x


def module_of(module_cls: Callable[[], nn.Module], **options: Any) -> nn.Module:
    wrapped = with_passes_nxd(BaseModelInstance(module_cls, {}), **options)
    wrapped.load_module()
    return wrapped.get(None)[0]


def test_a_module_that_cannot_be_captured_is_an_error_that_says_why() -> None:
    with pytest.raises(
        DeadkvError, match=r"at test_nxd_road\.py:\d+: it writes in place into an expanded tensor; clone"
    ):
        module_of(Masked)(torch.zeros(1, 1, 3), torch.ones(1, 4, 1))
    with pytest.raises(DeadkvError, match="its control flow or a shape depends on the values of a tensor"):
        module_of(Branches)(torch.ones(2))


def test_on_request_it_is_traced_unpruned() -> None:
    module = module_of(Branches, keep_unpruned=True)
    with pytest.warns(UserWarning, match="deadkv: Branches is traced unpruned: the model cannot be captured"):
        assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))


def test_only_the_submodel_for_token_generation_is_hooked(wrapper: ModelWrapper) -> None:
    context = ModelWrapper("context_encoding_model", "cte", (32,))
    with hook_model_wrapper(ModelWrapper) as hook:
        assert isinstance(wrapper.get_model_instance(), PrunedModelInstance)
        assert isinstance(context.get_model_instance(), DecoderModelInstance)
        assert isinstance(built(wrapper).submodels[wrapper.tag].model_instance, PrunedModelInstance)
    assert isinstance(wrapper.get_model_instance(), DecoderModelInstance)
    hook.undo()
    assert "get_model_instance" in vars(ModelWrapper)


def test_one_wrapper_object_is_hooked_alone(wrapper: ModelWrapper) -> None:
    other = ModelWrapper(wrapper.tag, "base", BUCKETS)
    hook = hook_model_wrapper(other, tags=[wrapper.tag])
    assert isinstance(other.get_model_instance(), PrunedModelInstance)
    assert isinstance(wrapper.get_model_instance(), DecoderModelInstance)
    hook.undo()
    assert isinstance(other.get_model_instance(), DecoderModelInstance) and not {"get_model_instance"} & set(
        vars(other)
    )


def test_what_cannot_be_hooked() -> None:
    with pytest.raises(DeadkvError, match="Identity has no get_model_instance: give NxD Inference's ModelWrapper"):
        hook_model_wrapper(nn.Identity)
    with pytest.raises(DeadkvError, match="unknown pass"):
        hook_model_wrapper(ModelWrapper, ["no-such-pass"])


def token_generation(variant: str) -> tuple[Decoder, tuple[Tensor, ...]]:
    decoder = build_decoder("tiny", variant, batch=2, bucket=32, device="cpu")
    random_weights(decoder, 0)
    random_caches(decoder, 1)
    return decoder, random_inputs(decoder, 3, padded=False)


def test_the_functional_api_finds_the_cache_updates() -> None:
    decoder, inputs = token_generation("cache-update")
    pools = [pool.clone() for pool in decoder.aliases()]
    expected = decoder(*inputs)
    after = [pool.clone() for pool in decoder.aliases()]
    for pool, old in zip(decoder.aliases(), pools, strict=True):
        pool.copy_(old)
    pruned = pruned_for_nxd(decoder, inputs)
    found = trace(pruned, args=inputs)
    assert found.provided_args == decoder.input_names
    assert found.model_params == tuple(name for name, _ in decoder.named_parameters())
    assert list(found.hlo.aliases) == [f"kv_mgr.past_key_values.{i}" for i in range(len(pools))]
    torch.testing.assert_close(found.hlo.outputs[0], expected[0])
    for pool, new in zip(decoder.aliases(), after, strict=True):
        torch.testing.assert_close(pool, new)
    assert not any("index_select" in str(n.target) for n in pruned.graph.nodes)


def test_the_functional_api_with_keywords() -> None:
    decoder, inputs = token_generation("base")
    given = dict(zip(decoder.input_names, inputs, strict=True))
    pruned = pruned_for_nxd(decoder, inputs[:2], dict(list(given.items())[2:]))
    found = trace(pruned, kwargs=given)
    for ours, theirs in zip(found.hlo.outputs, decoder(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_lambda_over_a_graph_is_what_the_functional_api_refuses() -> None:
    decoder, inputs = token_generation("base")
    pruned = pruned_for_nxd(decoder, inputs)
    with pytest.raises(NotImplementedError):
        trace(lambda *args: pruned(*args), args=inputs)


def test_someone_elses_model_on_each_builder_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    x = torch.randn(2, 3)
    pruned = pruned_for_nxd(model, (x,))
    assert torch.equal(trace(pruned, args=x).hlo.outputs, model(x))
    builder = ModelBuilder(None, 1, dict).add("mlp", with_passes_nxd(BaseModelInstance(lambda: model, {})), [(x,)])
    (made,) = builder.trace()["mlp"]
    assert torch.equal(made.outputs, nn.Sequential(*model)(x))
    assert list(made.weight_name_to_idx) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((torch.ones(1),), None, r"the inputs do not fit Two\.forward\(x.*missing a required argument: 'y'"),
        ((torch.ones(1), [torch.ones(1)]), None, "NxD takes tensors only, but input 'y' is a list"),
        ((torch.ones(1), torch.ones(1)), {"w": torch.ones(1)}, "input 'w' of .* cannot be given by position"),
    ],
)
def test_inputs_that_the_functional_api_cannot_take(args: Any, kwargs: Any, message: str) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor, z: Tensor | None = None, w: Tensor | None = None) -> Tensor:
            return x + y

    with pytest.raises(DeadkvError, match=message):
        pruned_for_nxd(Two(), args, kwargs)


@needs_torch_xla
def test_on_the_xla_device_the_pruned_forward_lowers_to_the_same_bytes() -> None:
    """Captured with its parameters on the device, as NxD traces it; stock torch_xla, one lowering a process."""
    (plain_nodes, plain), (nodes, pruned) = (_lowered(how) for how in ("plain", "pruned"))
    assert plain_nodes == "0" and int(nodes) > 100
    assert plain == pruned


def _lowered(how: str) -> list[str]:
    command = [sys.executable, "-m", "tests.support.lazy_forward", how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()[-1].split()
