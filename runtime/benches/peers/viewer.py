#!/usr/bin/env python3
"""The same networks in ncnn and onnxruntime, beside ours: on one adapter, and on the CPU, in one run.

    viewer.py --hone target/release/hone [--nets 4x16,8x32] [--sizes 480x270] [--scale 2] [--threads 2]
              [--rounds 3] [--backend all] [--variant f16-storage] [--icd lvp_icd.x86_64.json]
              [--webgpu-python PYTHON] [--json peers.json]

Needs Python with:            pip install numpy onnxruntime ncnn
and, for WebGPU, a second one, since both packages are called onnxruntime:
                              python3 -m venv webgpu && webgpu/bin/pip install numpy onnxruntime-webgpu
What is missing is left out and said. Nothing is installed.

`hone model export` writes the network, `hone bench viewer` runs it and keeps its input and output. Each engine runs in a
process of its own, one after the other, several rounds; the least of each counts. Each is given the picture in main
memory and gives it back there. Ours also converts from YUV and to 8 bits; theirs do the bicubic base as a convolution,
which is not counted as work. CPU seconds are those of the process: on a software adapter they are what the work cost,
whatever else the machine did. Both their whole picture and the network without the base are timed. ncnn runs in its default precision (16 bits where the adapter has them) and in f32.
"""

import argparse
import importlib.util
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time

SEED = "1"
SECONDS = 3.0
# Ours is given more: it leaves out what takes four times as long as it is given.
SECONDS_OURS = "10"
# Largest error of an f32 engine, in steps of 8 bits: half a step is rounding, the rest is the order of sums.
ERROR_MAX_F32 = 0.52


# ---------------------------------------------------------------- ONNX, as model/src/onnx.rs writes it


