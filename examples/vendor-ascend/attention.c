/*
 * Attention: FusedInferAttentionScore for 16-bit floats, in prefill and decode, FlashAttentionScore for f32.
 *
 * What a query may see is told by a mask of bytes, 1 where a key is hidden. Lengths and offsets are on the device, and
 * the library wants those of its own parameters on the host: so the mask is made from them, by a few small calls.
 */
#include "plugin.h"

typedef struct masks {
    builder *b;
    view hidden; /* bool[b,1,t,s]; nothing yet when every key is seen */
    int64_t dims[4];
} masks;

static view boolean(masks *m) { return scratch(m->b, ASCEND_BOOL, 4, m->dims); }

static void hide(masks *m, view where) {
    builder *b = m->b;
    if (m->hidden.place == AT_NOTHING) {
        m->hidden = where;
        return;
    }
    view both = boolean(m);
    CALL(b, LogicalOr, in(m->hidden), in(where), out(both));
    m->hidden = both;
}

/* Whole numbers 0, 1 .. along the queries or the keys. */
static view count_along(masks *m, int axis) {
    builder *b = m->b;
    int64_t n = m->dims[axis], dims[4] = {1, 1, 1, 1};
    dims[axis] = n;
    view row = scratch(b, ASCEND_INT32, 1, &n);
    CALL(b, Arange, scalar(0, ASCEND_INT32), scalar((double)n, ASCEND_INT32), scalar(1, ASCEND_INT32), out(row));
    return reshaped(row, 4, dims);
}

/* i32[b] or i32[b,n] for queries (axis 2), keys (3) or neither (-1), as [b,1,1,1] and so on. */
static view along(const builder *b, uint32_t index, int axis) {
    view v = input(b, index);
    int64_t dims[4] = {v.dims[0], 1, 1, 1};
    if (axis > 0) dims[axis] = v.dims[1];
    return reshaped(v, 4, dims);
}

static void make_mask(masks *m, uint32_t next) {
    builder *b = m->b;
    const percept_op *op = b->op;
    bool causal = percept_int(op, "causal", 0), has_window = percept_attribute_of(op, "window") != NULL;
    int64_t window = percept_int(op, "window", 0);
    view q_segments = nothing(), k_segments = nothing(), q_blocks = nothing(), k_blocks = nothing();
    view position = nothing(), key = nothing();
    if (percept_int(op, "segments", 0)) {
        q_segments = along(b, next++, 2);
        k_segments = along(b, next++, 3);
    }
    if (percept_int(op, "blocks", 0)) {
        q_blocks = along(b, next++, 2);
        k_blocks = along(b, next++, 3);
    }
    bool has_offset = percept_int(op, "offset", 0), has_length = percept_int(op, "kv_len", 0);
    if (causal || has_window || has_length) key = count_along(m, 3);
    if (causal || has_window) position = count_along(m, 2);
    if (has_offset) {
        view start = along(b, next++, -1);
        if (causal || has_window) {
            const int64_t dims[4] = {m->dims[0], 1, m->dims[2], 1};
            view sum = scratch(b, ASCEND_INT32, 4, dims);
            CALL(b, Add, in(position), in(start), scalar(1, ASCEND_INT32), out(sum));
            position = sum;
        }
    }
    if (causal) {
        view later = boolean(m);
        CALL(b, GtTensor, in(key), in(position), out(later));
        if (q_blocks.place != AT_NOTHING) {
            /* Keys of the same block are seen though they come later. */
            int64_t one = 1;
            view other = boolean(m), outside = boolean(m), zero = scratch(b, ASCEND_INT32, 1, &one), apart = boolean(m);
            view negative = scratch(b, ASCEND_BOOL, 4, q_blocks.dims);
            CALL(b, InplaceZero, ref(zero));
            CALL(b, NeTensor, in(q_blocks), in(k_blocks), out(other));
            CALL(b, LtTensor, in(q_blocks), in(zero), out(negative));
            CALL(b, LogicalOr, in(other), in(negative), out(apart));
            CALL(b, LogicalAnd, in(later), in(apart), out(outside));
            later = outside;
        }
        hide(m, later);
    }
    if (has_window) {
        for (int side = 0; side < (causal ? 1 : 2); side++) {
            const int64_t dims[4] = {position.dims[0], 1, m->dims[2], 1};
            view limit = scratch(b, ASCEND_INT32, 4, dims), far = boolean(m);
            /* p - j < window, which is j > p - window; the other way round j < p + window. */
            CALL(b, Adds, in(position), scalar(side ? (double)window : -(double)window, ASCEND_INT32),
                 scalar(1, ASCEND_INT32), out(limit));
            if (side)
                CALL(b, GeTensor, in(key), in(limit), out(far));
            else
                CALL(b, LeTensor, in(key), in(limit), out(far));
            hide(m, far);
        }
    }
    if (q_segments.place != AT_NOTHING) {
        view other = boolean(m);
        CALL(b, NeTensor, in(q_segments), in(k_segments), out(other));
        hide(m, other);
    }
    if (has_length) {
        view beyond = boolean(m);
        CALL(b, GeTensor, in(key), in(along(b, next++, -1)), out(beyond));
        hide(m, beyond);
    }
}

