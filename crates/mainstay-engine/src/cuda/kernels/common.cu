// What all kernels share: number formats, reductions, and where a token's row lies in the cache.
//
// EXACT makes activations and cached rows f32: for comparing with the reference. Without it both
// are bf16, sums stay f32. No header is included, so that the compiler needs none on the machine.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef EXACT
typedef float act;
__device__ __forceinline__ float up(act x) { return x; }
__device__ __forceinline__ act down(float x) { return x; }
#else
typedef u16 act;
__device__ __forceinline__ float up(act x) { return __uint_as_float((u32)x << 16); }
__device__ __forceinline__ act down(float x) {
    u16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
#endif

// Two numbers as a pair of bf16, the first in the low half.
__device__ __forceinline__ u32 pair(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// How a weight is stored: as in `Element`.
enum { F32 = 0, BF16 = 1, F16 = 2 };

__device__ __forceinline__ float weight(const void* w, u64 at, int element) {
    if (element == F32) return ((const float*)w)[at];
    u16 bits = ((const u16*)w)[at];
    if (element == BF16) return __uint_as_float((u32)bits << 16);
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(~0u, x, apart);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, apart));
    return x;
}

// The sum over a block of at most 32 warps; all threads get it.
__device__ float block_sum(float x) {
    __shared__ float parts[32];
    int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[warp] = x;
    __syncthreads();
    float all = 0;
    for (int i = 0; i < warps; i++) all += parts[i];
    return all;
}

// A launch may begin while the one before it still runs: what that one wrote is read after this.
__device__ __forceinline__ void after_the_one_before() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}
__device__ __forceinline__ void let_the_next_begin() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// The paged cache, one layer of it.
struct Cache {
    act* rows;
    const u32* tables;   // a row of page numbers for each sequence of the step
    int table_row;
    int layers, layer;
    int page_tokens;
    int row;             // numbers in a row
};

__device__ __forceinline__ u64 row_of(const Cache& c, int table, int position) {
    u64 page = c.tables[(u64)table * c.table_row + position / c.page_tokens];
    return ((page * c.layers + c.layer) * c.page_tokens + position % c.page_tokens) * c.row;
}

// One token of a step.
struct Slot {
    u32 token;
    int position;
    int table;
};

extern __shared__ __align__(16) unsigned char memory[];

__device__ __forceinline__ u32 shared_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

// Copies 16 bytes to shared memory in the background; zeros where `has` is false.
__device__ __forceinline__ void copy16(void* to, const void* from, bool has) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(has ? 16 : 0));
}
__device__ __forceinline__ void copies_end() { asm volatile("cp.async.commit_group;"); }
template <int LEFT>
__device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT));
}

__device__ __forceinline__ void load4(u32 (&r)[4], const void* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}
__device__ __forceinline__ void load4_turned(u32 (&r)[4], const void* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}

// c += a b for a 16x16 and a 16x8 tile of bf16.
__device__ __forceinline__ void mma(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
