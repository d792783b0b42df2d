// The small parts of a layer: embedding, norms, positions, the gate, and who goes to which expert.

struct Embed {
    const Slot* slots;
    const void* w;
    int element, hidden;
    float* x;
};

extern "C" __global__ void embed(const __grid_constant__ Embed p) {
    after_the_one_before();
    let_the_next_begin();
    u64 token = p.slots[blockIdx.x].token;
    for (int i = threadIdx.x; i < p.hidden; i += blockDim.x)
        p.x[(u64)blockIdx.x * p.hidden + i] = weight(p.w, token * p.hidden + i, p.element);
}

struct Norm {
    const float* x;
    const int* rows;     // which rows are wanted, or nothing for all
    const float* w;
    int x_row, n;
    float epsilon;
    act* y;
    int y_row;
};

extern "C" __global__ void normed(const __grid_constant__ Norm p) {
    after_the_one_before();
    let_the_next_begin();
    int row = p.rows ? p.rows[blockIdx.x] : blockIdx.x;
    const float* x = p.x + (u64)row * p.x_row;
    float sum = 0;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) sum += x[i] * x[i];
    float scale = rsqrtf(block_sum(sum) / p.n + p.epsilon);
    u64 y = (u64)blockIdx.x * p.y_row;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) p.y[y + i] = down(p.w[i] * (x[i] * scale));
}

// `gate` and `up` come in turns of eight; see `few`.
struct GateUp {
    const act* x;
    act* y;
    int x_row, n;
};

extern "C" __global__ void gate_up(const __grid_constant__ GateUp p) {
    after_the_one_before();
    let_the_next_begin();
    const act* x = p.x + (u64)blockIdx.x * p.x_row;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
        int at = i / 8 * 16 + i % 8;
        float gate = up(x[at]), other = up(x[at + 8]);
        p.y[(u64)blockIdx.x * p.n + i] = down(gate / (1.f + expf(-gate)) * other);
    }
}

// Cosines and sines by position, made by the host: the card gives the host's numbers.
struct Turn {
    const float2* angles;
    int pairs, interleaved;
};

__device__ __forceinline__ void turn(const Turn& t, int position, int i, float& x, float& y) {
    float2 angle = t.angles[(u64)position * t.pairs + i];
    float a = x * angle.x - y * angle.y, b = y * angle.x + x * angle.y;
    x = a, y = b;
}

struct Latents {
    const Slot* slots;
    Cache cache;
    Turn turn;
    const float* kv;     // latent and rope of each token
    int kv_row, latent, rope;
    const float* norm;
    float epsilon;
    act* q;              // heads of nope and rope
    int q_row, heads, nope;
    act* to;             // where turned ropes go: absorbed queries, or nothing for in place
};

// One block of 128 for each token and head, and one more for the token's own row.
extern "C" __global__ void latents(const __grid_constant__ Latents p) {
    after_the_one_before();
    let_the_next_begin();
    Slot slot = p.slots[blockIdx.x];
    int head = blockIdx.y, pairs = p.turn.pairs;
    int first = p.turn.interleaved ? 2 : 1, apart = p.turn.interleaved ? 1 : pairs;
    if (head < p.heads) {
        act* q = p.q + (u64)blockIdx.x * p.q_row + head * (p.nope + p.rope) + p.nope;
        act* to = p.to ? p.to + ((u64)blockIdx.x * p.heads + head) * (p.latent + p.rope) + p.latent : q;
        for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
            float x = up(q[i * first]), y = up(q[i * first + apart]);
            turn(p.turn, slot.position, i, x, y);
            to[i * first] = down(x), to[i * first + apart] = down(y);
        }
        return;
    }
    const float* kv = p.kv + (u64)blockIdx.x * p.kv_row;
    act* row = p.cache.rows + row_of(p.cache, slot.table, slot.position);
    float sum = 0;
    for (int i = threadIdx.x; i < p.latent; i += blockDim.x) sum += kv[i] * kv[i];
    float scale = rsqrtf(block_sum(sum) / p.latent + p.epsilon);
    for (int i = threadIdx.x; i < p.latent; i += blockDim.x) row[i] = down(p.norm[i] * (kv[i] * scale));
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float* rope = kv + p.latent;
        float x = rope[i * first], y = rope[i * first + apart];
        turn(p.turn, slot.position, i, x, y);
        row[p.latent + i * first] = down(x), row[p.latent + i * first + apart] = down(y);
    }
}

