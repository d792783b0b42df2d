// Matrix products: rows of weights with the vectors of a step's tokens.
//
// Forms of one product. `plain` takes any stored width and is what the others are checked against. `few`
// and `some` are for single tokens: they read each weight once, at the speed of memory. `many` is for
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
    const float* norm;   // weights of a norm that x (f32) passes first, or nothing
    float epsilon;
    const float* scales; // what each token's results are multiplied by, or nothing
    int turns;           // stretches of 16 rows that a block of `few` takes
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
        sum = fmaf(weight(part.w, (u64)row * p.k + k, p.element), up(((const act*)p.x)[at + k]), sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) put(p, part.first, row, sum);
}

#ifndef EXACT
// Each warp has every eighth stretch of 32 columns, in rising order, and the warps' sums are added in
// their order: so `few` and `some` give the same bits.
#define WARPS 8
// Columns of `few` that lie in shared memory at once, and what keeps columns in different banks.
#define SLAB 2048
#define ROW (SLAB + 8)

// A norm is a weight for each column and one scale for each token: columns are weighed here, results
// are scaled at the end. Squares are summed eight at a time, by lanes, over lanes: in this order also
// where `unscaled` does it for many tokens.
__device__ __forceinline__ float eight_squares(const float (&v)[8]) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) sum = fmaf(v[i], v[i], sum);
    return sum;
}
__device__ __forceinline__ uint4 eight_weighed(const float (&v)[8], const float* norm) {
    float4 a = {1, 1, 1, 1}, b = a;
    if (norm) a = *(const float4*)norm, b = *(const float4*)(norm + 4);
    return {pair(v[0] * a.x, v[1] * a.y), pair(v[2] * a.z, v[3] * a.w), pair(v[4] * b.x, v[5] * b.y),
            pair(v[6] * b.z, v[7] * b.w)};
}

// Fills `xs` with the slab of each token's vector, weighed if asked; zeros beyond.
__device__ void fill(const Product& p, const Part& part, int from, u16* xs, float* squares) {
    int width = min(SLAB, (p.k - from + 31) / 32 * 32);
    for (int at = threadIdx.x * 8; at < 8 * width; at += blockDim.x * 8) {
        int token = at / width, k = at % width;
        uint4 bits = {0, 0, 0, 0};
        float square = 0;
        if (part.first + token < part.end && from + k < p.k) {
            u64 x = x_at(p, part.first + token) + from + k;
            if (!p.x_is_f32) {
                bits = *(const uint4*)((const u16*)p.x + x);
            } else {
                float v[8];
                *(float4*)v = *(const float4*)((const float*)p.x + x);
                *(float4*)(v + 4) = *(const float4*)((const float*)p.x + x + 4);
                square = eight_squares(v);
                bits = eight_weighed(v, p.norm ? p.norm + from + k : nullptr);
            }
        }
        *(uint4*)(xs + token * ROW + k) = bits;
        if (p.norm) squares[token * (SLAB / 8) + k / 8] = square;
    }
}

// Results of sixteen rows for some tokens, as `sum(token, row)` gives them.
template <typename Sum>
__device__ __forceinline__ void finish(const Product& p, const Part& part, int row_at, int tokens, Sum sum) {
    for (int at = threadIdx.x; at < tokens * 16; at += blockDim.x) {
        int row = at % 16, token = at / 16, slot = part.first + token;
        if (slot >= part.end || row_at + row >= p.n) continue;
        float by = p.scales ? p.scales[p.token_of ? p.token_of[slot] : slot] : 1.f;
        if (p.mode != GATED) put(p, slot, row_at + row, sum(token, row) * by);
        else if (row < 8) {
            u64 y = (u64)slot * p.y_row + row_at / 2 + row;
            ((act*)p.y)[y] = down(gated(sum(token, row) * by, sum(token, row + 8) * by));
        }
    }
}