def fields(data):
    """(number, value) of each field of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = varint()
            yield key >> 3, data[at:at + length]
            at += length


def every(message, number):
    return [value for n, value in fields(message) if n == number]


def read_onnx(path):
    """Nodes (kind, inputs, output, attributes) and constants {name: f32 or int64 array}."""
    import numpy as np
    with open(path, "rb") as file:
        graph = every(file.read(), 7)[0]
    constants = {}
    for tensor in every(graph, 5):
        kind = {1: "<f4", 7: "<i8"}[every(tensor, 2)[0]]
        array = np.frombuffer(every(tensor, 9)[0], kind).reshape(every(tensor, 1))
        constants[every(tensor, 8)[0].decode()] = array
    nodes = []
    for node in every(graph, 1):
        attributes = {}
        for attribute in every(node, 5):
            values = every(attribute, 8) or every(attribute, 3) or every(attribute, 4)
            attributes[every(attribute, 1)[0].decode()] = values
        inputs = [name.decode() for name in every(node, 1)]
        nodes.append((every(node, 4)[0].decode(), inputs, every(node, 2)[0].decode(), attributes))
    return nodes, constants


def write_ncnn(path, stem):
    """The same network as ncnn's text and weights. Source: ncnn's wiki, param-and-model-file-structure, operators."""
    nodes, constants = read_onnx(path)
    relu_of = {node[1][0]: node[2] for node in nodes if node[0] == "Relu"}
    layers, weights = [("Input", [], "input", "")], b""
    for kind, inputs, output, attributes in nodes:
        values = [name for name in inputs if name not in constants]
        if kind == "Conv":
            weight = constants[inputs[1]]
            bias = inputs[2:]
            pad = attributes.get("pads", [0])[0]
            # As ncnn's own converter does, ReLU is part of its convolution.
            fused = output in relu_of
            layers.append(("Convolution", values, relu_of.get(output, output),
                           f"0={weight.shape[0]} 1={weight.shape[2]} 4={pad} 5={len(bias)} 6={weight.size}"
                           + (" 9=1" if fused else "")))
            weights += struct.pack("<I", 0) + weight.tobytes() + b"".join(constants[b].tobytes() for b in bias)
        elif kind == "Relu":
            continue
        elif kind == "Identity":
            layers.append(("Noop", values, output, ""))
        elif kind == "Sub":
            mean = constants[inputs[1]]
            layers.append(("Scale", values, output, f"0={mean.size} 1=1"))
            weights += (mean * 0 + 1).tobytes() + (-mean).tobytes()
        elif kind == "Mul":
            layers.append(("BinaryOp", values, output, f"0=2 1=1 2={float(constants[inputs[1]])}"))
        elif kind == "Add" and len(values) == 2:
            layers.append(("BinaryOp", values, output, "0=0"))
        elif kind == "Pad":
            edge = constants[inputs[1]][2]
            layers.append(("Padding", values, output, f"0={edge} 1={edge} 2={edge} 3={edge} 4=1"))
        elif kind == "DepthToSpace":
            layers.append(("PixelShuffle", values, output, f"0={attributes['blocksize'][0]}"))
        else:
            raise SystemExit(f"no ncnn layer for {kind} of {inputs}")
    # A value that is read more than once is split.
    readers = {}
    for _, inputs, _, _ in layers:
        for name in inputs:
            readers[name] = readers.get(name, 0) + 1
    lines, blobs, taken = [], 0, {}
    for kind, inputs, output, parameters in layers:
        names = []
        for name in inputs:
            if readers[name] > 1:
                taken[name] = taken.get(name, -1) + 1
                name = f"{name}:{taken[name]}"
            names.append(name)
        lines.append(f"{kind} {output} {len(names)} 1 {' '.join(names + [output])} {parameters}")
        blobs += 1
        count = readers.get(output, 0)
        if count > 1:
            copies = " ".join(f"{output}:{i}" for i in range(count))
            lines.append(f"Split {output}:split 1 {count} {output} {copies}")
            blobs += count
    with open(stem + ".param", "w") as file:
        file.write(f"7767517\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n")
    with open(stem + ".bin", "wb") as file:
        file.write(weights)


# ---------------------------------------------------------------- one engine, in a process of its own


def frame_of(engine, model, input_path, w, h, threads):
    """A function that computes one frame from and to main memory."""
    import numpy as np
    x = np.fromfile(input_path, "<f4").reshape(1, 4, h, w)
    if engine.startswith("onnxruntime"):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        provider = "WebGpuExecutionProvider" if engine.endswith("webgpu") else "CPUExecutionProvider"
        # An operator that the adapter cannot do must not be done by the CPU unseen.
        if engine.endswith("webgpu"):
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = ort.InferenceSession(model, options, providers=[provider])
        if provider not in session.get_providers():
            raise SystemExit(f"onnxruntime does not take {provider}")
        return lambda: session.run(["output"], {"input": x})[0][0]
    import ncnn
    net = ncnn.Net()
    net.opt.num_threads = threads
    if engine.startswith("ncnn-vulkan"):
        net.opt.use_vulkan_compute = True
        net.set_vulkan_device(0)
    if engine.endswith("f32"):
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
    stem = model.removesuffix(".onnx")
    if net.load_param(stem + ".param") or net.load_model(stem + ".bin"):
        raise SystemExit("ncnn cannot load the network")
    # A copy: what it is made from it does not keep alive.
    mat = ncnn.Mat(x[0]).clone()

    def frame():
        with net.create_extractor() as extractor:
            extractor.input("input", mat)
            failed, output = extractor.extract("output")
            if failed:
                raise SystemExit("ncnn cannot compute the network")
            return np.array(output)

    return frame


def child(engine, whole, residual, input_path, w, h, threads, output_path):
    def cpu_seconds():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    result = {}
    for part, model in [("", whole), ("_residual", residual)]:
        frame = frame_of(engine, model, input_path, int(w), int(h), int(threads))
        first = frame()
        if model == whole:
            first.astype("<f4").tofile(output_path)
        walls, cpus, start = [], [], time.monotonic()
        while len(walls) < 2 or time.monotonic() - start < SECONDS:
            cpu, wall = cpu_seconds(), time.perf_counter()
            frame()
            walls.append(time.perf_counter() - wall)
            cpus.append(cpu_seconds() - cpu)
        result["ms" + part], result["cpu_ms" + part] = min(walls) * 1e3, min(cpus) * 1e3
    print("RESULT", json.dumps(result), flush=True)
    # Vulkan's drivers are not always able to end.
    os._exit(0)


# ---------------------------------------------------------------- all of them


def version(python, package, provider=None):
    """Version of a package in that Python, or none."""
    probe = f"import {package} as p; assert {provider!r} in (None, *getattr(p, 'get_available_providers', list)()); " \
            "print(p.__version__)"
    ran = subprocess.run([python, "-c", probe], capture_output=True, text=True)
    return ran.stdout.strip().splitlines()[-1] if ran.returncode == 0 else None


def say(text):
    print(text, file=sys.stderr, flush=True)


def ours(options, env, folder, net, size):
    """Rows of our own benchmark. The CPU's output is always there, to compare with."""
    rows = []
    for backend in ["cpu"] if options.backend == "cpu" else ["cpu", "wgpu"]:
        path = os.path.join(folder, "rows.json")
        given = {"--adapter": options.adapter, "--variant": options.variant} if backend == "wgpu" else {}
        more = [word for name, value in given.items() if value for word in (name, value)]
        subprocess.run([options.hone, "bench", "viewer", "--nets", net, "--sizes", size, "--scales", str(options.scale),
                        "--backend", backend, "--seconds", SECONDS_OURS, "--keep", folder, "--json", path, *more],
                       check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(path) as file:
            rows += json.load(file)
    if len(rows) != (1 if options.backend == "cpu" else 2):
        raise SystemExit("hone bench viewer skipped a row: run it alone to see why")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hone", default="target/release/hone")
    parser.add_argument("--nets", default="4x16,8x32")
    parser.add_argument("--sizes", default="480x270")
    parser.add_argument("--scale", type=int, default=2, choices=range(1, 5))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="all", choices=["cpu", "wgpu", "all"])
    parser.add_argument("--icd", help="the Vulkan driver's manifest, to make all use one adapter")
    parser.add_argument("--adapter", help="our name or index of that adapter")
    parser.add_argument("--variant", help="our shader variant: f32, f16-storage, f16, coop8 or coop16")
    parser.add_argument("--webgpu-python", default=sys.executable)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    env = dict(os.environ, RAYON_NUM_THREADS=str(options.threads), LP_NUM_THREADS=str(options.threads))
    if options.icd:
        env["VK_ICD_FILENAMES"] = env["VK_DRIVER_FILES"] = options.icd

    if importlib.util.find_spec("numpy") is None:
        raise SystemExit("numpy is missing: pip install numpy onnxruntime ncnn")
    ncnn, ort = version(sys.executable, "ncnn"), version(sys.executable, "onnxruntime")
    webgpu = version(options.webgpu_python, "onnxruntime", "WebGpuExecutionProvider")
    engines = []  # name, Python, version
    for name, python, found, package in [("ncnn-vulkan", sys.executable, ncnn, "ncnn"),
                                         ("ncnn-vulkan-f32", sys.executable, ncnn, "ncnn"),
                                         ("onnxruntime-webgpu", options.webgpu_python, webgpu, "onnxruntime-webgpu"),
                                         ("ncnn-cpu", sys.executable, ncnn, "ncnn"),
                                         ("onnxruntime-cpu", sys.executable, ort, "onnxruntime")]:
        on_cpu = name.endswith("cpu")
        if options.backend == ("wgpu" if on_cpu else "cpu"):
            continue
        if found:
            engines.append((name, python, found))
        else:
            say(f"{name} is left out: pip install {package}")

    results, bad = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for net in options.nets.split(","):
            for size in options.sizes.split(","):
                results += compare(options, env, folder, net, size, engines)
                if options.json:
                    with open(options.json, "w") as file:
                        json.dump(results, file, indent=1)
    for row in results:
        bad += row["f32"] and not row["error"] <= ERROR_MAX_F32
    show(results)
    if bad:
        raise SystemExit(f"{bad} engines in f32 are off by more than {ERROR_MAX_F32} of 255")


