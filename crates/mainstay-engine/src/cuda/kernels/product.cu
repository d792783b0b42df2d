// Matrix products: rows of weights with the vectors of a step's tokens.
//
// Three forms of one product. `plain` takes any stored width and is what the others are checked
// against. `few` is for some tokens: it reads each weight once, at the speed of memory. `many` is for
// prompts: it computes at the speed of the matrix units. In each the order of summation for one
// number depends on the matrix alone, so batch mates change no bit.

enum { STORE = 0, ADD = 1, STORE_F32 = 2, GATED = 3 };

struct Product {
    const void* w;
    u64 w_batch;         // numbers from one matrix to the next: heads by blockIdx.z, or experts
    int element, n, k;
    const void* x;
    u64 x_batch;
    int x_row, x_is_f32;
    const float* norm;   // weights of a norm that x passes first, or nothing
    float epsilon;
    void* y;
    u64 y_batch;
    int y_row, mode;
    const float* bias;
    int tokens;
    // Experts: tiles of (expert, first slot), how many, which token a slot is, where experts end.
    const int* tiles;
    const int* tile_count;
    const int* token_of;
    const int* ends;
};

// Which tokens a block works for, and with which matrix.
struct Part {
    const void* w;
    int first, end;
};

__device__ __forceinline__ bool part_of(const Product& p, int tile, int size, Part& out) {
    u64 bytes = p.element == F32 ? 4 : 2;
    if (p.tiles) {
        if (tile >= *p.tile_count) return false;
        int expert = p.tiles[2 * tile];
        out.first = p.tiles[2 * tile + 1];
        out.end = min(out.first + size, p.ends[expert]);
        out.w = (const char*)p.w + expert * p.w_batch * bytes;
    } else {
        out.first = tile * size;
        out.end = min(out.first + size, p.tokens);
        out.w = (const char*)p.w + blockIdx.z * p.w_batch * bytes;
    }
    return true;
}

__device__ __forceinline__ u64 x_at(const Product& p, int slot) {
    int token = p.token_of ? p.token_of[slot] : slot;
    return blockIdx.z * p.x_batch + (u64)token * p.x_row;
}

__device__ __forceinline__ void put(const Product& p, int slot, int row, float value) {
    if (p.bias) value += p.bias[row];
    u64 at = blockIdx.z * p.y_batch + (u64)slot * p.y_row + row;
    if (p.mode == ADD) ((float*)p.y)[at] += value;
    else if (p.mode == STORE_F32) ((float*)p.y)[at] = value;
    else ((act*)p.y)[at] = down(value);
}

// Two neighbours at once; the first row is even.
__device__ __forceinline__ void put_two(const Product& p, int slot, int row, float first, float second) {
    u64 at = blockIdx.z * p.y_batch + (u64)slot * p.y_row + row;
    if (p.bias || row + 1 >= p.n || at % 2) {
        put(p, slot, row, first);
        if (row + 1 < p.n) put(p, slot, row + 1, second);
    } else if (p.mode == ADD) {
        float2* y = (float2*)((float*)p.y + at);
        float2 old = *y;
        *y = {old.x + first, old.y + second};
    } else if (p.mode == STORE_F32) {
        *(float2*)((float*)p.y + at) = {first, second};
#ifndef EXACT
    } else {
        *(u32*)((u16*)p.y + at) = pair(first, second);
#endif
    }
}

__device__ __forceinline__ float gated(float gate, float up) { return gate / (1.f + __expf(-gate)) * up; }

// A warp for each row and token. GATED is left to the kernel `gate_up`.
extern "C" __global__ void plain(const __grid_constant__ Product p) {
    after_the_one_before();
    let_the_next_begin();
    Part part;
    if (!part_of(p, blockIdx.y, 1, part) || part.first >= part.end) return;
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= p.n) return;
    u64 at = x_at(p, part.first);
    float sum = 0;
    for (int k = lane; k < p.k; k += 32) {
        float x = p.x_is_f32 ? ((const float*)p.x)[at + k] : up(((const act*)p.x)[at + k]);
        sum = fmaf(weight(part.w, (u64)row * p.k + k, p.element), x, sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) put(p, part.first, row, sum);
}

#ifndef EXACT
// Columns that lie in shared memory at once: more where there are few tokens. Each warp has every
// eighth stretch of 32, in rising order, whatever their number: no bit depends on it.
#define WARPS 8
#define SLAB(n) ((n) == 1 ? 2048 : 1024)
#define ROW(n) (SLAB(n) + 8)

