"""The same model gives the same bytes, whatever the process and its hash seed."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from tracing.backends import BackendRequest, get_backend
from tracing.capture import capture
from tracing.decoder import build_decoder

for target, variant in (("inf2", "base"), ("trn2", "cache-update")):
    decoder = build_decoder("tiny", variant, batch=2, bucket=32)
    inputs = decoder.example_inputs()
    graph = capture(decoder, inputs, aliases=decoder.aliases())
    folder = Path(sys.argv[1]) / target
    folder.mkdir()
    aliases = graph.meta["capture"].aliases
    get_backend("hlo").run(BackendRequest(graph, graph, inputs, aliases, target, folder))
"""


def _run(out: Path, seed: str) -> subprocess.Popen[bytes]:
    out.mkdir()
    env = {**os.environ, "PYTHONHASHSEED": seed}
    root = Path(__file__).parents[1]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], cwd=root, env=env, stderr=subprocess.PIPE)


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    folders = {seed: tmp_path / seed for seed in ("1", "4242")}
    for process in [_run(folder, seed) for seed, folder in folders.items()]:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    first, second = (
        {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
        for folder in folders.values()
    )
    assert len(first) == 11
    assert first == second