// Up to eight tokens, and stretches of sixteen rows, one after another. Columns are dealt to the matrix
// unit in an order that lets each thread read 16 bytes at once.
extern "C" __global__ void __launch_bounds__(256, 2) few(const __grid_constant__ Product p) {
    u16* xs = (u16*)memory;
    float* parts = (float*)(memory + 8 * ROW * 2); // of each warp, token and row
    float* squares = parts;                        // before that
    __shared__ float scale[8];
    Part part;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int in_group = lane % 4, group = lane / 4;
    int first_row = blockIdx.x * p.turns * 16;
    int end_row = min(first_row + p.turns * 16, p.n);
    bool has_part = !p.tiles;
    if (has_part) part_of(p, blockIdx.y, 8, part);
    const int stretches = SLAB / 32 / WARPS;
    uint4 a[stretches][2];
    const uint4 none = {0, 0, 0, 0};
    auto read = [&](int row_at, int from) {
#pragma unroll
        for (int i = 0; i < stretches; i++) {
            int k = from + (i * WARPS + warp) * 32 + in_group * 8;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = row_at + group + 8 * half;
                bool has = k < p.k && row < p.n;
                const u16* w = (const u16*)part.w + (u64)row * p.k + k;
                a[i][half] = has ? __ldcs((const uint4*)w) : none;
            }
        }
    };
    // Weights do not depend on the launch before: they are on their way while it ends.
    if (has_part) read(first_row, 0);
    after_the_one_before();
    let_the_next_begin();
    if (!has_part) {
        if (!part_of(p, blockIdx.y, 8, part)) return;
        read(first_row, 0);
    }
    float square = 0; // of this warp's token, by lane
    for (int row_at = first_row; row_at < end_row; row_at += 16) {
        float c[4] = {0, 0, 0, 0};
        for (int from = 0; from < p.k; from += SLAB) {
            // One slab stays for all stretches of rows.
            if (row_at == first_row || p.k > SLAB) {
                __syncthreads();
                fill(p, part, from, xs, squares);
                __syncthreads();
                if (p.norm && row_at == first_row) {
                    int width = min(SLAB, (p.k - from + 31) / 32 * 32);
                    for (int i = lane; i < width / 8; i += 32) square += squares[warp * (SLAB / 8) + i];
                }
            }
#pragma unroll
            for (int i = 0; i < stretches; i++) {
                int k = (i * WARPS + warp) * 32 + in_group * 8;
                if (from + k - in_group * 8 >= p.k) break;
                uint4 b = *(const uint4*)(xs + group * ROW + k);
                mma(c, a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b.x, b.y);
                mma(c, a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b.z, b.w);
            }
            if (from + SLAB < p.k) read(row_at, from + SLAB);
            else if (row_at + 16 < end_row) read(row_at + 16, 0);
        }
        __syncthreads();
        if (p.norm && row_at == first_row) {
            square = warp_sum(square);
            if (lane == 0) scale[warp] = rsqrtf(square / p.k + p.epsilon);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = group + i / 2 * 8, token = in_group * 2 + i % 2;
            parts[(warp * 8 + token) * 17 + row] = c[i];
        }
        __syncthreads();
        finish(p, part, row_at, 8, [&](int token, int row) {
            float all = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) all += parts[(w * 8 + token) * 17 + row];
            return p.norm ? all * scale[token] : all;
        });
    }
}

// Nine tokens to 64, N times eight, and stretches of 32 rows. Vectors stream through shared memory, 256
// columns at a time, one stretch of 32 for each warp; each warp reads its own weights a step ahead.
#define STEP 256
#define STEP_ROW (STEP + 8)
#define STEP_STAGES 3

