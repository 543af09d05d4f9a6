// matmul: out = a * b^T for 64 x k and 64 x k halves, f32 sums: a kernel with everything that can go wrong.
// Four warps, each 16 rows; slices of 64 columns by cp.async into two buffers; rows of 128 bytes, whose 16-byte chunks
// are swizzled so that ldmatrix meets no bank twice. Compiled to matmul.ptx by NVRTC 12.0.140,
//   --gpu-architecture=compute_80 --std=c++17
// and kept here as it came out, for the tests to break it.
#include <cuda_fp16.h>

__device__ __forceinline__ unsigned place(unsigned row, unsigned chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

extern "C" __global__ void __launch_bounds__(128) k(float* out, const half* in, int k) {
  extern __shared__ __align__(128) unsigned char memory[];
  const unsigned base = (unsigned)__cvta_generic_to_shared(memory);
  const unsigned thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const half* operands[2] = {in, in + 64 * k};
  auto load = [&](int slice) {
    const unsigned buffer = base + (slice & 1) * 16384;
#pragma unroll
    for (int operand = 0; operand < 2; operand++)
#pragma unroll 1
      for (unsigned i = thread; i < 512; i += 128) {
        const half* from = operands[operand] + (i >> 3) * k + slice * 64 + (i & 7) * 8;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(buffer + operand * 8192 + place(i >> 3, i & 7)), "l"(from) : "memory");
      }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float sums[8][4] = {};
  const int slices = k / 64;
  load(0);
#pragma unroll 1
  for (int slice = 0; slice < slices; slice++) {
    if (slice + 1 < slices) {
      load(slice + 1);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    const unsigned buffer = base + (slice & 1) * 16384;
#pragma unroll
    for (unsigned step = 0; step < 4; step++) {
      unsigned a[4];
      const unsigned at = buffer + place(warp * 16 + (lane & 15), step * 2 + (lane >> 4));
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(at) : "memory");
#pragma unroll
      for (unsigned n = 0; n < 4; n++) {
        unsigned b[4];
        const unsigned from = buffer + 8192 + place(n * 16 + (lane & 7) + ((lane >> 4) << 3), step * 2 + ((lane >> 3) & 1));
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];" : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(from) : "memory");
#pragma unroll
        for (int half8 = 0; half8 < 2; half8++) {
          float(&d)[4] = sums[n * 2 + half8];
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                       : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                       : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[half8 * 2]), "r"(b[half8 * 2 + 1]));
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int h = 0; h < 2; h++)
      *(float2*)(out + (warp * 16 + (lane >> 2) + h * 8) * 64 + n * 8 + (lane & 3) * 2) = make_float2(sums[n][h * 2], sums[n][h * 2 + 1]);
}
