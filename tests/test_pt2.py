"""`.pt2` archives: the graph that torch.export wrote, read as data, and hostile archives, of which nothing runs."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from passes.errors import DeadkvError
from tests.support.hostile import assert_one_line
from tracing import capture
from tracing.decoder import build_decoder
from tracing.graph import document, graph_module, text
from tracing.graph.pt2 import is_archive, load_archive
from tracing.graph.pt2.archive import read_archive
from tracing.graph.pt2.reader import read_program
from tracing.graph.targets import OpaqueTarget

MODEL, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"


class Parts(nn.Module):
    """What the schema spells differently: several results, branches, tied state, constants of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.tied = self.weight
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
        values, indices = torch.topk(x @ self.weight @ self.tied, 2)
        chosen = torch.cond(flag.any(), lambda v: v.sin() + 1, lambda v: v.cos() * float("inf"), (values,))
        grown = torch.full((x.shape[0] * 2, 3), 1.5, dtype=torch.bfloat16)
        return chosen, indices.to(torch.int32), grown, torch.cat([x.t(), x.t()], 1), self.steps + 1


def exported(model: nn.Module, inputs: tuple[Tensor, ...], shapes: Any = None) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """decoder.pt2, parts.pt2 and symbolic.pt2."""
    root = tmp_path_factory.mktemp("pt2")
    decoder = build_decoder("tiny", layers=1, batch=2, bucket=64, device="cpu")
    torch.export.save(exported(decoder, tuple(decoder.example_inputs())), root / "decoder.pt2")
    x, flag = torch.randn(5, 4), torch.ones(1, dtype=torch.bool)
    torch.export.save(exported(Parts(), (x, flag)), root / "parts.pt2")
    torch.export.save(exported(Parts(), (x, flag), ({0: Dim("rows", max=64)}, None)), root / "symbolic.pt2")
    return root


def test_the_graph_is_the_captured_one(folder: Path) -> None:
    decoder = build_decoder("tiny", layers=1, batch=2, bucket=64, device="cpu")
    captured = document(capture(decoder, decoder.example_inputs(), frontend="export"))
    assert text(load_archive(folder / "decoder.pt2")) == text(captured)


def test_every_part_of_the_schema_is_the_captured_one(folder: Path) -> None:
    x, flag = torch.randn(5, 4), torch.ones(1, dtype=torch.bool)
    captured = document(capture(Parts(), (x, flag), frontend="export"))
    read = load_archive(folder / "parts.pt2")
    assert text(read) == text(captured)
    assert "inf" in text(read)


def test_symbolic_sizes_have_canonical_names(folder: Path) -> None:
    read = load_archive(folder / "symbolic.pt2")
    shown = text(read)
    assert "f32[s0, 4] = input x" in shown and "bf16[2*s0, 3]" in shown and "f32[4, s0] strides(1, 4)" in shown
    assert graph_module(read).graph.find_nodes(op="placeholder")[0].meta["val"].shape[1] == 4


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch, as it copies a program
def test_state_that_a_decomposed_program_updates_is_an_alias(tmp_path: Path) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.steps.add_(1)
            return x + self.steps

    torch.export.save(exported(Counter(), (torch.ones(1),)).run_decompositions(), tmp_path / "c.pt2")
    read = load_archive(tmp_path / "c.pt2")
    assert read.aliases == (("steps", 0),)
    assert len(read.outputs) == 2


def test_an_operator_that_is_not_known_here_is_read(folder: Path, tmp_path: Path) -> None:
    path = changed(folder / "decoder.pt2", tmp_path, {MODEL: edited(_rename_attention)})
    graph = graph_module(load_archive(path)).graph
    (call,) = [node for node in graph.nodes if isinstance(node.target, OpaqueTarget)]
    assert call.target.name == "other.attention_block_tkg.default"


def _rename_attention(program: dict[str, Any]) -> None:
    for node in program["graph_module"]["graph"]["nodes"]:
        node["target"] = node["target"].replace("torch.ops.deadkv.", "torch.ops.other.")


