"""Compiles CUDA C++ to PTX with the NVRTC library of a wheel. Run by `cargo xtask ptx`.

Reads from stdin {"library": folder, "header": text of gpu.cuh, "jobs": [{"name", "source", "flags"}]} and prints, as
JSON, {"compiler": "12.0", "jobs": [{"ptx": text or null, "log": text}]} in the order of the jobs.
"""

import ctypes
import json
import os
import sys

request = json.load(sys.stdin)
# The library looks for its builtins by name alone: what is loaded already is found.
ctypes.CDLL(os.path.join(request["library"], "libnvrtc-builtins.so.12.0"), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(os.path.join(request["library"], "libnvrtc.so.12"))
nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p


def text_of(program, what):
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.value.decode()


def compiled(job):
    strings = lambda values: (ctypes.c_char_p * len(values))(*[v.encode() for v in values])
    program = ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), job["source"].encode(), job["name"].encode(),
        1, strings([request["header"]]), strings(["gpu.cuh"]),
    )
    if status == 0:
        status = nvrtc.nvrtcCompileProgram(program, len(job["flags"]), strings(job["flags"]))
    log = text_of(program, "ProgramLog") if program else ""
    if status != 0:
        return {"ptx": None, "log": f"{nvrtc.nvrtcGetErrorString(status).decode()}\n{log}"}
    return {"ptx": text_of(program, "PTX"), "log": log}


major, minor = ctypes.c_int(), ctypes.c_int()
nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
json.dump({"compiler": f"{major.value}.{minor.value}", "jobs": [compiled(job) for job in request["jobs"]]}, sys.stdout)
