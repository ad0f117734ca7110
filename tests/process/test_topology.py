# SPDX-License-Identifier: Apache-2.0
"""`causeway topology`: tables, JSON, a drawing in which no text lies on another; links made up or emulated."""

import json
import os
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

UNSEEN = 99  # a device that the plug-in says is not visible


def devices(count):
    return [f"{number} {(number + 3) % count} {number * 2 // count}" for number in range(count)]


def links(pairs, each=1, down=(), speed=25):
    used, rows = {}, []
    for a, b in pairs:
        for _ in range(each):
            ports = used.get(a, 0), used.get(b, 0)
            rows.append(f"{a} {ports[0]} {b} {ports[1]} {int((a, b) not in down)} {speed}")
            used[a], used[b] = ports[0] + 1, ports[1] + 1
    return rows


def mesh(first, last):
    return list(combinations(range(first, last), 2))


def ring(count):
    return [(i, (i + 1) % count) for i in range(count)]


@pytest.fixture
def topology(run, build_dir, tmp_path):
    """Runs the command on a list of devices and links."""

    def run_on(rows, *arguments):
        path = tmp_path / "config.json"
        library = str(build_dir / "tests/plugin/links.so")
        path.write_text(json.dumps({"plugins/load": library, "plugin": {"links": {"list": ",".join(rows)}}}))
        return run("causeway", "topology", "--config", path, "--set", "transports/sunrise_link/enable=off", *arguments)

    return run_on


def test_table(topology):
    result = topology(devices(2) + links([(0, 1)], each=2, down=[]))
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["gpu:0", "1", "0000:00:00.0", "0", "10", "2", "links"] in lines
    assert ["gpu:1", "0", "0000:01:00.0", "1", "10", "2", "links"] in lines
    assert ["gpu:0", "1", "gpu:1", "1", "up", "25.0", "25.0"] in lines


def test_json(topology):
    rows = devices(3) + links([(0, 1), (1, 2)], down=[(1, 2)]) + [f"2 9 {UNSEEN} 4 1 0"]
    told = json.loads(topology(rows, "--json").stdout)
    assert [device["device"] for device in told["devices"]] == ["gpu:0", "gpu:1", "gpu:2", "chip 99"]
    assert told["devices"][0] == {
        "device": "gpu:0",
        "transport": "links",
        "number": 0,
        "chip": 0,
        "pci": "0000:00:00.0",
        "numa_node": 0,
        "ports": 10,
        "linked": 1,
    }
    assert told["devices"][3]["number"] is None
    assert [(link["from"], link["to"], link["up"]) for link in told["links"]] == [
        ("gpu:0", "gpu:1", True),
        ("gpu:1", "gpu:2", False),
        ("gpu:2", "chip 99", True),
    ]
    assert told["links"][0]["gigabytes_per_second"] == 25
    assert told["links"][2]["gigabytes_per_second"] is None


def test_nothing_to_show_is_said(topology):
    result = topology([])
    assert result.returncode == 1
    assert "no transport that is on knows devices with links" in result.stderr
    assert "fault is off: turned off by its setting" in result.stderr
    result = topology([], "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {"devices": [], "links": []}


def test_failure_is_reported(topology):
    result = topology(["nonsense"])
    assert result.returncode == 1
    assert "the links cannot be read: topology of links" in result.stderr


def test_unwritable_drawing(topology, tmp_path):
    result = topology(devices(2) + links([(0, 1)]), "--svg", tmp_path / "missing" / "x.svg")
    assert result.returncode == 1
    assert "No such file or directory" in result.stderr


# ------------------------------------------------------------------------------------------------ drawing

SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"title": 20, "name": 14, "small": 11, "label": 11, "legend": 11}
LETTER = 0.6  # of the size, on average, in a wide font


def texts(root):
    """(text, left, top, right, bottom) of each text, moved by the group that it is in."""
    found = []

    def walk(element, dx, dy):
        moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
        if moved:
            dx, dy = dx + float(moved[1]), dy + float(moved[2])
        if element.tag == SVG + "text" and element.text:
            kind = element.get("class").split()
            size = SIZES[kind[0]]
            width = len(element.text) * size * LETTER * (1.1 if kind[0] in ("title", "name") else 1)
            x, y = float(element.get("x")) + dx, float(element.get("y")) + dy
            left = x if kind[0] == "legend" else x - width / 2
            found.append((element.text, left, y - size * 0.8, left + width, y + size * 0.2))
        for child in element:
            walk(child, dx, dy)

    walk(root, 0.0, 0.0)
    return found


def overlapping(boxes):
    return [
        (a[0], b[0])
        for a, b in combinations(boxes, 2)
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]


