#!/usr/bin/env python3
"""Gives every NAME.62.hlsl of a directory to Microsoft's DXC as wgpu does: a line for each, as tests/compilers.rs reads them.
usage: dxc.py libdxcompiler.so DIR"""
import ctypes as c
import pathlib
import sys
import uuid

library, directory = c.CDLL(sys.argv[1]), pathlib.Path(sys.argv[2])


def identity(of):
    return c.create_string_buffer(uuid.UUID(of).bytes_le, 16)


COMPILER = identity("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")  # CLSID_DxcCompiler
COMPILER3 = identity("228b4687-5a6a-4730-900c-9702b2203f54")  # IDxcCompiler3
RESULT = identity("58346cda-dde7-4497-9461-6f87af5e0659")  # IDxcResult
# What stands before an interface's own methods: QueryInterface, AddRef, Release, and in this library two destructors.
BEFORE = 5


class Source(c.Structure):
    """DxcBuffer"""
    _fields_ = [("text", c.c_char_p), ("bytes", c.c_size_t), ("encoding", c.c_uint)]


def call(interface, method, *arguments, result=c.c_int):
    """A method of an interface, counted from its own first; numbers and pointers as arguments."""
    table = c.cast(c.cast(interface, c.POINTER(c.c_void_p))[0], c.POINTER(c.c_void_p))
    kind = c.CFUNCTYPE(result, c.c_void_p, *(type(a) if isinstance(a, c._SimpleCData) else c.c_void_p for a in arguments))
    return kind(table[BEFORE + method])(interface, *arguments)


def compile(compiler, text):
    """None, or the compiler's message."""
    words = ["-E", "main", "-T", "cs_6_2", "-HV", "2018", "-no-warnings", "-Ges", "-enable-16bit-types"]
    source, result, status = Source(text, len(text), 65001), c.c_void_p(), c.c_int(1)
    arguments = (c.c_wchar_p * len(words))(*words)
    # IDxcCompiler3::Compile, then of the IDxcOperationResult that it gives GetStatus and GetErrorBuffer.
    code = call(compiler, 0, c.addressof(source), c.addressof(arguments), c.c_uint(len(words)), None,
                c.addressof(RESULT), c.addressof(result))
    if code == 0:
        call(result, 0, c.addressof(status))
    if code == 0 and status.value == 0:
        return None
    message = c.c_void_p()
    if code == 0:
        call(result, 2, c.addressof(message))
    if not message:
        return f"{code & 0xFFFFFFFF:08x}"
    start, n = call(message, 0, result=c.c_void_p), call(message, 1, result=c.c_size_t)
    return c.string_at(start, n).decode(errors="replace")


compiler = c.c_void_p()
library.DxcCreateInstance.argtypes = [c.c_void_p] * 3
if library.DxcCreateInstance(c.addressof(COMPILER), c.addressof(COMPILER3), c.addressof(compiler)) != 0:
    sys.exit("dxc.py: the library has no compiler")
for file in sorted(directory.glob("*.62.hlsl")):
    name = file.name.removesuffix(".62.hlsl")
    print("START", name, sep="\t", flush=True)
    message = compile(compiler, file.read_bytes())
    if message is None:
        print("KERNEL", name, "", sep="\t", flush=True)
    else:
        print("FAILED", name, " ".join(message.split())[:400], sep="\t", flush=True)