struct Heads {
    const Slot* slots;
    Cache cache;
    Turn turn;
    float* qkv;          // queries, keys, values of each token
    int heads, kv_heads, head;
    const float* q_norm; // or nothing
    const float* k_norm;
    float epsilon;
    act* q;
};

// One block for each token and head of queries, keys and values: norms, turns, puts away.
extern "C" __global__ void heads(const __grid_constant__ Heads p) {
    after_the_one_before();
    let_the_next_begin();
    float* own = (float*)memory;
    Slot slot = p.slots[blockIdx.x];
    int which = blockIdx.y, all = p.heads + 2 * p.kv_heads;
    const float* x = p.qkv + ((u64)blockIdx.x * all + which) * p.head;
    bool is_query = which < p.heads, is_value = which >= p.heads + p.kv_heads;
    const float* norm = is_query ? p.q_norm : p.k_norm;
    float scale = 1;
    if (norm && !is_value) {
        float sum = 0;
        for (int i = threadIdx.x; i < p.head; i += blockDim.x) sum += x[i] * x[i];
        scale = rsqrtf(block_sum(sum) / p.head + p.epsilon);
    }
    for (int i = threadIdx.x; i < p.head; i += blockDim.x)
        own[i] = norm && !is_value ? norm[i] * (x[i] * scale) : x[i];
    __syncthreads();
    act* to = is_query ? p.q + ((u64)blockIdx.x * p.heads + which) * p.head
                       : p.cache.rows + row_of(p.cache, slot.table, slot.position) + (which - p.heads) * p.head;
    if (is_value) {
        for (int i = threadIdx.x; i < p.head; i += blockDim.x) to[i] = down(own[i]);
        return;
    }
    int pairs = p.turn.pairs;
    int first = p.turn.interleaved ? 2 : 1, apart = p.turn.interleaved ? 1 : pairs;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        float a = own[i * first], b = own[i * first + apart];
        turn(p.turn, slot.position, i, a, b);
        to[i * first] = down(a), to[i * first + apart] = down(b);
    }
}

#define EXPERTS_MAX 1024

struct Gate {
    const float* scores; // of each token and expert
    const float* bias;   // or nothing
    int experts, tokens, top, groups, kept, group_two, sigmoid, normalise;
    float scale;
    int shared;          // experts that every token goes to, numbered after the others
    int* choice;         // of each token: top + shared experts,
    float* share;        // and their weights
};

// The best of `score` over the warp; of equals the first. Everything below zero counts too.
__device__ __forceinline__ int best(float score, int at) {
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        float other = __shfl_xor_sync(~0u, score, apart);
        int where = __shfl_xor_sync(~0u, at, apart);
        if (other > score || (other == score && where < at)) score = other, at = where;
    }
    return at;
}

