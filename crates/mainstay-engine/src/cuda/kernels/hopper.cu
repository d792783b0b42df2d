// Products and attention of many tokens by the matrix units of Hopper (compute capability 9.0), which read both
// sides from shared memory by themselves. The same order of summation for every number.
#if defined(HOPPER) && !defined(EXACT)

// Where a matrix begins, for the unit: rows of 128 bytes whose parts are exchanged as in `mixed`,
// eight of them to a group of 1024 bytes.
__device__ __forceinline__ u64 described(const void* p) {
    return (u64)((shared_address(p) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// c += a b for 64 tokens, so many rows as `c` says and 16 columns.
__device__ __forceinline__ void wide_mma(float (&c)[128], u64 a, u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, 1, 1, 1, 0, 0;"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
          "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),
          "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]),
          "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]),
          "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]),
          "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]),
          "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
          "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),
          "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]),
          "+f"(c[63]), "+f"(c[64]), "+f"(c[65]), "+f"(c[66]), "+f"(c[67]), "+f"(c[68]), "+f"(c[69]),
          "+f"(c[70]), "+f"(c[71]), "+f"(c[72]), "+f"(c[73]), "+f"(c[74]), "+f"(c[75]), "+f"(c[76]),
          "+f"(c[77]), "+f"(c[78]), "+f"(c[79]), "+f"(c[80]), "+f"(c[81]), "+f"(c[82]), "+f"(c[83]),
          "+f"(c[84]), "+f"(c[85]), "+f"(c[86]), "+f"(c[87]), "+f"(c[88]), "+f"(c[89]), "+f"(c[90]),
          "+f"(c[91]), "+f"(c[92]), "+f"(c[93]), "+f"(c[94]), "+f"(c[95]), "+f"(c[96]), "+f"(c[97]),
          "+f"(c[98]), "+f"(c[99]), "+f"(c[100]), "+f"(c[101]), "+f"(c[102]), "+f"(c[103]), "+f"(c[104]),
          "+f"(c[105]), "+f"(c[106]), "+f"(c[107]), "+f"(c[108]), "+f"(c[109]), "+f"(c[110]), "+f"(c[111]),
          "+f"(c[112]), "+f"(c[113]), "+f"(c[114]), "+f"(c[115]), "+f"(c[116]), "+f"(c[117]), "+f"(c[118]),
          "+f"(c[119]), "+f"(c[120]), "+f"(c[121]), "+f"(c[122]), "+f"(c[123]), "+f"(c[124]), "+f"(c[125]),
          "+f"(c[126]), "+f"(c[127])
        : "l"(a), "l"(b));
}
__device__ __forceinline__ void wide_mma(float (&c)[64], u64 a, u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1, 0, 0;"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
          "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),
          "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]),
          "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]),
          "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]),
          "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]),
          "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
          "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),
          "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]),
          "+f"(c[63])
        : "l"(a), "l"(b));
}

// The same with `a` in registers, and `b` laid out row by row.
__device__ __forceinline__ void mix_mma(float (&c)[64], const u32 (&a)[4], u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
          "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]),
          "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]),
          "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]),
          "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]), "+f"(c[33]), "+f"(c[34]),
          "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]), "+f"(c[41]),
          "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
          "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]),
          "+f"(c[56]), "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]),
          "+f"(c[63])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void units_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void units_go() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT>
__device__ __forceinline__ void units_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
// What this thread wrote to shared memory is for the units to read.
__device__ __forceinline__ void to_units() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// 128 tokens, half of them to each of two groups of four warps, by ROWS rows.
template <int ROWS, int STAGES_>
__device__ void many_wide(const Product& p) {
    const int size = (128 + ROWS) * DEEP;
    u16* stages = (u16*)(((u64)memory + 1023) / 1024 * 1024);
    after_the_one_before();
    let_the_next_begin();
    Part part;
    if (!part_of(p, blockIdx.y, 128, part)) return;
    int first_row = blockIdx.x * ROWS;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4;
    int copy_part = threadIdx.x % 8, copy_row = threadIdx.x / 8;
    const u16* x_rows[4];
    u32 has_x = 0, has_w = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = part.first + copy_row + i * 32;
        if (row < part.end) has_x |= 1u << i;
        x_rows[i] = (const u16*)p.x + (row < part.end ? x_at(p, row) : 0) + copy_part * 8;
    }
#pragma unroll
    for (int i = 0; i < ROWS / 32; i++)
        if (first_row + copy_row + i * 32 < p.n) has_w |= 1u << i;
    const u16* w = (const u16*)part.w + (u64)(first_row + copy_row) * p.k + copy_part * 8;
    const u64 w_apart = 32ull * p.k;
    auto copy = [&](int stage, int from) {
        u16* xs = stages + stage * size;
        u16* ws = xs + 128 * DEEP;
        bool has = from + copy_part * 8 < p.k;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            bool own = has && (has_x >> i & 1);
            copy16(xs + mixed(copy_row + i * 32, copy_part), own ? x_rows[i] + from : (const u16*)p.x, own);
        }
#pragma unroll
        for (int i = 0; i < ROWS / 32; i++) {
            bool own = has && (has_w >> i & 1);
            copy16(ws + mixed(copy_row + i * 32, copy_part),
                   own ? w + i * w_apart + from : (const u16*)part.w, own);
        }
    };
    int deep = (p.k + DEEP - 1) / DEEP;
#pragma unroll
    for (int s = 0; s < STAGES_ - 2; s++) {
        if (s < deep) copy(s, s * DEEP);
        copies_end();
    }
    float c[ROWS / 2];
#pragma unroll
    for (int i = 0; i < ROWS / 2; i++) c[i] = 0;
    for (int step = 0; step < deep; step++) {
        copies_wait<STAGES_ - 3 < 0 ? 0 : STAGES_ - 3>();
        to_units();
        __syncthreads();
        const u16* xs = stages + step % STAGES_ * size + group * 64 * DEEP;
        const u16* ws = stages + step % STAGES_ * size + 128 * DEEP;
        u64 a = described(xs), b = described(ws);
        units_begin();
#pragma unroll
        for (int k = 0; k < DEEP / 16; k++) wide_mma(c, a + 2 * k, b + 2 * k);
        units_go();
        // Both groups are through with the stage before the last: its place is free.
        int next = step + STAGES_ - 2;
        if (next < deep) copy(next % STAGES_, next * DEEP);
        copies_end();
        units_wait<1>();
    }
    units_wait<0>();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int slot = part.first + warp * 16 + lane / 4 + half * 8;
        if (slot >= part.end) continue;
#pragma unroll
        for (int j = 0; j < ROWS / 8; j++) {
            int row = first_row + j * 8 + lane % 4 * 2;
            if (row >= p.n) continue;
            if (p.mode == GATED) {
                if (j % 2 == 1) continue;
                u64 y = (u64)slot * p.y_row + (first_row + j * 8) / 2 + lane % 4 * 2;
                *(u32*)((u16*)p.y + y) = pair(gated(c[j * 4 + half * 2], c[j * 4 + 4 + half * 2]),
                                             gated(c[j * 4 + half * 2 + 1], c[j * 4 + 5 + half * 2]));
            } else {
                put_two(p, slot, row, c[j * 4 + half * 2], c[j * 4 + half * 2 + 1]);
            }
        }
    }
}
extern "C" __global__ void __launch_bounds__(256, 1) many_256(const __grid_constant__ Product p) {
    many_wide<256, 4>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) many_128(const __grid_constant__ Product p) {
    many_wide<128, 3>(p);
}

