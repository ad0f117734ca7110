# SPDX-License-Identifier: Apache-2.0
"""What is written about the Python package is true: the guide's blocks and the examples run, and the .pyi says what the
extension has."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

SAME = """
import ast, inspect, sys
from causeway import _causeway

def members(body):
    return {node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

written = members(ast.parse(open(sys.argv[1]).read()).body)
made = {name: value for name, value in vars(_causeway).items() if not name.startswith("__")}
protocols = {"Tensor", "DLPackTensor", "CudaArray", "BatchOptions"}
assert set(written) - protocols == set(made) - {"version"}, set(written) ^ set(made)
for name, node in written.items():
    if not isinstance(node, ast.ClassDef) or name in protocols:
        continue
    said = set(members(node.body)) - {"__buffer__", "__init__"}
    has = {key for key in vars(made[name]) if not key.startswith("__") or key in ("__enter__", "__exit__", "__await__")}
    assert said == has, (name, said ^ has)
    for key, function in members(node.body).items():
        if key.startswith("_") or ast.get_docstring(function) is None:
            continue
        real = getattr(made[name], key)
        assert inspect.cleandoc(ast.get_docstring(function)) == inspect.getdoc(real).strip(), (name, key)
        if callable(real):
            expected = [argument.arg for argument in function.args.posonlyargs + function.args.args]
            expected += [argument.arg for argument in function.args.kwonlyargs]
            expected += [function.args.kwarg.arg] if function.args.kwarg else []
            assert list(inspect.signature(real).parameters) == expected, (name, key)
print("ok")
"""


def test_stub_is_the_extension(python):
    done = python("-c", SAME, ROOT / "python/causeway/_causeway.pyi")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_guide(python, tmp_path):
    """The blocks of the guide, as one program."""
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 8
    program = tmp_path / "guide.py"
    program.write_text("\n".join(textwrap.dedent(block) for block in blocks))
    done = python("-X", "dev", program)
    assert done.returncode == 0, done.stderr
    assert "is not inside a registered region" in done.stdout


def test_pages(python):
    done = python("-X", "dev", "-W", "error", EXAMPLES / "pages.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == "request 17: ready, 9 MiB in 2400 pages\n"


def test_awaiting(python):
    done = python("-X", "dev", "-W", "error", EXAMPLES / "awaiting.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    assert sorted(lines)[-1].startswith("too slow") and lines[-1] == "the peer said stop" and len(lines) == 20
    assert "1048576 bytes in 16 batches" in lines and "given up: CANCELED" in lines


def test_hello(python, build_dir):
    receiver = subprocess.Popen(
        ["/usr/bin/python3", EXAMPLES / "hello.py"],
        env={**os.environ, "PYTHONPATH": str(build_dir / "python")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        sender = python(EXAMPLES / "hello.py", receiver.stdout.readline().strip(), timeout=20)
        assert (sender.returncode, sender.stderr) == (0, "")
        output, _ = receiver.communicate(timeout=20)
        assert receiver.returncode == 0 and "says: bytes from another process" in output
    finally:
        receiver.kill()
        receiver.wait(10)
        receiver.stdout.close()


@pytest.fixture(scope="session")
def mypy(tmp_path_factory):
    """mypy from PyPI, in an environment of its own."""
    environment = tmp_path_factory.mktemp("mypy")
    for command in (
        ["/usr/bin/python3", "-m", "venv", environment],
        [environment / "bin/python", "-m", "pip", "install", "--quiet", "mypy"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"mypy cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return environment / "bin/mypy"


@pytest.mark.timeout(600)
def test_types(mypy, tmp_path):
    """The package is clean under mypy --strict, and so is a program that uses it as it should."""
    options = ["--strict", "--cache-dir", tmp_path / "cache"]
    bounded = {"cwd": ROOT / "python", "capture_output": True, "text": True, "timeout": 300, "check": False}
    done = subprocess.run([mypy, *options, "-p", "causeway"], **bounded)
    assert done.returncode == 0, done.stdout
    uses = tmp_path / "uses.py"
    uses.write_text(
        textwrap.dedent(
            """
            import causeway

            async def use(engine: causeway.Engine, memory: bytearray) -> int:
                region = engine.register(memory)
                segment = engine.open("127.0.0.1:1", transports=["tcp"])
                batch = engine.write(segment, [1, 2], [3, 4], 8, deadline=1.5, notify=("a", b"b"), after=[])
                engine.write_pages(segment, region, 1, 4096, [1], None).cancel()
                result = await batch
                reveal_type(result)
                note = await engine.next_notification()
                return len(note.data) + result.bytes_completed
            """
        )
    )
    done = subprocess.run([mypy, *options, uses], **bounded)
    assert done.returncode == 0 and "BatchResult" in done.stdout, done.stdout
