"""Document types to traced values: fake tensors and symbolic numbers in one FakeTensorMode."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.sym_node import SymNode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from passes.errors import DeadkvError
from tracing.graph.document import Const, Dim, ScalarType, TensorType, Type
from tracing.graph.limits import MAX_SYMBOLS
from tracing.graph.natural import natural
from tracing.graph.symbols import parse, symbol
from tracing.graph.values import constant, contiguous_stride

_SYMBOLIC: dict[str, tuple[type, type]] = {
    "int": (int, torch.SymInt),
    "float": (float, torch.SymFloat),
    "bool": (bool, torch.SymBool),
}
_FIRST_HINT = 7919  # sizes that no code specializes on, a different one for each symbol


class FakeValues:
    """Builds values on device cpu; equal symbol names become one symbol of one shape environment."""

    def __init__(self) -> None:
        self.shapes = ShapeEnv()
        self.mode = FakeTensorMode(shape_env=self.shapes)
        self._symbols: dict[str, Any] = {}

    def value(self, found: Type | None) -> Any:
        """What `node.meta["val"]` holds for a type; None where the type is unknown."""
        match found:
            case TensorType():
                return self._tensor(found)
            case ScalarType(kind, text):
                return self.number(kind, text)
            case tuple():
                return tuple(self.value(item) for item in found)
        return None

    def number(self, kind: str, text: str) -> Any:
        """The int, float or bool that `text` writes, symbolic unless it is a literal."""
        try:
            return constant(Const(kind, text))
        except DeadkvError:
            return self._symbolic(kind, text)

    def _tensor(self, found: TensorType) -> torch.Tensor:
        shape = tuple(self._dim(d) for d in found.shape)
        stride = contiguous_stride(shape) if found.stride is None else tuple(self._dim(d) for d in found.stride)
        with self.mode:
            return torch.empty_strided(shape, stride, dtype=constant(Const("dtype", found.dtype)), device="cpu")

    def _dim(self, dim: Dim) -> Any:
        return dim if isinstance(dim, int) else self.number("int", dim)

    def _symbolic(self, kind: str, text: str) -> Any:
        expression = parse(text)
        names = sorted((s.name for s in expression.free_symbols), key=natural)
        expression = expression.xreplace({symbol(name): self._symbol(name) for name in names})
        number_class, wrapper = _SYMBOLIC[kind]
        return wrapper(SymNode(expression, self.shapes, number_class, None))

    def _symbol(self, name: str) -> Any:
        if name not in self._symbols:
            self._symbols[name] = self._new_symbol(name)
        return self._symbols[name]

    def _new_symbol(self, name: str) -> Any:
        if len(self._symbols) >= MAX_SYMBOLS:
            raise DeadkvError(f"more than {MAX_SYMBOLS} symbols, the limit")
        if name.startswith("zuf"):
            return self.shapes.create_unbacked_symfloat().node.expr
        if name.startswith("u"):
            return self.shapes.create_unbacked_symint().node.expr
        from torch._dynamo.source import ConstantSource  # Dynamo takes two seconds to import

        hint = _FIRST_HINT + 2 * len(self._symbols)
        return self.shapes.create_symbol(
            float(hint) if name.startswith("zf") else hint,
            source=ConstantSource(name),
            dynamic_dim=DimDynamic.DYNAMIC,
            constraint_dim=None,
        )