SHAPES = {
    "two": (2, links([(0, 1)], each=4)),
    "two broken": (2, links([(0, 1)], each=4, down=[(0, 1)])),
    "four": (4, links(mesh(0, 4), each=3)),
    "eight": (8, links(mesh(0, 8), down=[(2, 5), (0, 1)])),
    "eight partly down": (8, links(mesh(0, 8)) + ["0 8 4 8 0 25", "1 8 2 8 0 25"]),
    "eleven": (11, links(mesh(0, 11))),
    "ring of 16": (16, links(ring(16), each=2, down=[(3, 4)])),
    "two islands of 8": (16, links(mesh(0, 8) + mesh(8, 16), speed=31.25)),
    "islands, the way between down": (8, links(mesh(0, 4) + mesh(4, 8) + [(0, 4)], down=[(0, 4)])),
    "no links": (8, []),
    "one": (1, []),
    "all islands": (16, links([(i, i + 1) for i in range(0, 16, 2)])),
    "a chain with an end elsewhere": (3, links([(0, 1), (1, 2)]) + [f"2 9 {UNSEEN} 4 1 25"]),
    "names with no speed": (4, links(mesh(0, 4), speed=0)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_drawing(topology, tmp_path, shape):
    count, rows = SHAPES[shape]
    path = tmp_path / "drawing.svg"
    result = topology(devices(count) + rows, "--svg", path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    root = ElementTree.parse(path).getroot()
    found = texts(root)
    width, height = float(root.get("width")), float(root.get("height"))
    assert overlapping(found) == []
    assert all(box[1] >= 0 and box[2] >= 0 and box[3] <= width and box[4] <= height for box in found)
    written = [box[0] for box in found]
    for number in range(count):
        assert written.count(f"gpu:{number}") == 1
        assert written.count(f"0000:{number:02x}:00.0") == 1
        assert f"chip {(number + 3) % count} \u00b7 NUMA {number * 2 // count}" in written


def test_drawing_shows_pairs(topology):
    """One line a pair, with its ports and their speed; what is down is dashed."""
    rows = devices(3) + links([(0, 1)], each=4) + links([(1, 2)], each=2, down=[(1, 2)])
    root = ElementTree.fromstring(topology(rows, "--svg", "-").stdout)
    group = root.find(SVG + "g")
    lines = [line.get("class") for line in group.findall(SVG + "line")]
    labels = [text.text for text in group.findall(SVG + "text") if text.get("class").startswith("label")]
    assert sorted(lines) == ["down", "up"]
    assert sorted(labels) == ["2 ports down", "4 ports \u00b7 100 GB/s"]
    assert "stroke-dasharray" in re.search(r"\.down\{[^}]*\}", root.find(SVG + "style").text).group()


# ------------------------------------------------------------------------------------------ emulated links

EMULATED = """\
device 0 chip 7 pci 0000:3b:00.0 numa 0
device 1 chip 2 pci 0001:5e:1f.7 numa 1
device 2 chip 4
link 0:4 1:3 bandwidth 50g
link 0:9 1:0 down
link 1:1 2:8
"""


@pytest.fixture
def emulated(run, build_dir, tmp_path):
    """Runs the command on an emulated world of a topology file: the way is that of real devices, libptml included."""

    def run_on(text, options, *arguments):
        path = tmp_path / "box.topology"
        path.write_text(text)
        start = ["--vendor", "sunrise", "--world", f"test-{os.getpid()}-topology", "--topology", path, *options]
        return run("causeway", "emulate", *start, "--", build_dir.resolve() / "bin/causeway", "topology", *arguments)

    return run_on


def test_emulated_links(emulated):
    result = emulated(EMULATED, [], "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [(d["device"], d["chip"], d["pci"], d["numa_node"], d["linked"]) for d in told["devices"]] == [
        ("sunrise:0", 7, "0000:3b:00.0", 0, 2),
        ("sunrise:1", 2, "0001:5e:1f.7", 1, 3),
        ("sunrise:2", 4, "0000:12:00.0", None, 1),
    ]
    assert all(device["transport"] == "sunrise_link" for device in told["devices"])
    found = {(k["from"], k["from_port"], k["to"], k["to_port"]): k for k in told["links"]}
    assert set(found) == {
        ("sunrise:0", 4, "sunrise:1", 3),
        ("sunrise:0", 9, "sunrise:1", 0),
        ("sunrise:1", 1, "sunrise:2", 8),
    }
    assert found["sunrise:0", 4, "sunrise:1", 3]["gigabytes_per_second"] == 50
    assert found["sunrise:0", 4, "sunrise:1", 3]["up"]
    assert not found["sunrise:0", 9, "sunrise:1", 0]["up"]
    assert found["sunrise:1", 1, "sunrise:2", 8]["maximum_gigabytes_per_second"] == 25


def test_emulated_device_that_is_not_visible(emulated):
    result = emulated(EMULATED, ["--options", "visible=1"], "--json")
    told = json.loads(result.stdout)
    numbers = {device["device"]: device["number"] for device in told["devices"]}
    assert numbers == {"sunrise:0": 0, "chip 4": None, "chip 7": None}
    # Of the one that is down only one end is known: there may be nothing behind it.
    assert sorted(link["to"] for link in told["links"]) == ["chip 4", "chip 7"]


def test_transport_that_is_off(emulated):
    result = emulated(EMULATED, [], "--set", "transports/sunrise_link/enable=off")
    assert result.returncode == 1
    assert "sunrise_link is off: turned off by its setting" in result.stderr


def test_without_the_library_that_knows_links(run, build_dir, tmp_path):
    """Devices are known, their ports are not, and a warning says why."""
    emulators = build_dir.resolve() / "emulators"
    if not (emulators / "sunrise").is_dir():
        pytest.skip("the emulated devices were not built")
    (tmp_path / "libtangrt_shared.so").symlink_to(emulators / "sunrise/libtangrt_shared.so")
    environment = os.environ | {"MC_TANGRT_LIB_DIR": str(tmp_path), "LD_LIBRARY_PATH": str(emulators)}
    result = run("causeway", "topology", "--json", env=environment)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [(d["device"], d["chip"], d["ports"]) for d in told["devices"]] == [
        ("sunrise:0", None, None),
        ("sunrise:1", None, None),
    ]
    assert told["links"] == []
    assert f"sunrise_link: links between devices: libptml_shared.so is not in {tmp_path}" in result.stderr
