// What a stack of runs computes on a CPU in one call where PyTorch would need many: causal attention of every run,
// whatever its number of heads, for training and for the next token of a text, and products with few rows.
//
// A task of attention is one head of one sequence. Its queries, keys and values are read where the product with W_qkv
// left them, (run, sequence, token, 3 D), and its output goes where W_0 reads it: heads are never put in an order of
// their own. Queries are taken ROWS at a time, so that their scores stay in the nearest cache, and only the keys that
// they may see are multiplied. The backward pass makes the pattern again from each query's highest score and its sum of
// exponentials, as FlashAttention does (Dao et al. 2022, algorithm 4). Arithmetic is fp32, also where tensors are bf16.
// Tasks share nothing, so that no bit depends on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using Index = int64_t;

#ifdef __AVX512F__
constexpr int WIDTH = 16, TALL = 6, BROAD = 4;  // floats of a vector; rows and vectors of a tile held in registers
#else
constexpr int WIDTH = 8, TALL = 4, BROAD = 2;
#endif
constexpr Index ROWS = 32;   // queries attended from at once
constexpr Index BLOCK = 16;  // tokens of a block of cached keys

typedef float Vector __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Mask __attribute__((vector_size(WIDTH * 4)));

static Vector load(const float* from) { return *(const Vector*)from; }
static void store(float* to, Vector x) { *(Vector*)to = x; }
static Vector fill(float x) { return x - Vector{}; }
static Index padded(Index n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
static Index whole(Index n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }

// The larger of each pair; NaN where b is.
static Vector larger(Vector a, Vector b) { return a > b ? a : b; }

// True where the query in a lane may look at key `key`, when lane 0 holds query `first`.
static Mask allowed(Index first, Index key) {
    Mask query;
    for (int i = 0; i < WIDTH; i++) query[i] = i;
    return query >= (int32_t)(key - first);
}

// e^x for x <= 0, to 2 units in the last place; NaN stays NaN. 2^n e^r with |r| <= log(2) / 2, e^r by the polynomial of
// the Cephes library's expf (Moshier 1989).
static Vector exponential(Vector x) {
    x = x < fill(-87.0f) ? fill(-87.0f) : x;
    Vector rounded = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 leaves n in the low bits
    Bits n = (Bits)rounded;
    Vector whole = rounded - 12582912.0f;
    Vector r = x - whole * 0.693359375f - whole * -2.12194440e-4f;
    Vector p = fill(1.9875691500e-4f);
    for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + coefficient;
    return (p * r * r + r + 1.0f) * (Vector)((n + 127) << 23);
}

// C (M, N) = A B, or C += A B. A's element (m, k) stands at a[m * a_row + k * a_col]; rows of B and C are contiguous.
struct Product {
    Index K;
    const float* a;
    Index a_row, a_col;
    const float* b;
    Index b_row;
    float* c;
    Index c_row;
    bool add;
};

template <int M, int N>
static inline __attribute__((always_inline)) void tile(const Product& p, Index row, Index column) {
    const float *a = p.a + row * p.a_row, *b = p.b + column;
    float* c = p.c + row * p.c_row + column;
    Vector total[M][N];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) total[m][n] = p.add ? load(c + m * p.c_row + n * WIDTH) : Vector{};
    for (Index k = 0; k < p.K; k++) {
        Vector right[N];
        for (int n = 0; n < N; n++) right[n] = load(b + k * p.b_row + n * WIDTH);
        for (int m = 0; m < M; m++) {
            Vector left = fill(a[m * p.a_row + k * p.a_col]);
            for (int n = 0; n < N; n++) total[m][n] += left * right[n];
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) store(c + m * p.c_row + n * WIDTH, total[m][n]);
}

template <int N>
static void strip(const Product& p, Index M, Index column) {
    Index m = 0;
    for (; m + TALL <= M; m += TALL) tile<TALL, N>(p, m, column);
    for (; m + 2 <= M; m += 2) tile<2, N>(p, m, column);
    if (m < M) tile<1, N>(p, m, column);
}

static void multiply(Index M, Index N, const Product& p) {  // N: a multiple of WIDTH
    Index n = 0;
    for (; n + BROAD * WIDTH <= N; n += BROAD * WIDTH) strip<BROAD>(p, M, n);
    for (; n + 2 * WIDTH <= N; n += 2 * WIDTH) strip<2>(p, M, n);
    if (n < N) strip<1>(p, M, n);
}

struct Bfloat16 {
    uint16_t bits;
};

static float widened(float x) { return x; }
static float widened(Bfloat16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static void narrow(float x, float& to) { to = x; }
static void narrow(float x, Bfloat16& to) {  // to nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &x, 4);
    to.bits = x != x ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// Rows of a head into fp32, the last vector of each filled up with zeros.
template <class Number>
static void gather(Index rows, Index d, const Number* from, Index from_row, float factor, float* to) {
    for (Index t = 0; t < rows; t++, from += from_row, to += padded(d)) {
        for (Index i = 0; i < d; i++) to[i] = widened(from[i]) * factor;
        for (Index i = d; i < padded(d); i++) to[i] = 0;
    }
}

template <class Number>
static void scatter(Index rows, Index d, const float* from, float factor, Number* to, Index to_row) {
    for (Index t = 0; t < rows; t++, from += padded(d), to += to_row)
        for (Index i = 0; i < d; i++) narrow(from[i] * factor, to[i]);
}

static void transpose(Index rows, Index d, const float* from, float* to) {  // (rows, padded d) -> (d, ROWS)
    for (Index i = 0; i < d; i++) {
        for (Index t = 0; t < rows; t++) to[i * ROWS + t] = from[t * padded(d) + i];
        for (Index t = rows; t < ROWS; t++) to[i * ROWS + t] = 0;
    }
}

// One thread's working memory, for heads of up to d features of T tokens.
struct Scratch {
    struct alignas(64) Line {
        float numbers[16];
    };
    std::vector<Line> memory;
    float *q, *k, *v, *dout, *dk, *dv, *some, *q_t, *dout_t, *p, *ds;
    Scratch(Index T, Index d) {
        const Index head = padded(T) * padded(d), block = ROWS * padded(d), scores = ROWS * padded(T);
        memory.resize((6 * head + 3 * block + 2 * scores) / 16 + 1);
        float* next = memory[0].numbers;
        for (float** part : {&q, &k, &v, &dout, &dk, &dv}) *part = next, next += head;
        for (float** part : {&some, &q_t, &dout_t}) *part = next, next += block;
        p = next, ds = next + scores;
    }
};

// One head of one sequence. T tokens; D features of a token, d of them this head's; pointers at its first feature.
// Scores, pattern and their gradients lie as (key, query of ROWS), so that a vector holds as many softmaxes as lanes.
// softmax: for each query its highest score, then, whole(T) further on, one over its sum of exponentials.
template <class Number>
static void head_forward(Scratch& w, Index T, Index D, Index d, const Number* qkv, Number* out, float* softmax) {
    const Index dp = padded(d);
    gather(T, d, qkv, 3 * D, 1 / std::sqrt((float)d), w.q);
    gather(T, d, qkv + D, 3 * D, 1, w.k);
    gather(T, d, qkv + 2 * D, 3 * D, 1, w.v);
    for (Index first = 0; first < T; first += ROWS) {
        const Index rows = std::min(ROWS, T - first), keys = first + rows;
        transpose(rows, d, w.q + first * dp, w.q_t);
        multiply(keys, padded(rows), {d, w.k, dp, 1, w.q_t, ROWS, w.p, ROWS, false});
        float factors[ROWS];
        for (Index lane = 0; lane < rows; lane += WIDTH) {
            float* p = w.p + lane;
            const Index query = first + lane;  // of the first lane; keys before it are seen by every lane
            Vector top = fill(-INFINITY);
            for (Index j = query; j < keys; j++)
                store(p + j * ROWS, allowed(query, j) ? load(p + j * ROWS) : fill(-INFINITY));
            for (Index j = 0; j < keys; j++) top = larger(load(p + j * ROWS), top);
            Vector total{};
            for (Index j = 0; j < keys; j++) {
                Vector e = exponential(load(p + j * ROWS) - top);
                if (j >= query) e = allowed(query, j) ? e : Vector{};
                store(p + j * ROWS, e);
                total += e;
            }
            const Vector factor = 1.0f / total;
            store(factors + lane, factor);
            store(softmax + query, top);
            store(softmax + whole(T) + query, factor);
        }
        multiply(rows, dp, {keys, w.p, 1, ROWS, w.v, dp, w.some, dp, false});
        for (Index r = 0; r < rows; r++) scatter(1, d, w.some + r * dp, factors[r], out + (first + r) * D, D);
    }
}

template <class Number>
static void head_backward(
    Scratch& w, Index T, Index D, Index d, const Number* qkv, const float* softmax, const Number* dout, Number* dqkv) {
    const Index dp = padded(d);
    const float scale = 1 / std::sqrt((float)d);
    gather(T, d, qkv, 3 * D, scale, w.q);
    gather(T, d, qkv + D, 3 * D, 1, w.k);
    gather(T, d, qkv + 2 * D, 3 * D, 1, w.v);
    gather(T, d, dout, D, 1, w.dout);
    std::fill(w.dk, w.dk + T * dp, 0.0f);
    std::fill(w.dv, w.dv + T * dp, 0.0f);
    for (Index first = 0; first < T; first += ROWS) {
        const Index rows = std::min(ROWS, T - first), keys = first + rows;
        const float *q = w.q + first * dp, *dz = w.dout + first * dp;
        transpose(rows, d, q, w.q_t);
        transpose(rows, d, dz, w.dout_t);
        multiply(keys, padded(rows), {d, w.k, dp, 1, w.q_t, ROWS, w.p, ROWS, false});
        multiply(keys, padded(rows), {d, w.v, dp, 1, w.dout_t, ROWS, w.ds, ROWS, false});
        for (Index lane = 0; lane < rows; lane += WIDTH) {
            float *p = w.p + lane, *ds = w.ds + lane;
            const Index query = first + lane;
            const Vector top = load(softmax + query), factor = load(softmax + whole(T) + query);
            Vector mean{};
            for (Index j = 0; j < keys; j++) {
                Vector pattern = exponential(load(p + j * ROWS) - top) * factor;
                if (j >= query) pattern = allowed(query, j) ? pattern : Vector{};
                store(p + j * ROWS, pattern);
                mean += pattern * load(ds + j * ROWS);
            }
            for (Index j = 0; j < keys; j++) store(ds + j * ROWS, load(p + j * ROWS) * (load(ds + j * ROWS) - mean));
        }
        multiply(rows, dp, {keys, w.ds, 1, ROWS, w.k, dp, w.some, dp, false});
        scatter(rows, d, w.some, scale, dqkv + first * 3 * D, 3 * D);
        multiply(keys, dp, {rows, w.ds, ROWS, 1, q, dp, w.dk, dp, true});
        multiply(keys, dp, {rows, w.p, ROWS, 1, dz, dp, w.dv, dp, true});
    }
    scatter(T, d, w.dk, 1, dqkv + D, 3 * D);
    scatter(T, d, w.dv, 1, dqkv + 2 * D, 3 * D);
}

// A stack: R runs of B sequences of T tokens; run r has heads[r] heads. softmax stands in the order of the tasks.
struct Stack {
    Index R, B, T, D;
    const Index* heads;
    int threads;
};

template <class Work>
static void each_head(const Stack& s, Work work) {
    struct Task {
        Index sequence, head, d;
    };
    std::vector<Task> tasks;
    for (Index r = 0; r < s.R; r++)
        for (Index b = 0; b < s.B; b++)
            for (Index h = 0; h < s.heads[r]; h++) tasks.push_back({r * s.B + b, h, s.D / s.heads[r]});
    const Index widest = s.D / *std::min_element(s.heads, s.heads + s.R);
#pragma omp parallel num_threads(s.threads)
    {
        Scratch scratch(s.T, widest);
#pragma omp for schedule(dynamic, 4)
        for (Index t = 0; t < (Index)tasks.size(); t++)
            work(scratch, 2 * t * whole(s.T), tasks[t].sequence * s.T * s.D, tasks[t].head * tasks[t].d, tasks[t].d);
    }
}

template <class Number>
static void stack_forward(const Stack& s, const Number* qkv, Number* out, float* softmax) {
    each_head(s, [&](Scratch& w, Index row, Index sequence, Index feature, Index d) {
        head_forward(w, s.T, s.D, d, qkv + 3 * sequence + feature, out + sequence + feature, softmax + row);
    });
}

template <class Number>
static void stack_backward(
    const Stack& s, const Number* qkv, const float* softmax, const Number* dout, Number* dqkv) {
    each_head(s, [&](Scratch& w, Index row, Index sequence, Index feature, Index d) {
        head_backward(w, s.T, s.D, d, qkv + 3 * sequence + feature, softmax + row, dout + sequence + feature,
                      dqkv + 3 * sequence + feature);
    });
}

// Scores of one query q (d) on N blocks of keys, each (d, BLOCK), from block `first` on.
template <int N>
static void score_blocks(Index d, const float* q, const float* keys, Index first, float* scores) {
    constexpr int PARTS = BLOCK / WIDTH;
    Vector total[N][PARTS] = {};
    for (Index i = 0; i < d; i++)
        for (int n = 0; n < N; n++)
            for (int part = 0; part < PARTS; part++)
                total[n][part] += q[i] * load(keys + ((first + n) * d + i) * BLOCK + part * WIDTH);
    for (int n = 0; n < N; n++)
        for (int part = 0; part < PARTS; part++) store(scores + (first + n) * BLOCK + part * WIDTH, total[n][part]);
}

// Weighted sum of the rows of values (seen, d) of a head that fits into a vector; in four parts that need not wait for
// each other.
static Vector narrow_sum(Index d, Index seen, const float* weights, const float* values) {
    Vector total[4] = {};
    Index j = 0;
    for (; j + 4 <= seen; j += 4)
        for (int part = 0; part < 4; part++) total[part] += weights[j + part] * load(values + (j + part) * d);
    for (; j < seen; j++) total[0] += weights[j] * load(values + j * d);
    return (total[0] + total[1]) + (total[2] + total[3]);
}

// One token more of one sequence: put with those before it, then attended from. Keys (H, S / BLOCK, d, BLOCK) and
// values (H, S, d) lie as they are read; S tokens at the most, `length` of them there already. scores holds S numbers,
// some a head's features, padded.
static void sequence_next(Index S, Index D, Index heads, Index length, const float* qkv, float* keys, float* values,
                          float* out, float* scores, float* some) {
    const Index d = D / heads, seen = length + 1;
    for (Index head = 0; head < heads; head++) {
        const Index feature = head * d;
        float* block = keys + feature * S + length / BLOCK * BLOCK * d + length % BLOCK;
        for (Index i = 0; i < d; i++) block[i * BLOCK] = qkv[D + feature + i];
        memcpy(values + feature * S + length * d, qkv + 2 * D + feature, d * sizeof(float));
        const Index blocks = (seen + BLOCK - 1) / BLOCK;
        Index first = 0;
        for (; first + 4 <= blocks; first += 4) score_blocks<4>(d, qkv + feature, keys + feature * S, first, scores);
        for (; first < blocks; first++) score_blocks<1>(d, qkv + feature, keys + feature * S, first, scores);
        const float scale = 1 / std::sqrt((float)d);
        for (Index j = seen; j < padded(seen); j++) scores[j] = -INFINITY;
        Vector tops = load(scores), total{};
        for (Index j = WIDTH; j < seen; j += WIDTH) tops = larger(load(scores + j), tops);
        float top = tops[0], sum = 0;
        for (int l = 1; l < WIDTH; l++) top = tops[l] > top ? tops[l] : top;
        for (Index j = 0; j < seen; j += WIDTH) {
            const Vector e = exponential((load(scores + j) - top) * scale);
            store(scores + j, e);
            total += e;
        }
        for (int l = 0; l < WIDTH; l++) sum += total[l];
        if (d <= WIDTH)
            store(some, narrow_sum(d, seen, scores, values + feature * S));
        else
            multiply(1, padded(d), {seen, scores, S, 1, values + feature * S, d, some, padded(d), false});
        for (Index i = 0; i < d; i++) out[feature + i] = some[i] / sum;
    }
}

extern "C" {
// y = x w + bias for each run, where x has few rows: x (R, M, K), w (R, K, N), bias (R, N) or null, y (R, M, N); N a
// multiple of WIDTH. Each weight is read once, and as it lies.
void multiply_few(
    Index R, Index M, Index K, Index N, const float* x, const float* w, const float* bias, float* y, int threads) {
    const Index broad = BROAD * WIDTH, strips = (N + broad - 1) / broad;
#pragma omp parallel for num_threads(threads)
    for (Index i = 0; i < R * strips; i++) {
        const Index r = i / strips, n = i % strips * broad, columns = std::min(broad, N - n);
        float* out = y + r * M * N + n;
        for (Index m = 0; m < M && bias; m++) memcpy(out + m * N, bias + r * N + n, columns * sizeof(float));
        multiply(M, columns, {K, x + r * M * K, K, 1, w + r * K * N + n, N, out, N, bias != nullptr});
    }
}

void attend_next(
    const Stack* s, const float* qkv, float* keys, float* values, float* out, Index length, Index count) {
    const Index S = s->T, D = s->D;
#pragma omp parallel num_threads(s->threads)
    {
        std::vector<float> scores(S), some(padded(D));
#pragma omp for schedule(static, 1)
        for (Index i = 0; i < s->R * s->B; i++)
            for (Index n = i * count, at = length; at < length + count; n++, at++)
                sequence_next(S, D, s->heads[i / s->B], at, qkv + 3 * D * n, keys + D * S * i, values + D * S * i,
                              out + D * n, scores.data(), some.data());
    }
}

void attend_float32(const Stack* s, const float* qkv, float* out, float* softmax) {
    stack_forward(*s, qkv, out, softmax);
}
void attend_bfloat16(const Stack* s, const Bfloat16* qkv, Bfloat16* out, float* softmax) {
    stack_forward(*s, qkv, out, softmax);
}
void attend_backward_float32(const Stack* s, const float* qkv, const float* softmax, const float* dout, float* dqkv) {
    stack_backward(*s, qkv, softmax, dout, dqkv);
}
void attend_backward_bfloat16(
    const Stack* s, const Bfloat16* qkv, const float* softmax, const Bfloat16* dout, Bfloat16* dqkv) {
    stack_backward(*s, qkv, softmax, dout, dqkv);
}
}
