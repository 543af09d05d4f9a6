// gpu.cuh: the only header that a kernel includes. Thin wrappers of PTX; no CUDA toolkit header is needed.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// A kernel's name in the PTX is its name here.
#define GPU_KERNEL extern "C" __global__ void

// Storage alone: what is computed is computed in f32. Own types, so that the PTX depends on no other header.
struct half { u16 bits; };
struct __align__(4) half2 { u32 bits; };  // the lower half is the first in memory
struct __align__(8) half4 { u32 pair[2]; };
struct __align__(16) half8 { u32 pair[4]; };

__device__ __forceinline__ float to_f32(half h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
  return f;
}

// Rounds to nearest even; what is too large becomes infinite, which the overflow check of the loss scale relies on.
__device__ __forceinline__ half to_half(float f) {
  half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
  return h;
}

__device__ __forceinline__ float first_f32(u32 pair) { return to_f32(half{(u16)pair}); }
__device__ __forceinline__ float second_f32(u32 pair) { return to_f32(half{(u16)(pair >> 16)}); }

// Two halves in one register. The instruction's first operand is the upper half.
__device__ __forceinline__ u32 pack_half2(float first, float second) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Shared-memory addresses of ldmatrix, cp.async and wgmma are 32-bit offsets, not pointers.
__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// D (16x8, f32) += A (16x16, f16, row-major) * B (16x8, f16, column-major), one warp.
// Lane 4g+t holds of D the rows g and g+8, columns 2t and 2t+1. Source: PTX ISA 8.0, 9.7.13.4.8.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8x8 tiles of f16: lanes 8i to 8i+7 name the 16-byte rows of tile i; lane 4g+t gets columns 2t, 2t+1 of row g.
// Volatile and with a memory clobber, for the compiler does not know that it reads what barriers guard.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// The same, each tile transposed: lane 4g+t gets rows 2t, 2t+1 of column g.
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// 16 bytes from global to shared memory past the registers; zeros, and nothing is read, where not `valid`.
__device__ __forceinline__ void cp_async16(u32 shared, const void* global, bool valid) {
  const u32 bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most PENDING of this thread's groups are on their way. Others' copies show after __syncthreads() alone.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Sum over the warp, in the same order in every run; all lanes get it.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// A table of rows of C halves in shared memory, for C = 16, 32, 48 and 64. ldmatrix reads 8 halves of each of 8 rows in
// succession. Swapping the eights within some rows lets every such read, and every write in order, touch each bank once,
// without padding.
template <int C>
__device__ __forceinline__ u32 flip(u32 row) {
  return C == 64 ? row & 7 : C == 32 ? row >> 1 & 3 : row >> 2 & 1;
}

// Bytes from the table's start to one eight of halves of a row.
template <int C>
__device__ __forceinline__ u32 swizzled(u32 row, u32 eight) {
  return row * (C * 2) + ((eight ^ flip<C>(row)) << 4);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// What follows needs compute_90a.

// An operand of wgmma in shared memory, without swizzle: core matrices are 8 rows of 16 bytes, one behind the other.
// `leading` bytes lie between core matrices along K, `stride` bytes between those along M or N. Source: PTX ISA 8.0,
// 9.7.14.5.1; cute/atom/mma_traits_sm90_gmma.hpp of CUTLASS for what leads where.
__device__ __forceinline__ u64 wgmma_descriptor(u32 address, u32 leading, u32 stride) {
  return (u64)(address >> 4 & 0x3FFF) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32;
}

#define HONE_D8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

// D (64x128, f32) += A (64x16, f16) * B (16x128, f16), one warpgroup; both in shared memory, their 16 in rows. Lane 4g+t of
// warp i holds rows 16i+g (d[4j], d[4j+1]) and 16i+g+8 (d[4j+2], d[4j+3]), columns 8j+2t and 8j+2t+1.
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], u64 a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
      "%64, %65, 1, 1, 1, 0, 0;"
      : HONE_D8(0), HONE_D8(8), HONE_D8(16), HONE_D8(24), HONE_D8(32), HONE_D8(40), HONE_D8(48), HONE_D8(56)
      : "l"(a), "l"(b));
}

// D (64x64, f32) += A (64x16, f16) * B (16x64, f16), one warpgroup; A in registers as for mma_m16n8k16, 16 rows a warp; B in
// shared memory, its 64 in rows.
__device__ __forceinline__ void wgmma_m64n64k16_trans(float (&d)[32], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
      : HONE_D8(0), HONE_D8(8), HONE_D8(16), HONE_D8(24)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Before the first wgmma that uses registers which other instructions have written.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// What this thread wrote to shared memory, wgmma reads by another way: without this it may see the past.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#endif
