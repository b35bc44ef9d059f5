"""Stand-ins for parameters and buffers: fake tensors, so that tracing needs no weights and changes none."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from passes.errors import DeadkvError
from tracing.capture.memory import is_plain, memory_of


def new_fake_mode() -> FakeTensorMode:
    """A mode with static shapes in which tensors the model holds without registering them may take part."""
    return FakeTensorMode(
        shape_env=ShapeEnv(tracked_fakes=[]),  # torch.export refuses a mode without tracked fakes
        static_shapes=True,
        allow_non_fake_inputs=True,
    )


def stand_in(mode: FakeTensorMode, tensor: Tensor, name: str) -> Tensor:
    """A fake tensor with the shape, strides and dtype of `tensor`; on "cpu" where `tensor` is on "meta".

    Raises:
        DeadkvError: the tensor is sparse, a wrapper subclass (DTensor, a quantized tensor) or symbolically sized.
    """
    wraps_others: bool = is_traceable_wrapper_subclass(tensor)
    if tensor.layout is not torch.strided or wraps_others:
        raise DeadkvError(f"{name} is a {type(tensor).__name__} ({tensor.layout}); give a dense, plain tensor")
    if not is_plain(tensor):
        raise DeadkvError(f"{name} has symbolic sizes {tuple(tensor.shape)}; give a tensor with concrete sizes")
    device = torch.device("cpu") if tensor.device.type == "meta" else tensor.device
    sizes_only = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    fake = FakeTensor(mode, sizes_only, device)
    if isinstance(tensor, nn.Parameter):
        fake.requires_grad_(tensor.requires_grad)
        fake._is_param = True  # as nn.Parameter marks a tensor subclass, which it would first detach
    return fake


@dataclass(frozen=True)
class FakeState:
    """The stand-ins of everything a model registers.

    `names` gives the first registered name of a parameter or buffer by the `id` of the object or of its stand-in,
    `memories` by its memory, and `fakes` the stand-in by that name. A tied parameter has one name here.
    """

    mode: FakeTensorMode
    names: Mapping[int, str]
    memories: Mapping[Hashable, str]
    fakes: Mapping[str, Tensor]

    def name_of(self, value: object) -> str | None:
        """The first registered name of a parameter or buffer; `value` may be its stand-in, or an alias (`p.data`)."""
        if not is_plain(value):
            return None
        return self.names.get(id(value)) or self.memories.get(memory_of(value))


def fake_state(model: object, mode: FakeTensorMode) -> FakeState:
    """Stand-ins for the parameters and buffers of `model`; none where it is no module."""
    tensors = [*model.named_parameters(), *model.named_buffers()] if isinstance(model, nn.Module) else []
    fakes = {name: stand_in(mode, tensor, name) for name, tensor in tensors}
    names = {id(tensor): name for name, tensor in (*tensors, *fakes.items())}
    memories = {memory_of(tensor): name for name, tensor in (*reversed(tensors), *fakes.items())}
    return FakeState(mode, names, memories, fakes)


@dataclass(frozen=True)
class _Snapshot:
    """A module's attributes and its tables of parameters, buffers and submodules, to put back later."""

    module: nn.Module
    attributes: Mapping[str, Any]
    tables: tuple[tuple[dict[str, Any], dict[str, Any]], ...]

    @classmethod
    def of(cls, module: nn.Module) -> _Snapshot:
        tables = (module._parameters, module._buffers, module._modules)
        return cls(module, dict(module.__dict__), tuple((table, dict(table)) for table in tables))

    def restore(self) -> None:
        for table, content in ((self.module.__dict__, self.attributes), *self.tables):
            table.clear()
            table.update(content)


@contextmanager
def swapped(model: object, state: FakeState) -> Iterator[None]:
    """Let the stand-ins take the places of the parameters and buffers; whatever `forward` assigns is undone."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    snapshots = [_Snapshot.of(module) for module in modules]
    try:
        for module in modules:
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for table in tables:
                table.update((key, state.fakes[state.names[id(t)]]) for key, t in table.items() if t is not None)
        yield
    finally:
        for snapshot in snapshots:
            snapshot.restore()