// As `prompt`, 128 tokens by 128 positions: half of the tokens to each of two groups of four warps.
// Keys and queries lie in panels of 64 numbers, as products want them; so do values.
template <int KEY, int LAST>
__device__ void prompt_wide(const Prompt& p) {
    const int panels = KEY / 64, panel = 128 * 64;
    u16* qs = (u16*)(((u64)memory + 1023) / 1024 * 1024); // [panels][128][64]
    u16* ks = qs + panels * panel;                        // [2][panels][128][64]
    u16* vs = ks + 2 * panels * panel;                    // [2][2][128][64]
    after_the_one_before();
    let_the_next_begin();
    int head = blockIdx.y, kv = head / p.per_kv;
    int first_token = ((int)gridDim.x - 1 - (int)blockIdx.x) * 128;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4;
    int positions = min(p.first + first_token + 128, p.first + p.tokens);
    // A thread copies one part of 16 bytes of every 32nd row.
    int part = threadIdx.x % 8, row = threadIdx.x / 8;
#pragma unroll
    for (int j = 0; j < panels; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int own = row + i * 32;
            bool has = first_token + own < p.tokens;
            const u16* q = p.q + (u64)(has ? first_token + own : 0) * p.q_row + head * KEY + j * 64 + part * 8;
            copy16(qs + j * panel + mixed(own, part), q, has);
        }
    auto copy = [&](int buffer, int first) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int own = row + i * 32;
            bool has = first + own < positions;
            u64 position = has ? first + own : 0;
            int to = mixed(own, part);
            const u16* k = p.k + position * p.k_row + kv * p.k_apart + part * 8;
            const u16* last = p.k_last + position * p.k_last_row + part * 8;
#pragma unroll
            for (int j = 0; j < panels; j++)
                copy16(ks + (buffer * panels + j) * panel + to, j * 64 < KEY - LAST ? k + j * 64 : last, has);
            const u16* v = p.v + position * p.v_row + kv * p.v_apart + part * 8;
#pragma unroll
            for (int j = 0; j < 2; j++) copy16(vs + (buffer * 2 + j) * panel + to, v + j * 64, has);
        }
    };
    copy(0, 0);
    copies_end();
    float c[64];
