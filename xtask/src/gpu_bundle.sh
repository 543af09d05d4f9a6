#!/bin/sh
# Tests, times and compares on this machine's GPU; needs its driver, nothing else. Everything is kept in results/.
# Where there is no GPU it says so and does what can be done: the tests and the trace on the interpreter.
cd "$(dirname "$0")" || exit 1
mkdir -p results
failed=0

say() { printf '\n== %s\n' "$*" | tee -a results/summary.txt; }

# $1: file for the output; the rest: a command.
keep() {
    file=results/$1
    shift
    "$@" >"$file" 2>&1
    status=$?
    tail -n 3 "$file"
    if [ $status -ne 0 ]; then
        failed=$((failed + 1))
        say "FAILED ($status): $*; see $file"
    fi
    return $status
}

: >results/summary.txt
say "machine"
{ date -u; uname -srm; nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>/dev/null; } |
    tee -a results/summary.txt

if ./kernels --trace results/card.txt >results/trace.txt 2>&1; then
    card=yes
    tail -n 1 results/trace.txt | tee -a results/summary.txt
else
    card=no
    say "no card: $(tail -n 1 results/trace.txt)"
fi

for test in tests/*; do
    name=$(basename "$test")
    if [ $card = yes ]; then
        say "test $name on the card"
        HONE_CUDA_DRIVER=installed keep "test-$name.txt" "$test" --test-threads 1
    else
        say "test $name on the interpreter"
        keep "test-$name.txt" "$test"
    fi
done

say "the same program on the interpreter"
LD_LIBRARY_PATH=$PWD/standin keep trace-interpreter.txt ./kernels --trace results/interpreter.txt
if [ $card = yes ]; then
    keep compare.txt ./kernels --compare results/card.txt results/interpreter.txt && cat results/compare.txt
    say "two runs on the card"
    keep trace-again.txt ./kernels --trace results/card-again.txt
    if cmp -s results/card.txt results/card-again.txt; then
        say "the same bits"
    else
        failed=$((failed + 1))
        say "FAILED: two runs differ"
    fi
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            say "compute-sanitizer $tool"
            keep "sanitizer-$tool.txt" compute-sanitizer --tool $tool --error-exitcode 1 ./kernels --trace results/sanitized.txt
        done
    else
        say "no compute-sanitizer here"
    fi
fi

say "times"
keep times.txt ./kernels --json results/times.json && cat results/times.txt
if [ $card = yes ]; then
    if python3 -c 'import torch' 2>/dev/null; then
        say "the same step in PyTorch"
        keep peers.txt python3 peers/step.py --ours results/times.json --json results/peers.json && cat results/peers.txt
    else
        say "no python3 with torch here"
    fi
fi

say "the viewer's network on Vulkan and on the CPU"
# In a container the driver often comes without the loader, and without the file that names it to Vulkan.
if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    LD_LIBRARY_PATH=$PWD/vulkan${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
if [ $card = yes ] && ! ls /usr/share/vulkan/icd.d/nvidia* /etc/vulkan/icd.d/nvidia* >/dev/null 2>&1; then
    echo '{"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.0"}}' \
        >results/nvidia_icd.json
    VK_DRIVER_FILES=$PWD/results/nvidia_icd.json VK_ICD_FILENAMES=$PWD/results/nvidia_icd.json
    export VK_DRIVER_FILES VK_ICD_FILENAMES
fi
say "every shader variant that the adapter has, against the oracle"
keep shaders.txt ./shaders --nocapture --test-threads 1
keep viewer.txt ./hone bench viewer --json results/viewer.json && cat results/viewer.txt

say "$failed failed"
[ $failed -eq 0 ]
