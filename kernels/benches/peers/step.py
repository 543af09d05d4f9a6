#!/usr/bin/env python3
"""The same training step in PyTorch, as fast as PyTorch makes it, beside ours.

    step.py [--ours kernels.json] [--json peers.json] [--steps 100]

AMP in fp16, channels_last, torch.compile with autotuning, fused Adam, and the whole step (forward, loss, backward,
optimiser) captured in one CUDA graph. The batch lies ready on the device and the bicubic base with it, both of which
ours makes anew in each step. Needs Python with torch and a CUDA device; nothing else.

Times are the median of single replays between two events, after a warm-up.
"""

import argparse
import json
import statistics
import sys

NETS = [("live", 4, 16, 2), ("live", 8, 32, 2), ("live", 16, 64, 2), ("live", 4, 16, 4), ("live", 8, 32, 4),
        ("live", 16, 64, 4), ("edsr", 16, 64, 2), ("edsr", 16, 64, 4)]
BATCHES = [16, 64]
CROP = 48
WARM_UP = 20
LOSS_SCALE = 65536.0


def build(torch, family, blocks, features, scale):
    """The network of model/src/arch.rs."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(features, features, 3, padding=1)
            self.second = nn.Conv2d(features, features, 3, padding=1)

        def forward(self, x):
            return x + self.second(torch.relu(self.first(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(4 if family == "live" else 3, features, 3, padding=1)
            self.body = nn.Sequential(*[Block() for _ in range(blocks)])
            self.end = nn.Conv2d(features, features, 3, padding=1)
            tail = []
            if family == "live":
                tail.append(nn.Conv2d(features, 3 * scale * scale, 3, padding=1))
                if scale > 1:
                    tail.append(nn.PixelShuffle(scale))
            else:
                for s in {1: [], 2: [2], 3: [3], 4: [2, 2]}[scale]:
                    tail += [nn.Conv2d(features, features * s * s, 3, padding=1), nn.PixelShuffle(s)]
                tail.append(nn.Conv2d(features, 3, 3, padding=1))
            self.tail = nn.Sequential(*tail)

        def forward(self, x):
            x = self.head(x)
            return self.tail(x + self.end(self.body(x)))

    return Net()


def step_ms(torch, net, batch, steps):
    """Median time of one captured step, milliseconds."""
    family, _, _, scale = net
    device = torch.device("cuda")
    model = build(torch, *net).to(device, memory_format=torch.channels_last)
    compiled = torch.compile(model, mode="max-autotune-no-cudagraphs")
    channels = 4 if family == "live" else 3
    def image(c, side):
        x = torch.rand(batch, c, side, side, device=device)
        return x.contiguous(memory_format=torch.channels_last)
    lr, base, hr = image(channels, CROP), image(3, CROP * scale), image(3, CROP * scale)
    optimiser = torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-4, device=device), fused=True,
                                 capturable=True)
    # What torch.amp.GradScaler sets for a fused optimiser, without its look at the host.
    optimiser.grad_scale = torch.tensor(LOSS_SCALE, device=device)
    optimiser.found_inf = torch.zeros((), device=device)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16):
            out = compiled(lr)
        d = out.float() + base - hr
        loss = torch.sqrt(d * d + 1e-4).mean()
        (loss * LOSS_SCALE).backward()
        optimiser.step()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()
    for _ in range(WARM_UP):
        graph.replay()
    times = []
    for _ in range(steps):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", help="what our benchmark wrote with --json")
    parser.add_argument("--json", help="where to write these times")
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("no torch: pip install torch")
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    ours = {}
    if args.ours:
        with open(args.ours) as file:
            for row in json.load(file)["steps"]:
                ours[row["net"], row["batch"]] = row["ms"]
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, crop {CROP}")
    print(f"{'net':16} {'batch':>5} {'torch ms':>9} {'ours ms':>9} {'ratio':>6}")
    rows = []
    for net in NETS:
        name = f"{net[0]}-{net[1]}x{net[2]}-x{net[3]}"
        for batch in BATCHES:
            try:
                ms = step_ms(torch, net, batch, args.steps)
            except torch.cuda.OutOfMemoryError:
                print(f"{name:16} {batch:5} out of memory")
                continue
            mine = ours.get((name, batch))
            rows.append({"net": name, "batch": batch, "ms": ms, "ours_ms": mine})
            tail = f"{mine:9.3f} {ms / mine:6.1f}" if mine else ""
            print(f"{name:16} {batch:5} {ms:9.3f} {tail}", flush=True)
            torch._dynamo.reset()
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "steps": rows}, file,
                      indent=1)


if __name__ == "__main__":
    main()