#pragma unroll
    for (int i = 0; i < 64; i++) c[i] = 0;
    float most[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};
    int own = p.first + first_token + warp * 16 + lane / 4;
    const float to_base_2 = p.scale * 1.44269504f;
    for (int first = 0, turn = 0; first < positions; first += 128, turn ^= 1) {
        copies_wait<0>();
        to_units();
        __syncthreads();
        if (first + 128 < positions) copy(turn ^ 1, first + 128);
        copies_end();
        float s[64];
#pragma unroll
        for (int i = 0; i < 64; i++) s[i] = 0;
        units_begin();
#pragma unroll
        for (int j = 0; j < panels; j++) {
            u64 a = described(qs + j * panel + group * 64 * 64);
            u64 b = described(ks + (turn * panels + j) * panel);
#pragma unroll
            for (int k = 0; k < 4; k++) wide_mma(s, a + 2 * k, b + 2 * k);
        }
        units_go();
        units_wait<0>();
        bool is_edge = first + 127 > p.first + first_token + warp * 16;
        float now[2] = {most[0], most[1]};
#pragma unroll
        for (int i = 0; i < 64; i++) {
            int half = i / 2 % 2, position = first + i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (is_edge && position > own + half * 8) s[i] = -1e30f;
            now[half] = fmaxf(now[half], s[i]);
        }
        float keep[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 1));
            now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 2));
            keep[half] = exp2f((most[half] - now[half]) * to_base_2);
            most[half] = now[half];
            sum[half] *= keep[half];
        }
        float less[2] = {now[0] * to_base_2, now[1] * to_base_2};
        u32 shares[32];
#pragma unroll
        for (int i = 0; i < 64; i += 2) {
            int half = i / 2 % 2;
            float a = exp2f(fmaf(s[i], to_base_2, -less[half]));
            float b = exp2f(fmaf(s[i + 1], to_base_2, -less[half]));
            sum[half] += a + b;
            shares[i / 2] = pair(a, b);
        }
#pragma unroll
        for (int i = 0; i < 64; i++) c[i] *= keep[i / 2 % 2];
        // Values lie row by row: panels of 64 numbers, groups of eight positions.
        u64 b = (u64)((shared_address(vs + turn * 2 * panel) & 0x3ffff) >> 4) |
                (u64)(panel * 2 / 16) << 16 | 64ull << 32 | 1ull << 62;
        units_begin();
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const u32 a[4] = {shares[4 * k], shares[4 * k + 1], shares[4 * k + 2], shares[4 * k + 3]};
            mix_mma(c, a, b + k * 128);
        }
        units_go();
        units_wait<0>();
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] += __shfl_xor_sync(~0u, sum[half], 1);
        sum[half] += __shfl_xor_sync(~0u, sum[half], 2);
        int token = first_token + warp * 16 + lane / 4 + half * 8;
        if (token >= p.tokens) continue;
        float by = 1.f / sum[half];
        act* y = p.y + (u64)token * p.y_row + head * 128;
#pragma unroll
        for (int i = 0; i < 16; i++)
            *(u32*)(y + i * 8 + lane % 4 * 2) = pair(c[i * 4 + half * 2] * by, c[i * 4 + half * 2 + 1] * by);
    }
}

extern "C" __global__ void __launch_bounds__(256, 1) prompt_latent_wide(const __grid_constant__ Prompt p) {
    prompt_wide<192, 64>(p);
}
extern "C" __global__ void __launch_bounds__(256, 1) prompt_128_wide(const __grid_constant__ Prompt p) {
    prompt_wide<128, 0>(p);
}
#endif
