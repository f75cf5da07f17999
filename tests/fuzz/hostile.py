"""Values, texts and bytes that no honest file holds, and ways to put them into one."""

import copy
import io
import json
import pickle
import struct
import zlib

from hypothesis import strategies as st
from sandbox import CANARY

TEXTS = [
    "",
    " ",
    ".",
    "..",
    "../../outside",
    "/outside",
    "/dev/zero",
    "/proc/self/mem",
    "~",
    "a/b",
    "a\\b",
    "a" * 300,
    "a" * 3_000,
    "a\0b",
    "a\nb\rc",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202eevil\u2066",
    "\ud800",
    "\ufeff",
    "é" * 50,
    "𝕳",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "[bold red]x[/bold red][/nothing]",
    "[link=https://evil.example]x[/link]",
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\\input{/etc/passwd}",
    "\\write18{id}",
    "| a | b |\n|---|",
    "![x](https://evil.example/x.png)",
    "%s%n%(x)s{0}{x.__class__}",
    "$(id)`id`",
    "1/0",
    "0/0",
    "8/255",
    "9" * 400 + "/1",
    "1e999",
    "nan",
    "null",
    "true",
    "2024-99-99",
    "0x_",
    "0b_",
    "1:60",
    "*a",
    "&a",
    "!x",
    "!!python/object/apply:os.system ['touch canary']",
    f"{CANARY}.X",
    "os.system",
    "meseta.__main__.X",
    "meseta.cli.main",
    "__main__.X",
    "builtins.eval",
    "Erm",
    "FGSM",
    "Mlp",
    "Network",
    "digits",
    "a/b/c",
    "L2",
]
NUMBERS = [0, -1, 1, 2, 255, 2**31, 2**62, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.0, -0.0, 0.5, 1e-320, 1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf"), True, False, None]
NAMES = [text for text in TEXTS if text.isprintable() and len(text) < 40]


def deep(n, value=1):
    """Return a list within n lists."""
    for _ in range(n):
        value = [value]
    return value


LONG = [60] * 9 + [1500]


def values():
    """Draw a value that JSON and YAML can hold."""
    leaves = st.one_of(
        st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.integers(), st.floats(), st.text(max_size=8)
    )
    trees = st.recursive(
        leaves,
        lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), part, max_size=3),
        max_leaves=6,
    )
    named = st.sampled_from(NAMES).map(lambda name: {"class_path": name, "init_args": {"weight": 1}})
    long = st.sampled_from(LONG).map(deep) | st.sampled_from([99, 999]).map(lambda n: [0] * n)
    return st.one_of(leaves, leaves, trees, named, long)


def places(tree, path=()):
    """Return the paths of all values in a tree of dicts and lists."""
    found = [path] if path else []
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in entries if len(path) < 20 else ():
        found += places(value, (*path, key))
    return found


@st.composite
def changed(draw, tree, most=3):
    """Draw the tree with a few values replaced, left out, doubled or put under another name."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(tree)))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        key, kind = path[-1], draw(st.sampled_from(["replace"] * 6 + ["remove", "add", "rename"]))
        if kind == "replace":
            parent[key] = draw(values())
        elif kind == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(draw(values()))
        else:
            parent[draw(st.sampled_from(TEXTS))] = draw(values()) if kind == "add" else parent.pop(key)
        if not places(tree):
            break
    return tree


def as_json(tree):
    """Write a tree as JSON; what nests too deeply for Python's writer is written by hand."""
    try:
        return json.dumps(tree).encode()
    except (RecursionError, ValueError):
        return b'{"schema_version": 1, "format": 1, "name": ' + b"[" * 5000 + b"]" * 5000 + b"}"


@st.composite
def damaged(draw, content):
    """Draw the bytes cut short, with some of them changed, doubled, or swapped for another file's beginning."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "insert", "zeros", "magic", "twice", "empty"]))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        found = bytearray(content)
        for _ in range(draw(st.integers(1, 8))):
            at = draw(st.integers(0, max(len(content) - 1, 0)))
            if found:
                found[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, *b"[]{}'\":,/\\<"]))
        return bytes(found)
    if kind == "insert":
        return content[:at] + draw(st.binary(max_size=12)) + content[at:]
    if kind == "zeros":
        return content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]
    if kind == "magic":
        return (
            draw(st.sampled_from([b"PK\x03\x04", b"\x80\x04", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY", b"PAR1", BOMB]))
            + content
        )
    return content * 2 if kind == "twice" else b""


class Payload:
    """Unpickling it starts a program, which the audit hook would see."""

    def __reduce__(self):
        import os

        return os.system, ("touch canary",)


BOMB = pickle.dumps(Payload())


def png(width, height, *, compressed=b"", kind=0):
    """Return a PNG that declares a size, whatever its content is."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def bright(width, height):
    """Return a small PNG of one colour and any size."""
    return png(width, height, compressed=zlib.compress((b"\0" + b"\xff" * width) * height, 9))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(canary) (w) file closefile\nshowpage\n%%EOF\n"


def safetensors(header, content=b"", *, length=None):
    """Return a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def laughs(levels=9, width=9):
    """Return YAML that stands for width ** levels values."""
    lines = [f"a0: &a0 [{', '.join(['lol'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"data: {{classes: *a{levels - 1}}}", ""])


def encoded(image, form, **options):
    """Return an image file's bytes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