template <int N>
__device__ void some(const Product& p) {
    u16* stages = (u16*)memory;                                        // [STEP_STAGES][N * 8][STEP_ROW]
    float* parts = (float*)(stages + STEP_STAGES * N * 8 * STEP_ROW);  // [WARPS][8][33]
    Part part;
    part_of(p, blockIdx.y, N * 8, part);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int in_group = lane % 4, group = lane / 4;
    int steps = (p.k + STEP - 1) / STEP;
    int first_row = blockIdx.x * p.turns * 32;
    int turns = min(p.turns, (p.n - first_row + 31) / 32), all = turns * steps;
    const uint4 none = {0, 0, 0, 0};
    auto read = [&](uint4 (&a)[2][2], int at) {
        int k = at % steps * STEP + warp * 32 + in_group * 8;
#pragma unroll
        for (int tile = 0; tile < 2; tile++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = first_row + at / steps * 32 + tile * 16 + group + 8 * half;
                bool has = at < all && k < p.k && row < p.n;
                const u16* w = (const u16*)part.w + (u64)row * p.k + k;
                a[tile][half] = has ? __ldcs((const uint4*)w) : none;
            }
    };
    auto copy = [&](int at) {
        u16* to = stages + at % STEP_STAGES * N * 8 * STEP_ROW;
        for (int i = threadIdx.x; i < N * 8 * (STEP / 8); i += 256) {
            int token = i / (STEP / 8), k = at % steps * STEP + i % (STEP / 8) * 8;
            bool has = part.first + token < part.end && k < p.k;
            const u16* x = (const u16*)p.x + (has ? x_at(p, part.first + token) + k : 0);
            copy16(to + token * STEP_ROW + i % (STEP / 8) * 8, x, has);
        }
    };
    uint4 a[2][2], next[2][2];
    read(a, 0);
    after_the_one_before();
    let_the_next_begin();
#pragma unroll
    for (int i = 0; i < STEP_STAGES - 1; i++) {
        if (i < all) copy(i);
        copies_end();
    }
    float c[2][N][4];
    for (int at = 0; at < all; at++) {
        if (at % steps == 0) {
#pragma unroll
            for (int tile = 0; tile < 2; tile++)
#pragma unroll
                for (int j = 0; j < N; j++) c[tile][j][0] = c[tile][j][1] = c[tile][j][2] = c[tile][j][3] = 0;
        }
        read(next, at + 1);
        copies_wait<STEP_STAGES - 2>();
        __syncthreads();
        if (at + STEP_STAGES - 1 < all) copy(at + STEP_STAGES - 1);
        copies_end();
        const u16* xs = stages + at % STEP_STAGES * N * 8 * STEP_ROW;
        int k = warp * 32 + in_group * 8;
        if (at % steps * STEP + warp * 32 < p.k) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                uint4 b = *(const uint4*)(xs + (j * 8 + group) * STEP_ROW + k);
#pragma unroll
                for (int tile = 0; tile < 2; tile++) {
                    const uint4& low = a[tile][0];
                    const uint4& high = a[tile][1];
                    mma(c[tile][j], low.x, high.x, low.y, high.y, b.x, b.y);
                    mma(c[tile][j], low.z, high.z, low.w, high.w, b.z, b.w);
                }
            }
        }
#pragma unroll
        for (int tile = 0; tile < 2; tile++) a[tile][0] = next[tile][0], a[tile][1] = next[tile][1];
        if (at % steps != steps - 1) continue;
        int row_at = first_row + at / steps * 32;
#pragma unroll
        for (int j = 0; j < N; j++) {
            // Eight tokens at a time.
#pragma unroll
            for (int tile = 0; tile < 2; tile++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int row = tile * 16 + group + i / 2 * 8, token = in_group * 2 + i % 2;
                    parts[(warp * 8 + token) * 33 + row] = c[tile][j][i];
                }
            __syncthreads();
            Part own = {part.w, part.first + j * 8, part.end};
#pragma unroll
            for (int tile = 0; tile < 2; tile++)
                finish(p, own, row_at + tile * 16, 8, [&](int token, int row) {
                    float all = 0;
#pragma unroll
                    for (int w = 0; w < WARPS; w++) all += parts[(w * 8 + token) * 33 + tile * 16 + row];
                    return all;
                });
            __syncthreads();
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) some_2(const __grid_constant__ Product p) { some<2>(p); }
extern "C" __global__ void __launch_bounds__(256, 2) some_4(const __grid_constant__ Product p) { some<4>(p); }
extern "C" __global__ void __launch_bounds__(256, 2) some_8(const __grid_constant__ Product p) { some<8>(p); }

struct Unscaled {
    const float* x;
    const float* w;
    int x_row, n, tokens;
    float epsilon;
    act* y;
    float* scales;
};

// The columns of each token's vector, weighed, and the token's scale: a warp for each.
extern "C" __global__ void unscaled(const __grid_constant__ Unscaled p) {
    after_the_one_before();
    let_the_next_begin();
    int token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (token >= p.tokens) return;
    float sum = 0;
    for (int k = lane * 8; k < p.n; k += 256) {
        const float* x = p.x + (u64)token * p.x_row + k;
        float v[8];
        *(float4*)v = *(const float4*)x;
        *(float4*)(v + 4) = *(const float4*)(x + 4);
        sum += eight_squares(v);
        *(uint4*)(p.y + (u64)token * p.n + k) = eight_weighed(v, p.w + k);
    }
    sum = warp_sum(sum);
    if (lane == 0) p.scales[token] = rsqrtf(sum / p.n + p.epsilon);
}

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
