"""The neuronx-cc backend against a stand-in executable that takes exactly the documented command line."""

import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.fx import GraphModule, symbolic_trace

from passes.errors import DeadkvError
from tests.support.compilers import wait_until_gone
from tests.support.nki import nki
from tracing.backends import BackendRequest, get_backend, get_target, kernels
from tracing.backends.command import neuronx_cc_command
from tracing.backends.neuronx_cc import OUTPUT_LOG
from tracing.capture import capture
from tracing.decoder import build_decoder

COMMAND = (
    "neuronx-cc compile after.hlo.pb --framework XLA --target inf2 --model-type transformer --auto-cast none -O2 "
    "--logfile log-neuron-cc.txt --output after.neff"
)

# Options by the compiler's command-line reference; anything else is an error, as it is there.
FAKE_COMPILER = """#!{python}
import argparse, os, pathlib, signal, subprocess, sys, time
parser = argparse.ArgumentParser(prog="neuronx-cc", allow_abbrev=False)
commands = parser.add_subparsers(required=True)
compile_ = commands.add_parser("compile", allow_abbrev=False)
compile_.add_argument("model")
compile_.add_argument("--framework", choices=["XLA"], required=True)
compile_.add_argument("--target", choices=["inf2", "trn1", "trn1n", "trn2"], required=True)
compile_.add_argument("--model-type", choices=["generic", "transformer", "unet-inference"])
compile_.add_argument("--auto-cast", choices=["none", "matmult", "all"])
compile_.add_argument("--auto-cast-type", choices=["bf16", "fp16", "tf32", "fp8_e4m3"])
compile_.add_argument("--optlevel", "-O", choices=["1", "2", "3"])
compile_.add_argument("--logfile", default="log-neuron-cc.txt")
compile_.add_argument("--output", default="file.neff")
args = parser.parse_args()
data = pathlib.Path(args.model).read_bytes()
if b"parameter" not in data:
    sys.exit("not an HloModuleProto")
pathlib.Path(args.logfile).write_text("log\\n")
{body}
pathlib.Path(args.output).write_bytes(b"NEFF" + data)
print("Compiler status PASS")
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a compiler on the PATH that runs `body` before it writes its result."""

    def install(body: str = "pass") -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "neuronx-cc"
        program.write_text(FAKE_COMPILER.format(python=sys.executable, body=body))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the system's temporary folders go during the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def out(tmp_path: Path, kept: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def doubled() -> GraphModule:
    return symbolic_trace(lambda x: x * 2)


def request_for(out: Path, *compiler_args: str, **options: object) -> BackendRequest:
    graph = doubled()
    return BackendRequest(graph, graph, (torch.ones(2, 3),), (), "inf2", out, compiler_args, **options)


def test_without_the_compiler_the_exact_command_is_written(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(out))
    result = get_backend("neuronx-cc").run(request_for(out))
    assert " ".join(result.command or ()) == COMMAND
    assert (out / "command.txt").read_text() == COMMAND + "\n"
    assert (result.exit_code, result.log_file) == (None, None)
    assert "run the command in command.txt" in result.message


def test_a_compilation_that_passes(compiler: Callable[..., None], out: Path) -> None:
    compiler("print('pass 1 of 2', flush=True); print('pass 2 of 2', file=sys.stderr, flush=True)")
    lines: list[str] = []
    result = get_backend("neuronx-cc").run(request_for(out, log=lines.append))
    assert (out / "after.neff").read_bytes() == b"NEFF" + (out / "after.hlo.pb").read_bytes()
    assert result.exit_code == 0
    assert " ".join(result.command or ()) == COMMAND
    assert result.log_file == OUTPUT_LOG
    assert (out / OUTPUT_LOG).read_text().splitlines() == ["pass 1 of 2", "pass 2 of 2", "Compiler status PASS"]
    assert lines[-3:] == ["pass 1 of 2", "pass 2 of 2", "Compiler status PASS"]
    assert sorted(result.artefacts) == sorted(path.name for path in out.iterdir())


