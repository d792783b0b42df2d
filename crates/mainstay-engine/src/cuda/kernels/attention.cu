// Attention over the paged cache.
//
// `attend` is the plain form, for any sizes: what the others are checked against. `decode` is attention
// of single tokens, `prompt` attention of many tokens of one sequence.

struct Attend {
    const Slot* slots;
    Cache cache;
    const act* q;        // of each token and head, `key` numbers
    int heads, per_kv;   // query heads in all, and to one key-value head
    int key, value;
    int key_at, value_at, kv_apart; // where they begin in a row, and how far heads are apart
    float scale;
    act* y;              // of each token and head, `value` numbers
};

#define ATTEND_WARPS 8
#define VALUE_MAX 512

// A block for each token and head; each warp looks at every eighth position.
extern "C" __global__ void attend(const __grid_constant__ Attend p) {
    after_the_one_before();
    let_the_next_begin();
    __shared__ float mixes[ATTEND_WARPS][VALUE_MAX];
    __shared__ float mosts[ATTEND_WARPS], sums[ATTEND_WARPS];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Slot slot = p.slots[blockIdx.x];
    int head = blockIdx.y, kv = head / p.per_kv * p.kv_apart;
    const act* q = p.q + ((u64)blockIdx.x * p.heads + head) * p.key;
    float most = -__int_as_float(0x7f800000), sum = 0;
    float mix[VALUE_MAX / 32];
#pragma unroll
    for (int i = 0; i < VALUE_MAX / 32; i++) mix[i] = 0;
    for (int position = warp; position <= slot.position; position += ATTEND_WARPS) {
        const act* row = p.cache.rows + row_of(p.cache, slot.table, position);
        const act* key = row + p.key_at + kv;
        float score = 0;
        for (int i = lane; i < p.key; i += 32) score = fmaf(up(q[i]), up(key[i]), score);
        score = warp_sum(score) * p.scale;
        float now = fmaxf(most, score), keep = __expf(most - now), part = __expf(score - now);
#ifdef EXACT
        keep = expf(most - now), part = expf(score - now);
#endif
        sum = sum * keep + part;
        const act* value = row + p.value_at + kv;
#pragma unroll
        for (int i = 0; i < VALUE_MAX / 32; i++) {
            int at = i * 32 + lane;
            if (at < p.value) mix[i] = mix[i] * keep + part * up(value[at]);
        }
        most = now;
    }
    if (lane == 0) mosts[warp] = most, sums[warp] = sum;
#pragma unroll
    for (int i = 0; i < VALUE_MAX / 32; i++) {
        int at = i * 32 + lane;
        if (at < p.value) mixes[warp][at] = mix[i];
    }
    __syncthreads();
    int used = min(ATTEND_WARPS, slot.position + 1);
    for (int w = 0; w < used; w++) most = fmaxf(w ? most : mosts[0], mosts[w]);
    sum = 0;
    for (int w = 0; w < used; w++) sum += sums[w] * expf(mosts[w] - most);
    for (int at = threadIdx.x; at < p.value; at += blockDim.x) {
        float all = 0;
        for (int w = 0; w < used; w++) all += mixes[w][at] * expf(mosts[w] - most);
        p.y[((u64)blockIdx.x * p.heads + head) * p.value + at] = down(all / sum);
    }
}

#ifndef EXACT
// Positions that lie in shared memory at once, twice.
#define TILE 32

struct Decode {
    const Slot* slots;
    Cache cache;
    const act* q;        // of each token and head
    int heads, per_kv;   // query heads in all, and to one key-value head
    int value, value_at; // numbers of a value, and where values begin in a row; keys begin it
    float scale;
    float* mix;          // of each token, head and part,
    float2* most_sum;    // and what its scores came to
    int parts;           // room for so many
    act* y;              // of each token and head
};