/* Queries without keys give zeros and -inf, whatever the library makes of them. */
static void settle_empty_rows(masks *m, view result, view lse, view to, view lse_to) {
    builder *b = m->b;
    if (m->hidden.place == AT_NOTHING) {
        copy(b, to, result);
        copy(b, lse_to, lse);
        return;
    }
    const int64_t rows[4] = {m->dims[0], 1, m->dims[2], 1}, last = 3, one = 1;
    view none = scratch(b, ASCEND_BOOL, 4, rows), zero = scratch(b, to.type, 1, &one);
    view least = scratch(b, ASCEND_FLOAT, 1, &one), narrow = scratch(b, ASCEND_FLOAT, 1, &one);
    CALL(b, All, in(m->hidden), ints(1, &last), integer(1), out(none));
    CALL(b, InplaceZero, ref(zero));
    CALL(b, InplaceZero, ref(narrow));
    CALL(b, Log, in(narrow), out(least)); /* the logarithm of 0 is -inf */
    CALL(b, SWhere, in(none), in(zero), in(result), out(to));
    CALL(b, SWhere, in(none), in(least), in(lse), out(lse_to));
}

/* The pages of every sequence in a row, [b,hk,pages*page,d]. Paged attention of the library itself wants the lengths
   on the host. */
static view unpaged(builder *b, view pool, view table) {
    int64_t n = table.dims[0], pages = table.dims[1], all = n * pages, heads = pool.dims[1], page = pool.dims[2];
    int64_t d = pool.dims[3];
    const int64_t picked[4] = {all, heads, page, d}, split[5] = {n, pages, heads, page, d}, order[5] = {0, 2, 1, 3, 4};
    const int64_t whole[4] = {n, heads, pages * page, d};
    view ids = scratch(b, ASCEND_INT32, 1, &all), rows = scratch(b, pool.type, 4, picked);
    view to = scratch(b, pool.type, 4, whole), from = permuted(reshaped(rows, 5, split), order);
    if (pool.dims[0] == 0) {
        refuse(b, "a pool without pages");
        return to;
    }
    CALL(b, Clamp, in(reshaped(table, 1, &all)), scalar(0, ASCEND_INT32),
         scalar((double)(pool.dims[0] - 1), ASCEND_INT32), out(ids));
    CALL(b, IndexSelect, in(pool), integer(0), in(ids), out(rows));
    copy(b, reshaped(to, 5, from.dims), from);
    return to;
}