// Fills `xs` with the slab of each token's vector, normed if asked; zeros beyond.
template <int N>
__device__ void fill(const Product& p, const Part& part, int from, u16* xs, const float* scale) {
    int width = min(SLAB(N), (p.k - from + 31) / 32 * 32);
    for (int at = threadIdx.x * 8; at < N * 8 * width; at += blockDim.x * 8) {
        int token = at / width, k = at % width;
        uint4 bits = {0, 0, 0, 0};
        if (part.first + token < part.end && from + k < p.k) {
            u64 x = x_at(p, part.first + token) + from + k;
            if (!p.x_is_f32) {
                bits = *(const uint4*)((const u16*)p.x + x);
            } else {
                float v[8];
                *(float4*)v = *(const float4*)((const float*)p.x + x);
                *(float4*)(v + 4) = *(const float4*)((const float*)p.x + x + 4);
                if (p.norm) {
#pragma unroll
                    for (int i = 0; i < 8; i++) v[i] = p.norm[from + k + i] * (v[i] * scale[token]);
                }
                bits = {pair(v[0], v[1]), pair(v[2], v[3]), pair(v[4], v[5]), pair(v[6], v[7])};
            }
        }
        *(uint4*)(xs + token * ROW(N) + k) = bits;
    }
}

// One over the root mean square of each token's vector, if there is a norm.
template <int TOKENS>
__device__ void scales(const Product& p, const Part& part, float* scale) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (!p.norm) return;
    for (int token = warp; token < TOKENS && part.first + token < part.end; token += WARPS) {
        u64 x = x_at(p, part.first + token);
        float sum = 0;
        for (int k = lane * 4; k < p.k; k += 128) {
            float4 v = *(const float4*)((const float*)p.x + x + k);
            sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        }
        sum = warp_sum(sum);
        if (lane == 0) scale[token] = rsqrtf(sum / p.k + p.epsilon);
    }
}

// Sixteen rows for up to 8 N tokens. Each warp takes every eighth stretch of 32 columns; columns are
// dealt to the matrix unit in an order that lets each thread read 16 bytes at once.
template <int N>
__device__ void few(const Product& p) {
    u16* xs = (u16*)memory;
    float* scale = (float*)(memory + N * 8 * ROW(N) * 2);
    Part part;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int in_group = lane % 4, group = lane / 4;
    int first_row = blockIdx.x * 16;
    bool has_part = !p.tiles;
    if (has_part) part_of(p, blockIdx.y, N * 8, part);
    const int stretches = SLAB(N) / 32 / WARPS;
    uint4 a[stretches][2];
    const uint4 none = {0, 0, 0, 0};
    auto read = [&](int from) {
#pragma unroll
        for (int i = 0; i < stretches; i++) {
            int k = from + (i * WARPS + warp) * 32 + in_group * 8;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = first_row + group + 8 * half;
                bool has = k < p.k && row < p.n;
                const u16* w = (const u16*)part.w + (u64)row * p.k + k;
                a[i][half] = has ? __ldcs((const uint4*)w) : none;
            }
        }
    };
    // Weights do not depend on the launch before: they are on their way while it ends.
    if (has_part) read(0);
    after_the_one_before();
    let_the_next_begin();
    if (!has_part) {
        if (!part_of(p, blockIdx.y, N * 8, part)) return;
        read(0);
    }
    float c[N][4];
#pragma unroll
    for (int i = 0; i < N; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
    scales<N * 8>(p, part, scale);
    for (int from = 0; from < p.k; from += SLAB(N)) {
        if (from) read(from);
        __syncthreads();
        fill<N>(p, part, from, xs, scale);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < stretches; i++) {
            int k = (i * WARPS + warp) * 32 + in_group * 8;
            if (from + k - in_group * 8 >= p.k) break;
#pragma unroll
            for (int j = 0; j < N; j++) {
                uint4 b = *(const uint4*)(xs + (j * 8 + group) * ROW(N) + k);
                mma(c[j], a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b.x, b.y);
                mma(c[j], a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b.z, b.w);
            }
        }
    }
    // The warps' parts are summed in their order.
    __syncthreads();
    float* parts = (float*)memory;
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = group + (i / 2) * 8, token = j * 8 + in_group * 2 + i % 2;
            parts[(warp * N * 8 + token) * 17 + row] = c[j][i];
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < N * 8 * 16; at += blockDim.x) {
        int row = at % 16, token = at / 16;
        if (part.first + token >= part.end || first_row + row >= p.n) continue;
        auto sum = [&](int row) {
            float all = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) all += parts[(w * N * 8 + token) * 17 + row];
            return all;
        };
        int slot = part.first + token;
        if (p.mode != GATED) put(p, slot, first_row + row, sum(row));
        else if (row < 8) {
            u64 y = (u64)slot * p.y_row + first_row / 2 + row;
            ((act*)p.y)[y] = down(gated(sum(row), sum(row + 8)));
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) few_1(const __grid_constant__ Product p) { few<1>(p); }
extern "C" __global__ void __launch_bounds__(256) few_2(const __grid_constant__ Product p) { few<2>(p); }
extern "C" __global__ void __launch_bounds__(256) few_4(const __grid_constant__ Product p) { few<4>(p); }
extern "C" __global__ void __launch_bounds__(256) few_8(const __grid_constant__ Product p) { few<8>(p); }