// One warp for a token; `score` and `biased` are its own.
__device__ void choose_for(const Gate& p, int token, float* score, float* biased) {
    int lane = threadIdx.x % 32;
    const float* raw = p.scores + (u64)token * p.experts;
    const float least = -__int_as_float(0x7f800000);
    float most = least, sum = 0;
    for (int e = lane; e < p.experts; e += 32) most = fmaxf(most, raw[e]);
    most = warp_max(most);
    for (int e = lane; e < p.experts; e += 32) {
        score[e] = p.sigmoid ? 1.f / (1.f + expf(-raw[e])) : expf(raw[e] - most);
        sum += score[e];
    }
    sum = warp_sum(sum);
    for (int e = lane; e < p.experts; e += 32) {
        if (!p.sigmoid) score[e] /= sum;
        biased[e] = score[e] + (p.bias ? p.bias[e] : 0.f);
    }
    __syncwarp();
    int size = p.experts / p.groups;
    if (p.kept < p.groups) {
        // A lane for each group: at most 32 groups, checked by the host.
        float mine = least;
        if (lane < p.groups) {
            float first = least, second = least;
            for (int e = lane * size; e < (lane + 1) * size; e++) {
                if (biased[e] > first) second = first, first = biased[e];
                else if (biased[e] > second) second = biased[e];
            }
            mine = p.group_two ? first + second : first;
        }
        bool is_kept = false;
        for (int i = 0; i < p.kept; i++) {
            int group = best(lane < p.groups && !is_kept ? mine : least, lane);
            if (group == lane) is_kept = true;
        }
        if (lane < p.groups && !is_kept)
            for (int e = lane * size; e < (lane + 1) * size; e++) biased[e] = least;
        __syncwarp();
    }
    int choices = p.top + p.shared;
    float total = 0;
    for (int i = 0; i < p.top; i++) {
        float top = least;
        int at = 1 << 30;
        for (int e = lane; e < p.experts; e += 32)
            if (biased[e] > top) top = biased[e], at = e;
        at = best(top, at);
        // Scores that are no numbers: any expert will do, the answer fails later.
        if (at >= p.experts) at = i;
        total += score[at];
        if (lane == 0) {
            p.choice[(u64)token * choices + i] = at;
            p.share[(u64)token * choices + i] = score[at];
            biased[at] = least;
        }
        __syncwarp();
    }
    float divisor = p.normalise ? total + 1e-20f : 1.f;
    for (int i = lane; i < choices; i += 32) {
        u64 at = (u64)token * choices + i;
        if (i >= p.top) p.choice[at] = p.experts + i - p.top;
        p.share[at] = i < p.top ? p.share[at] / divisor * p.scale : 1.f;
    }
}

extern "C" __global__ void gate(const __grid_constant__ Gate p) {
    after_the_one_before();
    let_the_next_begin();
    int warp = threadIdx.x / 32, token = blockIdx.x * (blockDim.x / 32) + warp;
    if (token >= p.tokens) return;
    float* own = (float*)memory + warp * 2 * p.experts;
    choose_for(p, token, own, own + p.experts);
}

struct Route {
    const int* choice;
    int experts, tokens, choices, tile;
    int shared;          // of the experts, the last: every token's, in the tokens' order
    int* slot;           // of each token and choice: where it lies among all, expert by expert
    int* token_of;       // of each such slot
    int* ends;           // of each expert
    int* tiles;          // (expert, first slot)
    int* tile_count;
};

