"""OpenVINO IR files (`.xml` and `.bin`) that depend on the model alone.

As OpenVINO writes them they carry its build, paths, and names numbered by a counter of the process: the same model
compiled twice would differ. None of that is needed to run.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

_NUMBERED = re.compile(r"[A-Za-z0-9]+_\d+")


def save(model: Any, path: Path, name: str) -> None:
    """Write `model` to `path` (`.xml`) and the `.bin` beside it, in full precision."""
    import openvino as ov

    ov.save_model(model, path, compress_to_fp16=False)
    tree = ET.parse(path)  # noqa: S314 - written by OpenVINO just now
    net = tree.getroot()
    net.set("name", name)
    for info in net.findall("rt_info"):
        net.remove(info)
    for layer in net.iter("layer"):
        if _NUMBERED.fullmatch(layer.get("name", "")):
            layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
    tree.write(path, encoding="utf-8", xml_declaration=True)


def largest_activation_bytes(path: Path) -> int:
    """Size of the largest tensor between layers for one sample, in bytes of float32."""
    layers = ET.parse(path).iter("layer")  # noqa: S314 - written by us
    ports = (port for layer in layers if layer.get("type") != "Const" for port in layer.iterfind("output/port"))
    # An open dimension, -1, is the batch.
    return 4 * max(math.prod(abs(int(dim.text or 1)) for dim in port.iterfind("dim")) for port in ports)
