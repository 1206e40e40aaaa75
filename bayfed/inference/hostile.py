"""What an ONNX file may not hold, looked for before any runtime sees it.

The file is walked as protobuf, without a library for ONNX: who only scores has none.

Source: onnx.proto of ONNX for the numbers of the fields.
"""

from __future__ import annotations

from collections.abc import Iterator

from bayfed.errors import ProductError

MAX_BYTES = 1 << 30
DEEPEST = 64
"""Graphs within graphs."""
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "entry": {},
}
_DOMAIN, _EXTERNAL, _PLACE = 7, 13, 14
_STANDARD = (b"", b"ai.onnx")
_FIXED = {1: 8, 5: 4}
"""Wire type -> bytes."""


class _CutError(Exception):
    """The bytes end within a field, or are no protobuf."""


def metadata_of(data: bytes, place: object) -> dict[str, str]:
    """Return the metadata of an ONNX file that holds nothing but a standard graph.

    Raises:
        ProductError: it is too large, no ONNX or cut off, keeps tensors in other files, or asks for
            operators that are no part of ONNX.
    """
    if len(data) > MAX_BYTES:
        raise ProductError(f"{place}: larger than {MAX_BYTES >> 20} MB")
    found: dict[str, str] = {}
    graphs = 0
    try:
        for kind, message in _walk("model", memoryview(data), 0):
            graphs += kind == "graph"
            if kind == "entry":
                key, value = (bytes(_last(message, n)).decode() for n in (1, 2))
                found[key] = value
            elif kind == "tensor" and _is_external(message):
                raise ProductError(f"{place}: keeps tensors in other files, which is refused")
            elif kind == "node" and bytes(_last(message, _DOMAIN)) not in _STANDARD:
                domain = bytes(_last(message, _DOMAIN)).decode(errors="replace")
                raise ProductError(f"{place}: operators of {domain!r} are no part of ONNX")
    except (_CutError, UnicodeDecodeError):
        raise ProductError(f"{place}: not an ONNX file, or cut off") from None
    if not graphs:
        raise ProductError(f"{place}: not an ONNX file, or cut off")
    return found


def _walk(kind: str, data: memoryview, depth: int) -> Iterator[tuple[str, memoryview]]:
    """Yield every message in ``data`` that is looked into, with what it is."""
    if depth > DEEPEST:
        raise _CutError
    yield kind, data
    parts = _PARTS[kind]
    if not parts:
        return
    for number, value in _fields(data):
        if number in parts and isinstance(value, memoryview):
            yield from _walk(parts[number], value, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message; fixed-width values as 0."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise _CutError
        if length > len(data) - at:
            raise _CutError
        yield number, data[at : at + length] if wire == 2 else 0
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    raise _CutError


def _last(message: memoryview, number: int) -> memoryview:
    """Return the last field of a number, as protobuf has it; empty where there is none."""
    found = [value for key, value in _fields(message) if key == number]
    last = found[-1] if found else memoryview(b"")
    return last if isinstance(last, memoryview) else memoryview(b"")


def _is_external(message: memoryview) -> bool:
    return any(
        number == _EXTERNAL or (number == _PLACE and value != 0)
        for number, value in _fields(message)
    )