def test_a_compilation_that_fails(compiler: Callable[..., None], out: Path, kept: Path) -> None:
    compiler("print('[F137] ran out of memory'); sys.exit(70)")
    with pytest.raises(
        DeadkvError, match=r"failed with exit code 70; its last lines: \[F137\] ran out of memory; "
    ) as e:
        get_backend("neuronx-cc").run(request_for(out))
    assert "\n" not in str(e.value)
    (folder,) = kept.iterdir()
    assert str(e.value).endswith(f"kept in {folder}")
    names = {"neuronx-cc.output.txt", "log-neuron-cc.txt", "command.txt", "after.hlo.pb"}
    assert {file.name for file in folder.iterdir()} == names
    assert (folder / OUTPUT_LOG).read_text() == "[F137] ran out of memory\n"


@pytest.mark.parametrize(
    ("name", "explanation"), [("SIGKILL", "memory ran out"), ("SIGABRT", "aborted"), ("SIGSEGV", "crashed")]
)
def test_a_compiler_ended_by_a_signal(name: str, explanation: str, compiler: Callable[..., None], out: Path) -> None:
    compiler(f"os.kill(os.getpid(), signal.{name})")
    with pytest.raises(DeadkvError, match=f"ended by signal .*{explanation}"):
        get_backend("neuronx-cc").run(request_for(out))


def test_a_hang_ends_with_all_its_processes(compiler: Callable[..., None], out: Path) -> None:
    compiler(
        "child = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "print('started', flush=True); time.sleep(600)"
    )
    start = time.monotonic()
    with pytest.raises(DeadkvError, match=r"did not end within 3 s and was stopped"):
        get_backend("neuronx-cc").run(request_for(out, timeout_s=3))
    assert time.monotonic() - start < 30
    assert (out / OUTPUT_LOG).read_text() == "started\n"
    wait_until_gone(int((out / "child").read_text()))


def test_an_interrupted_wait_leaves_no_process(compiler: Callable[..., None], out: Path) -> None:
    compiler("pathlib.Path('child').write_text(str(os.getpid())); print('started', flush=True); time.sleep(600)")

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_backend("neuronx-cc").run(request_for(out, log=interrupt))
    wait_until_gone(int((out / "child").read_text()))


def test_a_compiler_that_cannot_be_started(compiler: Callable[..., None], out: Path, tmp_path: Path) -> None:
    compiler()
    (tmp_path / "bin" / "neuronx-cc").write_bytes(b"\x7fELF")
    with pytest.raises(DeadkvError, match="neuronx-cc cannot be started"):
        get_backend("neuronx-cc").run(request_for(out))


def test_megabytes_of_output_do_not_block(compiler: Callable[..., None], out: Path) -> None:
    compiler("for i in range(60000): print(i, 'x' * 80)\nsys.stdout.buffer.write(bytes([255, 254, 10]))")
    count = [0]
    result = get_backend("neuronx-cc").run(request_for(out, log=lambda line: count.__setitem__(0, count[0] + 1)))
    assert result.exit_code == 0
    assert (out / OUTPUT_LOG).stat().st_size > 5_000_000
    assert count[0] > 60_000


def test_success_without_a_result_is_an_error(compiler: Callable[..., None], out: Path) -> None:
    compiler("sys.exit(0)")
    with pytest.raises(DeadkvError, match=r"wrote no after\.neff"):
        get_backend("neuronx-cc").run(request_for(out))


def test_the_callers_options_come_last_and_replace_defaults(compiler: Callable[..., None], out: Path) -> None:
    compiler()
    result = get_backend("neuronx-cc").run(request_for(out, "-O1", "--auto-cast-type=bf16"))
    command = " ".join(result.command or ())
    assert "-O2" not in command and "--auto-cast none" in command
    assert "-O1 --auto-cast-type=bf16" in command
    assert "--model-type" not in neuronx_cc_command("inf2", ("--model-type=generic",))[5:9]
    assert "-O2" not in neuronx_cc_command("inf2", ("--optlevel", "3"))


def test_an_option_the_compiler_does_not_know_is_its_error(compiler: Callable[..., None], out: Path) -> None:
    compiler()
    with pytest.raises(DeadkvError, match=r"exit code 2; .*unrecognized arguments: --fast"):
        get_backend("neuronx-cc").run(request_for(out, "--fast"))