def compare(options, env, folder, net, size, engines):
    """The rows of one network: ours on the adapter and on the CPU, then the others."""
    import numpy as np
    w, h = map(int, size.split("x"))
    arch = f"live-{net}-x{options.scale}"
    models = []
    for part in [], ["--residual"]:
        models.append(os.path.join(folder, arch + "".join(part) + ".onnx"))
        subprocess.run([options.hone, "model", "export", "--onnx", models[-1], "--arch", arch, "--seed", SEED,
                        "--lr", size, *part], check=True, stdout=subprocess.DEVNULL)
        write_ncnn(models[-1], models[-1].removesuffix(".onnx"))
    stem = os.path.join(folder, f"{arch}-{size}")
    best, failed, gflop = {}, set(), None

    def least(name, times, **more):
        old = best.setdefault(name, dict(more, **times))
        old.update({key: min(old[key], value) for key, value in times.items()})

    for turn in range(options.rounds):
        say(f"{arch} at {size}, round {turn + 1}: hone")
        for row in ours(options, env, folder, net, size):
            gflop = row["gflops"] * row["ms"] / 1e3
            cpu_ms = gflop / row["gflop_per_cpu_s"] * 1e3
            times = {"ms": row["ms_min"], "cpu_ms": cpu_ms, "ms_residual": row["ms_min"], "cpu_ms_residual": cpu_ms}
            least("hone-" + row["backend"], times, version=row["variant"], adapter=row["adapter"])
        for name, python, found in engines:
            if name in failed:
                continue
            say(f"{arch} at {size}, round {turn + 1}: {name}")
            ran = subprocess.run([python, __file__, "--child", name, *models, stem + ".input", str(w), str(h),
                                  str(options.threads), f"{stem}.{name}"], env=env, capture_output=True, text=True)
            result = [line[7:] for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
            if not result:
                say(f"{name} failed: {(ran.stderr or ran.stdout).strip()[-1000:]}")
                failed.add(name)
                continue
            least(name, json.loads(result[0]), version=found)

    s = options.scale
    cpu = np.fromfile(stem + ".cpu.rgba", np.uint8).reshape(s * h, s * w, 4)[..., :3].astype(np.float32)
    rows = []
    for name, row in best.items():
        if name == "hone-cpu":
            error = 0.0
        elif name == "hone-wgpu":
            other = np.fromfile(stem + ".wgpu.rgba", np.uint8).reshape(s * h, s * w, 4)[..., :3].astype(np.float32)
            error = float(np.abs(other - cpu).max())
        else:
            other = np.fromfile(f"{stem}.{name}", "<f4").reshape(3, s * h, s * w).transpose(1, 2, 0)
            error = float(np.abs(255 * other.clip(0, 1) - cpu).max())
        f32 = name.endswith(("f32", "webgpu", "onnxruntime-cpu"))
        on_cpu = name.endswith("cpu")
        mine = best["hone-cpu" if on_cpu else "hone-wgpu"]
        rows.append(dict(row, net=net, lr=size, scale=s, engine=name, f32=f32, error=error,
                         gflop_per_cpu_s=gflop / row["cpu_ms"] * 1e3,
                         ours_wall=row["ms"] / mine["ms"], ours_cpu=row["cpu_ms"] / mine["cpu_ms"],
                         ours_cpu_residual=row["cpu_ms_residual"] / mine["cpu_ms"]))
    return rows


def show(rows):
    print("Times ours is faster: wall and CPU time of the whole picture, CPU time if theirs leave out the base.")
    print("| network | LR | engine | version | ms | CPU ms | GFLOP a CPU s | wall | CPU | CPU, no base | error of 255 |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda r: r["engine"].endswith("cpu")):
        print(f"| live-{row['net']}-x{row['scale']} | {row['lr']} | {row['engine']} | {row['version']} | {row['ms']:.1f} | "
              f"{row['cpu_ms']:.1f} | {row['gflop_per_cpu_s']:.1f} | {row['ours_wall']:.2f} | {row['ours_cpu']:.2f} | "
              f"{row['ours_cpu_residual']:.2f} | {row['error']:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
