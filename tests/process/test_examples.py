# SPDX-License-Identifier: Apache-2.0
"""The examples run as README shows them."""


def test_hello(spawn, run):
    receiver = spawn("../examples/hello", text=True)
    name = receiver.stdout.readline().strip()
    sender = run("../examples/hello", name, timeout=20)
    assert (sender.returncode, sender.stderr) == (0, "")
    output, _ = receiver.communicate(timeout=20)
    assert receiver.returncode == 0
    assert "says: bytes from another process" in output