// 128 tokens by 128 rows, 64 columns at a time, three stages in flight. Shared rows are 128 bytes;
// their eight parts are exchanged by the row's number, so that reads of a column meet no other.
#define DEEP 64
#define STAGES 3
#define STAGE (2 * 128 * DEEP)

__device__ __forceinline__ int mixed(int row, int part) { return row * DEEP + ((part ^ (row & 7)) * 8); }

extern "C" __global__ void __launch_bounds__(256, 2) many(const __grid_constant__ Product p) {
    u16* stages = (u16*)memory;
    after_the_one_before();
    let_the_next_begin();
    Part part;
    if (!part_of(p, blockIdx.y, 128, part)) return;
    int first_row = blockIdx.x * 128;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Each thread copies four parts of four rows of either matrix.
    int copy_part = threadIdx.x % 8, copy_row = threadIdx.x / 8;
    const u16* x_rows[4];
    const u16* w_rows[4];
    bool has_x[4], has_w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = copy_row + i * 32;
        has_x[i] = part.first + row < part.end;
        has_w[i] = first_row + row < p.n;
        x_rows[i] = (const u16*)p.x + (has_x[i] ? x_at(p, part.first + row) : 0);
        w_rows[i] = (const u16*)part.w + (has_w[i] ? (u64)(first_row + row) * p.k : 0);
    }
    auto copy = [&](int stage, int from) {
        u16* xs = stages + stage * STAGE;
        u16* ws = xs + 128 * DEEP;
        int k = from + copy_part * 8;
        bool has = k < p.k;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int to = mixed(copy_row + i * 32, copy_part);
            copy16(xs + to, x_rows[i] + (has ? k : 0), has && has_x[i]);
            copy16(ws + to, w_rows[i] + (has ? k : 0), has && has_w[i]);
        }
    };
    int deep = (p.k + DEEP - 1) / DEEP;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < deep) copy(s, s * DEEP);
        copies_end();
    }
    // Warps: four along the tokens, 32 each; two along the rows, 64 each.
    int warp_token = warp % 4 * 32, warp_row = warp / 4 * 64;
    float c[2][8][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) c[i][j][0] = c[i][j][1] = c[i][j][2] = c[i][j][3] = 0;
    for (int step = 0; step < deep; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        int next = step + STAGES - 1;
        if (next < deep) copy(next % STAGES, next * DEEP);
        copies_end();
        const u16* xs = stages + step % STAGES * STAGE;
        const u16* ws = xs + 128 * DEEP;
#pragma unroll
        for (int k = 0; k < DEEP / 16; k++) {
            u32 a[2][4], b[4][4];
#pragma unroll
            for (int i = 0; i < 2; i++)
                load4(a[i], xs + mixed(warp_token + i * 16 + lane % 16, k * 2 + lane / 16));
#pragma unroll
            for (int j = 0; j < 4; j++)
                load4(b[j], ws + mixed(warp_row + j * 16 + lane % 8 + lane / 16 * 8,
                                       k * 2 + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    mma(c[i][j], a[i][0], a[i][1], a[i][2], a[i][3], b[j / 2][j % 2 * 2],
                        b[j / 2][j % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int slot = part.first + warp_token + i * 16 + lane / 4 + half * 8;
            if (slot >= part.end) continue;
            if (p.mode == GATED) {
#pragma unroll
                for (int j = 0; j < 8; j += 2) {
                    int row = first_row + warp_row + j * 8 + lane % 4 * 2;
                    if (row >= p.n) continue;
                    u64 y = (u64)slot * p.y_row + (first_row + warp_row + j * 8) / 2 + lane % 4 * 2;
                    *(u32*)((u16*)p.y + y) = pair(gated(c[i][j][half * 2], c[i][j + 1][half * 2]),
                                                 gated(c[i][j][half * 2 + 1], c[i][j + 1][half * 2 + 1]));
                }
                continue;
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                int row = first_row + warp_row + j * 8 + lane % 4 * 2;
                if (row < p.n) put_two(p, slot, row, c[i][j][half * 2], c[i][j][half * 2 + 1]);
            }
        }
    }
}
#endif