@pytest.mark.parametrize("argument", ["--target=trn1", "--output", "--framework", "--logfile=x"])
def test_what_deadkv_decides_cannot_be_overridden(argument: str, out: Path) -> None:
    with pytest.raises(DeadkvError, match="is set by deadkv: leave it out"):
        get_backend("neuronx-cc").run(request_for(out, argument))
    assert not list(out.iterdir())


def test_a_kernel_stand_in_is_never_compiled(compiler: Callable[..., None], out: Path) -> None:
    compiler()
    decoder = build_decoder("tiny", "base", batch=1, bucket=16)
    inputs = decoder.example_inputs()
    graph = capture(decoder, inputs)
    request = BackendRequest(graph, graph, inputs, (), "trn2", out)
    with pytest.raises(
        DeadkvError, match=r"2 kernel call\(s\) as stand-in custom calls .*trn2: choose --backend hlo .*--target inf2"
    ):
        get_backend("neuronx-cc").run(request)
    assert not (out / "after.neff").exists()


def test_a_dry_run_leaves_an_installed_compiler_alone(compiler: Callable[..., None], out: Path) -> None:
    compiler("pathlib.Path('ran').write_text('yes')")
    result = get_backend("neuronx-cc", dry_run=True).run(request_for(out, dry_run=True))
    assert (out / "command.txt").read_text() == COMMAND + "\n"
    assert not (out / "ran").exists() and not (out / "after.neff").exists()
    assert result.exit_code is None and result.message.startswith("dry run: run the command in command.txt")
    assert get_backend("auto", dry_run=True).name == "neuronx-cc"


@pytest.mark.parametrize("target", ["inf2", "trn1", "trn2"])
def test_each_target_is_named_in_the_command(target: str) -> None:
    command = " ".join(neuronx_cc_command(target))
    assert f"--target {target} --model-type transformer --auto-cast none -O2" in command
    assert "lnc" not in command


@pytest.mark.parametrize("argument", ["--logical-nc-config=1", "-lnc", "--lnc=2", "--native-int64=all"])
def test_options_of_newer_cores_are_for_newer_targets(argument: str) -> None:
    assert argument in neuronx_cc_command("trn2", (argument,))
    for target in ("inf2", "trn1"):
        with pytest.raises(
            DeadkvError, match=f"{argument}' is not for {target}: leave it out, or choose --target trn2"
        ):
            neuronx_cc_command(target, (argument,))


def scaled(x: torch.Tensor) -> torch.Tensor:
    """The body of an NKI kernel."""
    return x * 2


def test_a_kernel_call_for_newer_cores_is_refused_by_reason(compiler: Callable[..., None], out: Path) -> None:
    compiler()
    inputs = (torch.ones(2, 3),)
    graph = capture(nki(scaled), inputs)
    request = BackendRequest(graph, graph, inputs, (), "inf2", out)
    reason = (
        r"nki_kernel_wrapper \(node nki_scaled_proxy\) is a kernel for NeuronCore-v3 and later, and inf2 has "
        r"NeuronCore-v2: compile for trn2, or trace the model with the kernel's torch reference in its place"
    )
    for backend in (get_backend("neuronx-cc"), get_backend("hlo")):
        with pytest.raises(DeadkvError, match=reason):
            backend.run(request)
    assert not list(out.iterdir())


def test_a_kernel_without_a_reference_is_refused_on_older_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = build_decoder("tiny", "base", batch=1, bucket=16)
    graph = capture(decoder, decoder.example_inputs())
    kernel = kernels.Kernel("attention_block_tkg", None, results=3, neuron_core=3)
    op = torch.ops.deadkv.attention_block_tkg.default
    monkeypatch.setattr(kernels, "kernel_of", lambda target: kernel if target is op else None)
    with pytest.raises(
        DeadkvError, match=r"attention_block_tkg.* is a kernel for NeuronCore-v3 and later, and trn1 has"
    ):
        kernels.refuse_newer_kernels(graph, get_target("trn1"))
    kernels.refuse_newer_kernels(graph, get_target("trn2"))