// One block: counts, sums, deals out. A slot's place in its expert changes no bit of its result.
__device__ void route_all(const Route& p) {
    __shared__ int count[EXPERTS_MAX], start[EXPERTS_MAX], first_tile[EXPERTS_MAX];
    int routed = p.experts - p.shared, all = p.tokens * p.choices;
    for (int e = threadIdx.x; e < p.experts; e += blockDim.x) count[e] = e < routed ? 0 : p.tokens;
    __syncthreads();
    for (int i = threadIdx.x; i < all; i += blockDim.x)
        if (p.choice[i] < routed) atomicAdd(&count[p.choice[i]], 1);
    __syncthreads();
    if (threadIdx.x < 32) {
        // Each lane has some experts in a row; what lies before them is summed over the lanes.
        int each = (p.experts + 31) / 32, from = threadIdx.x * each;
        int slots = 0, tiles = 0;
        for (int e = from; e < min(from + each, p.experts); e++)
            slots += count[e], tiles += (count[e] + p.tile - 1) / p.tile;
        int own_slots = slots, own_tiles = tiles;
#pragma unroll
        for (int apart = 1; apart < 32; apart *= 2) {
            int more = __shfl_up_sync(~0u, slots, apart), more_tiles = __shfl_up_sync(~0u, tiles, apart);
            if (threadIdx.x >= apart) slots += more, tiles += more_tiles;
        }
        if (threadIdx.x == 31) *p.tile_count = tiles;
        slots -= own_slots, tiles -= own_tiles;
        for (int e = from; e < min(from + each, p.experts); e++) {
            start[e] = slots, first_tile[e] = tiles;
            slots += count[e], tiles += (count[e] + p.tile - 1) / p.tile;
            p.ends[e] = slots;
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < p.experts; e += blockDim.x) {
        for (int i = 0; i * p.tile < count[e]; i++) {
            p.tiles[2 * (first_tile[e] + i)] = e;
            p.tiles[2 * (first_tile[e] + i) + 1] = start[e] + i * p.tile;
        }
        count[e] = start[e];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        int expert = p.choice[i];
        int slot = expert < routed ? atomicAdd(&count[expert], 1) : start[expert] + i / p.choices;
        p.slot[i] = slot;
        p.token_of[slot] = i / p.choices;
    }
}

extern "C" __global__ void __launch_bounds__(1024) route(const __grid_constant__ Route p) {
    after_the_one_before();
    let_the_next_begin();
    route_all(p);
}

struct Choose {
    Gate gate;
    Route route;
};

// Both at once, for few tokens.
extern "C" __global__ void __launch_bounds__(1024) choose(const __grid_constant__ Choose p) {
    after_the_one_before();
    let_the_next_begin();
    int warp = threadIdx.x / 32;
    float* own = (float*)memory + warp * 2 * p.gate.experts;
    for (int token = warp; token < p.gate.tokens; token += blockDim.x / 32)
        choose_for(p.gate, token, own, own + p.gate.experts);
    __syncthreads();
    route_all(p.route);
}

struct Combine {
    const act* y;        // by slot
    const int* slot;
    const float* share;
    int choices, hidden;
    float* x;
};

// Each token's sum runs over its choices in their order.
extern "C" __global__ void combine(const __grid_constant__ Combine p) {
    after_the_one_before();
    let_the_next_begin();
    u64 token = blockIdx.x;
    int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= p.hidden) return;
    float sum = 0;
    for (int c = 0; c < p.choices; c++) {
        u64 at = token * p.choices + c;
        sum += p.share[at] * up(p.y[(u64)p.slot[at] * p.hidden + i]);
    }
    p.x[token * p.hidden + i] += sum;
}

struct Gather {
    Cache cache;
    int table, count;
    act* y;
};

// A sequence's rows of one layer, one after another.
extern "C" __global__ void gather(const __grid_constant__ Gather p) {
    after_the_one_before();
    let_the_next_begin();
    const act* row = p.cache.rows + row_of(p.cache, p.table, blockIdx.x);
    for (int i = threadIdx.x; i < p.cache.row; i += blockDim.x)
        p.y[(u64)blockIdx.x * p.cache.row + i] = row[i];
}

struct Random {
    u16* y;
    u64 count;
    u32 seed;
    float scale;
};

// Weights for measuring speed: even between -scale and scale.
extern "C" __global__ void random(const __grid_constant__ Random p) {
    after_the_one_before();
    let_the_next_begin();
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += (u64)gridDim.x * blockDim.x) {
        u64 bits = (i + 1) * 0x9e3779b97f4a7c15ull ^ ((u64)p.seed << 32);
        bits = (bits ^ (bits >> 31)) * 0xbf58476d1ce4e5b9ull;
        bits ^= bits >> 29;
        float even = (float)(u32)(bits >> 32) * (2.f / 4294967296.f) - 1.f;
        p.y[i] = (u16)pair(even * p.scale, 0.f);
    }
}