// How many positions are one part: of a sequence's own length alone, so batch mates change no bit.
__device__ __forceinline__ int part_size(int count) {
    return count <= 2048 ? 64 : count <= 8192 ? 256 : 1024;
}

// A block of four warps for each part, token and up to sixteen heads that share rows. IN_KEY: the
// values are the first numbers of the keys (latent attention), else they lie apart.
template <int KEY, int VALUE, bool IN_KEY>
__device__ void decode(const Decode& p) {
    const int wide = KEY + 8, v_wide = IN_KEY ? wide : VALUE + 8; // so that columns lie in different banks
    u16* qs = (u16*)memory;                       // [16][wide]
    u16* rows = qs + 16 * wide;                   // [2][TILE][wide]
    u16* values = rows + 2 * TILE * wide;         // [2][TILE][v_wide], if apart
    float* scores = (float*)(IN_KEY ? values : values + 2 * TILE * v_wide); // [16][TILE + 1]
    u16* shares = (u16*)(scores + 16 * (TILE + 1));       // [16][TILE + 8]
    float* keeps = (float*)(shares + 16 * (TILE + 8));    // [16]
    after_the_one_before();
    let_the_next_begin();
    int token = blockIdx.y;
    int per_block = IN_KEY ? 16 : p.per_kv, first_head = blockIdx.z * per_block;
    int end_head = min(first_head + per_block, p.heads);
    Slot slot = p.slots[token];
    int count = slot.position + 1, size = part_size(count);
    int from = blockIdx.x * size, end = min(from + size, count);
    if (from >= count) return;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int kv_at = IN_KEY ? 0 : blockIdx.z * KEY;
    // Each lane knows where one of the warp's eight rows lies; the others ask it.
    auto copy = [&](int buffer, int first) {
        int own = first + warp * 8 + lane % 8;
        u64 at = own < end ? row_of(p.cache, slot.table, own) + kv_at : ~0ull;
        u16* to = rows + (buffer * TILE + warp * 8) * wide;
#pragma unroll
        for (int i = 0; i < KEY / 32; i++) {
            int all = i * 32 + lane, row = all / (KEY / 8), part = all % (KEY / 8) * 8;
            u64 x = __shfl_sync(~0u, at, row);
            copy16(to + row * wide + part, p.cache.rows + (x == ~0ull ? 0 : x + part), x != ~0ull);
        }
        if (IN_KEY) return;
        u16* v_to = values + (buffer * TILE + warp * 8) * v_wide;
#pragma unroll
        for (int i = 0; i < VALUE / 32; i++) {
            int all = i * 32 + lane, row = all / (VALUE / 8), part = all % (VALUE / 8) * 8;
            u64 x = __shfl_sync(~0u, at, row);
            const act* v = p.cache.rows + (x == ~0ull ? 0 : x + p.value_at + part);
            copy16(v_to + row * v_wide + part, v, x != ~0ull);
        }
    };
    copy(0, from);
    for (int i = threadIdx.x; i < 16 * (KEY / 8); i += 128) {
        int head = i / (KEY / 8), part = i % (KEY / 8);
        bool has = first_head + head < end_head;
        const u16* x = p.q + ((u64)token * p.heads + (has ? first_head + head : 0)) * KEY;
        copy16(qs + head * wide + part * 8, x + part * 8, has);
    }
    copies_end();
    const int own_tiles = VALUE / 32;           // of eight numbers, each warp
    float c[own_tiles][4];
#pragma unroll
    for (int i = 0; i < own_tiles; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
    float most = -1e30f, sum = 0;               // of head threadIdx.x / 8
    for (int first = from, turn = 0; first < end; first += TILE, turn++) {
        u16* tile = rows + turn % 2 * TILE * wide;
        u16* v_tile = IN_KEY ? tile : values + turn % 2 * TILE * v_wide;
        if (first + TILE < end) copy((turn + 1) % 2, first + TILE);
        copies_end();
        copies_wait<1>();
        __syncthreads();
        // Scores: each warp for eight positions; two sums, so that they do not wait for each other.
        float s[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
        for (int k = 0; k < KEY / 32; k++) {
            u32 a[4], b[4];
            load4(b, tile + (warp * 8 + lane % 8) * wide + k * 32 + lane / 8 * 8);
            load4(a, qs + lane % 16 * wide + k * 32 + lane / 16 * 8);
            mma(s[0], a[0], a[1], a[2], a[3], b[0], b[1]);
            load4(a, qs + lane % 16 * wide + k * 32 + 16 + lane / 16 * 8);
            mma(s[1], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores[(lane / 4 + i / 2 * 8) * (TILE + 1) + warp * 8 + lane % 4 * 2 + i % 2] =
                (s[0][i] + s[1][i]) * p.scale;
        __syncthreads();
        // Shares: eight threads for each head, four positions each.
        int head = threadIdx.x / 8, at = threadIdx.x % 8 * 4;
        float own[4], now = most;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            own[i] = first + at + i < end ? scores[head * (TILE + 1) + at + i] : -1e30f;
            now = fmaxf(now, own[i]);
        }
#pragma unroll
        for (int apart = 4; apart > 0; apart /= 2) now = fmaxf(now, __shfl_xor_sync(~0u, now, apart));
        float keep = __expf(most - now), added = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) own[i] = __expf(own[i] - now), added += own[i];
#pragma unroll
        for (int apart = 4; apart > 0; apart /= 2) added += __shfl_xor_sync(~0u, added, apart);
        sum = sum * keep + added, most = now;
        *(uint2*)(shares + head * (TILE + 8) + at) = {pair(own[0], own[1]), pair(own[2], own[3])};
        if (threadIdx.x % 8 == 0) keeps[head] = keep;
        __syncthreads();
        // The mix: each warp for a quarter of the numbers.
        float low = keeps[lane / 4], high = keeps[lane / 4 + 8];
#pragma unroll
        for (int i = 0; i < own_tiles; i++) c[i][0] *= low, c[i][1] *= low, c[i][2] *= high, c[i][3] *= high;
#pragma unroll
        for (int k = 0; k < TILE / 16; k++) {
            u32 a[4];
            load4(a, shares + lane % 16 * (TILE + 8) + k * 16 + lane / 16 * 8);
#pragma unroll
            for (int i = 0; i < own_tiles / 2; i++) {
                u32 b[4];
                load4_turned(b, v_tile + (k * 16 + lane % 16) * v_wide + warp * (VALUE / 4) + i * 16 + lane / 16 * 8);
                mma(c[2 * i], a[0], a[1], a[2], a[3], b[0], b[1]);
                mma(c[2 * i + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < own_tiles; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int head = first_head + lane / 4 + half * 8;
            if (head >= end_head) continue;
            u64 at = (((u64)token * p.heads + head) * p.parts + blockIdx.x) * VALUE;
            *(float2*)(p.mix + at + warp * (VALUE / 4) + i * 8 + lane % 4 * 2) = {c[i][half * 2], c[i][half * 2 + 1]};
        }
    }
    int head = first_head + threadIdx.x / 8;
    if (threadIdx.x % 8 == 0 && head < end_head)
        p.most_sum[((u64)token * p.heads + head) * p.parts + blockIdx.x] = {most, sum};
}

// DeepSeek's latent rows: 512 and 64.
extern "C" __global__ void __launch_bounds__(128, 2) decode_latent(const __grid_constant__ Decode p) {
    decode<576, 512, true>(p);
}
extern "C" __global__ void __launch_bounds__(128, 4) decode_128(const __grid_constant__ Decode p) {
    decode<128, 128, false>(p);
}
extern "C" __global__ void __launch_bounds__(128, 4) decode_64(const __grid_constant__ Decode p) {
    decode<64, 64, false>(p);
}

// Puts the parts of each token and head together, in their order; a thread for four numbers.
extern "C" __global__ void together(const __grid_constant__ Decode p) {
    after_the_one_before();
    let_the_next_begin();
    int token = blockIdx.x, head = blockIdx.y, count = p.slots[token].position + 1;
    int size = part_size(count), parts = (count + size - 1) / size, value = p.value;
    u64 first = ((u64)token * p.heads + head) * p.parts;
    float most = -1e30f, sum = 0;
    for (int i = threadIdx.x % 32; i < parts; i += 32) most = fmaxf(most, p.most_sum[first + i].x);
    most = warp_max(most);
    if (threadIdx.x * 4 >= value) return;
    float4 all = {0, 0, 0, 0};
#pragma unroll 8
    for (int i = 0; i < parts; i++) {
        float2 own = p.most_sum[first + i];
        float keep = __expf(own.x - most);
        sum += own.y * keep;
        float4 mix = *(const float4*)(p.mix + (first + i) * value + threadIdx.x * 4);
        all.x += keep * mix.x, all.y += keep * mix.y, all.z += keep * mix.z, all.w += keep * mix.w;
    }
    float by = 1.f / sum;
    u64 at = ((u64)token * p.heads + head) * value + threadIdx.x * 4;
    *(uint2*)(p.y + at) = {pair(all.x * by, all.y * by), pair(all.z * by, all.w * by)};
}

struct Prompt {
    const act* q;        // of each token and head
    int q_row, key;      // numbers of a token's queries, and of a head's
    const act* k;        // first part of keys, by position
    int k_row, k_apart;  // numbers of a position's, and from one key-value head to the next
    const act* k_last;   // the last part, shared by all heads, or nothing
    int k_last_row;
    const act* v;
    int v_row, v_apart;
    int per_kv;
    int first, tokens;   // position of the first token, and how many there are
    float scale;
    act* y;
    int y_row;
};

// 64 tokens of one head against 64 positions at a time; each of four warps has 16 tokens.
template <int KEY, int LAST, int VALUE>
__device__ void prompt(const Prompt& p) {
    const int k_row = KEY + 8, v_row = VALUE + 8;
    u16* qs = (u16*)memory;                 // [64][k_row]
    u16* ks = qs + 64 * k_row;              // [2][64][k_row]
    u16* vs = ks + 2 * 64 * k_row;          // [2][64][v_row]
    after_the_one_before();
    let_the_next_begin();
    int head = blockIdx.y, kv = head / p.per_kv;
    // The last tokens have the most to look at: they begin first.
    int first_token = ((int)gridDim.x - 1 - (int)blockIdx.x) * 64;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int positions = min(p.first + first_token + 64, p.first + p.tokens);
    for (int i = threadIdx.x; i < 64 * (KEY / 8); i += 128) {
        int row = i / (KEY / 8), part = i % (KEY / 8);
        bool has = first_token + row < p.tokens;
        const act* q = p.q + (u64)(has ? first_token + row : 0) * p.q_row + head * KEY;
        copy16(qs + row * k_row + part * 8, q + part * 8, has);
    }
    auto copy = [&](int buffer, int first) {
        for (int i = threadIdx.x; i < 64 * (KEY / 8); i += 128) {
            int row = i / (KEY / 8), part = i % (KEY / 8);
            bool has = first + row < positions;
            u64 position = has ? first + row : 0;
            const act* k = part * 8 < KEY - LAST
                               ? p.k + position * p.k_row + kv * p.k_apart + part * 8
                               : p.k_last + position * p.k_last_row + (part * 8 - (KEY - LAST));
            copy16(ks + (buffer * 64 + row) * k_row + part * 8, k, has);
        }
        for (int i = threadIdx.x; i < 64 * (VALUE / 8); i += 128) {
            int row = i / (VALUE / 8), part = i % (VALUE / 8);
            bool has = first + row < positions;
            const act* v = p.v + (u64)(has ? first + row : 0) * p.v_row + kv * p.v_apart;
            copy16(vs + (buffer * 64 + row) * v_row + part * 8, v + part * 8, has);
        }
    };
    copy(0, 0);
    copies_end();
    float c[VALUE / 8][4];
#pragma unroll
    for (int i = 0; i < VALUE / 8; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
    float most[2] = {-1e30f, -1e30f}, sum[2] = {0, 0};
    int own = p.first + first_token + warp * 16 + lane / 4;
    const float to_base_2 = p.scale * 1.44269504f;
    for (int first = 0, turn = 0; first < positions; first += 64, turn++) {
        const u16* k_tile = ks + turn % 2 * 64 * k_row;
        const u16* v_tile = vs + turn % 2 * 64 * v_row;
        if (first + 64 < positions) copy((turn + 1) % 2, first + 64);
        copies_end();
        copies_wait<1>();
        __syncthreads();
        float s[8][4];
#pragma unroll
        for (int j = 0; j < 8; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
#pragma unroll
        for (int k = 0; k < KEY / 16; k++) {
            u32 a[4];
            load4(a, qs + (warp * 16 + lane % 16) * k_row + k * 16 + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 b[4];
                load4(b, k_tile + (j * 16 + lane % 8 + lane / 16 * 8) * k_row + k * 16 + lane / 8 % 2 * 8);
                mma(s[2 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
                mma(s[2 * j + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
            }
        }
        bool is_edge = first + 63 > p.first + first_token + warp * 16;
        float now[2] = {most[0], most[1]};
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[j][i] *= to_base_2;
                int position = first + j * 8 + lane % 4 * 2 + i % 2;
                if (is_edge && position > own + i / 2 * 8) s[j][i] = -1e30f;
                now[i / 2] = fmaxf(now[i / 2], s[j][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 1));
            now[half] = fmaxf(now[half], __shfl_xor_sync(~0u, now[half], 2));
            float keep = exp2f(most[half] - now[half]);
            most[half] = now[half];
            sum[half] *= keep;
#pragma unroll
            for (int i = 0; i < VALUE / 8; i++) c[i][half * 2] *= keep, c[i][half * 2 + 1] *= keep;
        }
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[j][i] = exp2f(s[j][i] - now[i / 2]);
                sum[i / 2] += s[j][i];
            }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            u32 a[4] = {pair(s[2 * k][0], s[2 * k][1]), pair(s[2 * k][2], s[2 * k][3]),
                        pair(s[2 * k + 1][0], s[2 * k + 1][1]), pair(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
            for (int i = 0; i < VALUE / 16; i++) {
                u32 b[4];
                load4_turned(b, v_tile + (k * 16 + lane % 16) * v_row + i * 16 + lane / 16 * 8);
                mma(c[2 * i], a[0], a[1], a[2], a[3], b[0], b[1]);
                mma(c[2 * i + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] += __shfl_xor_sync(~0u, sum[half], 1);
        sum[half] += __shfl_xor_sync(~0u, sum[half], 2);
        int token = first_token + warp * 16 + lane / 4 + half * 8;
        if (token >= p.tokens) continue;
        float by = 1.f / sum[half];
        act* y = p.y + (u64)token * p.y_row + head * VALUE;
#pragma unroll
        for (int i = 0; i < VALUE / 8; i++)
            *(u32*)(y + i * 8 + lane % 4 * 2) = pair(c[i][half * 2] * by, c[i][half * 2 + 1] * by);
    }
}

extern "C" __global__ void __launch_bounds__(128, 2) prompt_latent(const __grid_constant__ Prompt p) {
    prompt<192, 64, 128>(p);
}
extern "C" __global__ void __launch_bounds__(128, 2) prompt_128(const __grid_constant__ Prompt p) {
    prompt<128, 0, 128>(p);
}
extern "C" __global__ void __launch_bounds__(128, 2) prompt_64(const __grid_constant__ Prompt p) {
    prompt<64, 0, 64>(p);
}
#endif