static void attention(builder *b) {
    const percept_op *op = b->op;
    view q = input(b, 0), k = input(b, 1), v = input(b, 2), y = output(b, 0), lse = output(b, 1);
    if (percept_int(op, "paged", 0)) {
        uint32_t table = (uint32_t)op->input_count - 1;
        k = unpaged(b, k, input(b, table));
        v = unpaged(b, v, input(b, table));
    }
    if (percept_int(b->op, "wide_blocks", 0)) {
        refuse(b, "blocks of rows that are wider than the window");
        return;
    }
    if (percept_attribute_of(op, "soft_cap")) {
        refuse(b, "the library caps no scores");
        return;
    }
    if (k.dims[3] != v.dims[3]) {
        refuse(b, "keys and values of different sizes");
        return;
    }
    if (k.dims[2] == 0) {
        refuse(b, "no keys");
        return;
    }
    int64_t n = q.dims[0], heads = q.dims[1], t = q.dims[2], s = k.dims[2], kv_heads = k.dims[1];
    double scale = percept_float(op, "scale", 1.0);
    masks m = {.b = b, .hidden = nothing(), .dims = {n, 1, t, s}};
    make_mask(&m, 3);
    view none = nothing(), result = scratch(b, y.type, 4, y.dims);
    const int64_t rows[4] = {n, heads, t, 1};
    view lse_rows = reshaped(lse, 4, rows), logs = scratch(b, ASCEND_FLOAT, 4, rows);
    if (m.hidden.place != AT_NOTHING && m.hidden.dims[0] != n) refuse(b, "a mask of one batch");
    if (q.type != ASCEND_FLOAT) {
        /* Of innerPrecise, 2 asks for zeros where a row of the mask hides all, which decoding does not take. */
        int64_t precise = t > 1 && m.hidden.place != AT_NOTHING ? 2 : 0;
        argument a[39];
        for (int i = 0; i < 39; i++)
            a[i] = in(none);
        a[0] = in(q);
        a[1] = list(k);
        a[2] = list(v);
        a[4] = in(m.hidden);
        a[5] = a[6] = a[23] = ints(-1, NULL);
        a[24] = integer(heads);
        a[25] = real(scale);
        a[26] = a[27] = integer(INT32_MAX);
        a[28] = text("BNSD");
        a[29] = integer(kv_heads);
        a[30] = integer(0);
        a[31] = integer(precise);
        for (int i = 32; i < 37; i++)
            a[i] = integer(i == 34);
        a[37] = out(result);
        a[38] = out(logs);
        call(b, ASCEND_FusedInferAttentionScoreV2, 39, a);
    } else {
        const int64_t eight[4] = {n, heads, t, 8}, no_softmax[1] = {0};
        view most = scratch(b, ASCEND_FLOAT, 4, eight), sum = scratch(b, ASCEND_FLOAT, 4, eight);
        view empty = scratch(b, ASCEND_FLOAT, 1, no_softmax), log = scratch(b, ASCEND_FLOAT, 4, rows);
        CALL(b, FlashAttentionScore, in(q), in(k), in(v), in(none), in(none), in(none), in(m.hidden), ints(-1, NULL),
             real(scale), real(1.0), integer(INT32_MAX), integer(INT32_MAX), integer(heads), text("BNSD"), integer(0),
             integer(0), out(most), out(sum), out(empty), out(result));
        view first = scratch(b, ASCEND_FLOAT, 4, rows), total = scratch(b, ASCEND_FLOAT, 4, rows);
        copy(b, first, part(most, 3, 0, 1, 1));
        copy(b, total, part(sum, 3, 0, 1, 1));
        CALL(b, Log, in(total), out(log));
        CALL(b, Add, in(first), in(log), scalar(1, ASCEND_FLOAT), out(logs));
    }
    settle_empty_rows(&m, result, logs, y, lse_rows);
}

bool build_attention(builder *b) {
    if (!percept_is(b->op, "attention")) return false;
    attention(b);
    return true;
}