def test_every_command_takes_an_archive(
    folder: Path, deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = folder / "decoder.pt2"
    assert deadkv("explain", archive) == 0
    assert "gathers 2 -> 2" in capsys.readouterr().out
    assert deadkv("dump", archive, "--json") == 0
    (folder / "decoder.graph.json").write_text(capsys.readouterr().out)
    assert deadkv("diff", archive, folder / "decoder.graph.json") == 0
    assert deadkv("verify", archive, folder / "decoder.graph.json") == 0
    assert is_archive(archive) and not is_archive(folder / "decoder.graph.json")


class Touch:
    """Unpickled, it makes a file: what a hostile pickle would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


Edit = Callable[[bytes, Path], bytes]


def edited(change: Callable[[dict[str, Any]], None]) -> Edit:
    """Changes a JSON member."""

    def edit(content: bytes, mark: Path) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).replace("MARK", str(mark)).encode()

    return edit


def pickled(content: bytes, mark: Path) -> bytes:
    return pickle.dumps(Touch(mark))


def checkpoint(content: bytes, mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(((Touch(mark),), {}), buffer)
    return buffer.getvalue()


def changed(
    path: Path, folder: Path, edits: dict[str, Edit], *, compression: int = zipfile.ZIP_STORED, without: str = "none"
) -> Path:
    """A copy of an archive, members changed or added."""
    made = folder / "hostile.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        content = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        content.update({name: edit(content.get(name, b""), folder / "ran") for name, edit in edits.items()})
        for name, found in content.items():
            if name != without:
                new.writestr(f"{root}/{name}", found)
    return made


def _sizes(expression: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        meta = program["graph_module"]["graph"]["tensor_values"]["input_ids"]
        meta["sizes"][0] = {"as_expr": {"expr_str": expression, "hint": None}}

    return change


def _pickled_weight(config: dict[str, Any]) -> None:
    next(iter(config["config"].values())).update(use_pickle=True, path_name="weight_0")


def _version(program: dict[str, Any]) -> None:
    program["schema_version"]["major"] = 9


def _first_node(**parts: Any) -> Callable[[dict[str, Any]], None]:
    return lambda program: program["graph_module"]["graph"]["nodes"][0].update(parts)


HOSTILE: dict[str, tuple[dict[str, Edit], str]] = {
    "sample inputs": ({SAMPLES: checkpoint}, "system', which runs code"),
    "sample inputs, bare pickle": ({SAMPLES: pickled}, "is no file of torch.save"),
    "pickled weight": ({WEIGHTS: edited(_pickled_weight), "data/weights/weight_0": checkpoint}, "which runs code"),
    "weights of torch 2.8": ({"data/weights/model.pt": checkpoint}, "which runs code"),
    "opaque object": ({"data/constants/opaque_obj_0": pickled}, "is a pickled object"),
    "TorchBind object": ({"data/constants/custom_obj_0": pickled}, "is a pickled TorchBind object"),
    "compiled code": ({"data/aotinductor/model/model.so": pickled}, "is compiled code"),
    "expression": ({MODEL: edited(_sizes("__import__('os').system('touch MARK')"))}, "is not a symbolic expression"),
    "schema version": ({MODEL: edited(_version)}, "export schema is version 9; this deadkv reads 8"),
    "no program": ({MODEL: lambda content, mark: b"{}"}, "does not fit torch's export schema"),
    "no JSON": ({MODEL: lambda content, mark: b"{"}, "the file ends too early"),
    "unknown argument": (
        {MODEL: edited(_first_node(inputs=[{"name": "x", "arg": {"as_code": "x"}, "kind": 1}]))},
        "argument of kind 'as_code'",
    ),
    "unknown value": (
        {MODEL: edited(_first_node(inputs=[{"name": "x", "arg": {"as_tensor": {"name": "nobody"}}, "kind": 1}]))},
        "nobody",
    ),
    "no node": ({MODEL: edited(lambda program: program["graph_module"]["graph"].update(nodes=[3]))}, "export schema"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_of_a_hostile_archive_runs(
    what: str, folder: Path, tmp_path: Path, deadkv: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    edits, message = HOSTILE[what]
    path = changed(folder / "decoder.pt2", tmp_path, edits)
    assert deadkv("explain", path) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert message in printed.err and str(path) in printed.err
    assert not (tmp_path / "ran").exists()


def test_the_payloads_do_run_where_they_are_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickled(b"", tmp_path / "one"))
    torch.load(io.BytesIO(checkpoint(b"", tmp_path / "two")), weights_only=False)
    assert (tmp_path / "one").exists() and (tmp_path / "two").exists()


def damaged(folder: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    content = (folder / "decoder.pt2").read_bytes()
    for name, found, message in (
        ("cut.pt2", content[: len(content) // 2], "is no archive of torch.export.save"),
        ("text.pt2", b"no zip file", "is no archive of torch.export.save"),
        ("empty.pt2", b"", "is no archive of torch.export.save"),
    ):
        (tmp_path / name).write_bytes(found)
        yield tmp_path / name, message
    yield changed(folder / "decoder.pt2", tmp_path, {}, without=MODEL), "it has no models/model.json"


def test_what_is_no_archive_is_one_line(folder: Path, tmp_path: Path) -> None:
    for path, message in damaged(folder, tmp_path):
        with pytest.raises(DeadkvError, match=message) as raised:
            load_archive(path)
        assert_one_line(raised.value)
    compressed = changed(folder / "decoder.pt2", tmp_path, {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DeadkvError, match="is compressed"):
        load_archive(compressed)
    with pytest.raises(DeadkvError, match="No such file"):
        load_archive(tmp_path / "absent.pt2")


JUNK = (
    None,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "torch.ops.aten.mm",
    "\u202e\x00",
    [],
    {},
    [[]],
    {"as_int": 1},
    {"as_none": True},
)


def places(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value, with each of its keys."""
    for key in list(found) if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ():
        yield found, key
        yield from places(found[key])


def test_a_damaged_program_is_read_or_refused_in_one_line(folder: Path) -> None:
    archive = read_archive(folder / "parts.pt2")
    content = json.dumps(archive.program)
    chooser = random.Random(0)
    refused = 0
    for _ in range(400):
        program = json.loads(content)
        container, key = chooser.choice(list(places(program["graph_module"])))
        if isinstance(container, dict) and chooser.random() < 0.3:
            del container[key]
        else:
            container[key] = chooser.choice(JUNK)
        try:
            text(read_program(dataclasses.replace(archive, program=program)))
        except DeadkvError as error:
            assert_one_line(error)
            refused += 1
    assert 100 < refused < 400
