"""Choosing a backend and a target, the HLO backend's files, and what is said where a package is missing."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.fx import symbolic_trace

from passes.errors import DeadkvError
from tracing.backends import BACKENDS, TARGETS, BackendRequest, get_backend, get_target
from tracing.backends.hlo.execute import execute

X = torch.ones(2, 3)


def request_for(out: Path, target: str = "inf2", *compiler_args: str) -> BackendRequest:
    graph = symbolic_trace(lambda x: x * 2)
    return BackendRequest(graph, graph, (X,), (), target, out, compiler_args)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def test_the_backends_in_order_of_preference() -> None:
    assert list(BACKENDS) == ["torch-neuronx", "neuronx-cc", "hlo", "torch-xla"]
    assert all(backend.name == name for name, backend in BACKENDS.items())


def test_auto_takes_the_best_that_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(monkeypatch, "torch_neuronx")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert get_backend().name == "hlo"
    compiler = tmp_path / "neuronx-cc"
    compiler.touch(0o755)
    assert get_backend("auto").name == "neuronx-cc"
    (tmp_path / "torch_neuronx.py").touch()
    monkeypatch.delitem(sys.modules, "torch_neuronx")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert get_backend("auto").name == "torch-neuronx"
    assert get_backend("auto", have_weights=False).name == "neuronx-cc"


def test_an_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(DeadkvError, match=r"unknown backend 'tpu': choose one of auto, torch-neuronx, neuronx-cc, hlo"):
        get_backend("tpu")


@pytest.mark.parametrize(
    ("name", "packages", "hint"),
    [
        ("hlo", ("jax",), r"pip install 'deadkv\[hlo\]'"),
        ("hlo", ("google.protobuf",), r"pip install 'deadkv\[hlo\]'"),
        ("neuronx-cc", ("jax",), r"pip install 'deadkv\[hlo\]'"),
        ("torch-neuronx", ("torch_neuronx",), r"pip install .*'deadkv\[neuron\]'"),
    ],
)
def test_a_backend_that_is_not_installed_says_what_to_install(
    name: str, packages: tuple[str, ...], hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, *packages)
    with pytest.raises(DeadkvError, match=f"backend '{name}' is not installed: .*{hint}"):
        get_backend(name)
    with pytest.raises(DeadkvError, match=hint) as raised:
        BACKENDS[name].run(request_for(tmp_path))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_nothing_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "jax", "torch_neuronx", "torch_xla")
    with pytest.raises(DeadkvError, match=r"no backend is installed: pip install 'deadkv\[hlo\]'"):
        get_backend()
    with pytest.raises(DeadkvError, match=r"needs jax, which is not installed: pip install 'deadkv\[hlo\]'"):
        execute(symbolic_trace(lambda x: x), (X,))


def test_listing_backends_imports_no_heavy_package() -> None:
    program = "import tracing.backends, sys; print([n for n in ('jax', 'google.protobuf') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


ROOT = Path(__file__).parents[1]


def test_targets_and_their_cores() -> None:
    assert {name: target.neuron_core for name, target in TARGETS.items()} == {"inf2": 2, "trn1": 2, "trn2": 3}
    assert get_target("trn2").name == "trn2"
    with pytest.raises(DeadkvError, match="unknown target 'inf3': choose one of inf2, trn1, trn2"):
        get_target("inf3")


def test_an_unknown_target_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeadkvError, match="unknown target 'inf3'"):
        get_backend("hlo").run(request_for(tmp_path, "inf3"))
    assert not list(tmp_path.iterdir())


def test_the_hlo_backend_writes_both_graphs_and_the_command(tmp_path: Path) -> None:
    lines: list[str] = []
    graph = symbolic_trace(lambda x: x * 2)
    request = BackendRequest(graph, graph, (X,), (), "trn1", tmp_path, ("-O1",), progress=lines.append)
    result = get_backend("hlo").run(request)
    assert sorted(result.artefacts) == sorted(path.name for path in tmp_path.iterdir())
    assert result.artefacts == (
        "before.stablehlo.mlir",
        "before.hlo.pb",
        "after.stablehlo.mlir",
        "after.hlo.pb",
        "parameters.json",
        "command.txt",
    )
    assert shlex.split((tmp_path / "command.txt").read_text()) == list(result.command or ())
    assert (result.backend, result.exit_code, result.log_file) == ("hlo", None, None)
    assert [line.split()[1] for line in lines] == ["reading", "reading", "lowering", "lowering"]


def test_parameters_json_says_what_each_hlo_parameter_is(tmp_path: Path) -> None:
    get_backend("hlo").run(request_for(tmp_path))
    document = json.loads((tmp_path / "parameters.json").read_text())
    assert document["version"] == 1
    assert "clamped" in document["index_semantics"]
    x = {"number": 0, "kind": "input", "name": "x", "shape": [2, 3], "alias": None}
    assert document["after"] == {
        "parameters": [{**x, "dtype": "float32", "torch_dtype": "float32"}],
        "outputs": [{"number": 0, "shape": [2, 3], "dtype": "float32"}],
    }
    assert document["before"] == document["after"]
