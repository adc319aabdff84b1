/* Composites that the library has whole: softmax, norms, rotary embedding, activations. */
#include "plugin.h"

static void rms_norm(builder *b) {
    view x = input(b, 0), w = input(b, 1), y = output(b, 0), rows = x;
    double eps = percept_float(b->op, "eps", 1e-6);
    if (percept_int(b->op, "unit_offset", 0)) {
        if (w.type != ASCEND_FLOAT) {
            refuse(b, "1 + weight is rounded to 16 bits");
            return;
        }
        view one_more = scratch(b, w.type, w.rank, w.dims);
        CALL(b, Adds, in(w), scalar(1, ASCEND_FLOAT), scalar(1, ASCEND_FLOAT), out(one_more));
        w = one_more;
    }
    rows.dims[x.rank - 1] = 1;
    view rstd = scratch(b, ASCEND_FLOAT, x.rank, rows.dims);
    CALL(b, RmsNorm, in(x), in(w), real(eps), out(y), out(rstd));
}

static void rms_norm_grad(builder *b) {
    view x = input(b, 0), w = input(b, 1), dy = input(b, 2), dx = output(b, 0), dw = output(b, 1), rows = x;
    if (percept_int(b->op, "unit_offset", 0) || x.type != ASCEND_FLOAT) {
        refuse(b, "the library's gradient takes a weight that is not stored less one, in f32");
        return;
    }
    rows.dims[x.rank - 1] = 1;
    view rstd = scratch(b, ASCEND_FLOAT, x.rank, rows.dims), y = scratch(b, x.type, x.rank, x.dims);
    CALL(b, RmsNorm, in(x), in(w), real(percept_float(b->op, "eps", 1e-6)), out(y), out(rstd));
    CALL(b, RmsNormGrad, in(dy), in(x), in(rstd), in(w), out(dx), out(dw));
}

static void layer_norm(builder *b) {
    view x = input(b, 0), rows = x;
    rows.dims[x.rank - 1] = 1;
    view mean = scratch(b, ASCEND_FLOAT, x.rank, rows.dims), rstd = scratch(b, ASCEND_FLOAT, x.rank, rows.dims);
    CALL(b, LayerNorm, in(x), ints(1, &x.dims[x.rank - 1]), in(input(b, 1)), in(input(b, 2)),
         real(percept_float(b->op, "eps", 1e-5)), out(output(b, 0)), out(mean), out(rstd));
}

/* cos and sin of both features of a pair, [b,1,t,r]. */
static view doubled(builder *b, view half, bool interleaved) {
    int64_t n = half.dims[0], t = half.dims[1], h = half.dims[2];
    const int64_t whole[4] = {n, 1, t, 2 * h}, split[4] = {n, 1, t, h};
    view to = scratch(b, ASCEND_FLOAT, 4, whole), from = reshaped(half, 4, split);
    copy(b, interleaved ? part(to, 3, 0, h, 2) : part(to, 3, 0, h, 1), from);
    copy(b, interleaved ? part(to, 3, 1, h, 2) : part(to, 3, h, h, 1), from);
    return to;
}

/* In f32, as the angles are; features that are not turned are copied. */
static void rope(builder *b) {
    view x = input(b, 0), y = output(b, 0), cosine = input(b, 1), sine = input(b, 2);
    bool interleaved = percept_int(b->op, "interleaved", 0) != 0;
    int64_t d = x.dims[3], r = 2 * cosine.dims[2];
    if (r == 0) {
        copy(b, y, x);
        return;
    }
    view turned = part(x, 3, 0, r, 1), place = part(y, 3, 0, r, 1);
    bool plain = x.type == ASCEND_FLOAT && r == d;
    view from = plain ? x : scratch(b, ASCEND_FLOAT, 4, turned.dims),
         to = plain ? y : scratch(b, ASCEND_FLOAT, 4, turned.dims);
    if (!plain) cast(b, from, turned);
    cosine = doubled(b, cosine, interleaved);
    sine = doubled(b, sine, interleaved);
    CALL(b, RotaryPositionEmbedding, in(from), in(cosine), in(sine), integer(interleaved ? 1 : 0), out(to));
    if (!plain) cast(b, place, to);
    if (r < d) copy(b, part(y, 3, r, d - r, 1), part(x, 3, r, d - r, 1));
}

/* An activation on a type; false when the library has none. */
static bool activation(builder *b, const char *act, view to, view x) {
    if (strcmp(act, "silu") == 0)
        CALL(b, Silu, in(x), out(to));
    else if (strcmp(act, "relu") == 0)
        CALL(b, Relu, in(x), out(to));
    else if (strcmp(act, "gelu_erf") == 0)
        CALL(b, GeluV2, in(x), integer(0), out(to));
    else if (strcmp(act, "gelu_tanh") == 0)
        CALL(b, GeluV2, in(x), integer(1), out(to));
    else
        return false;
    return true;
}

static void gated_activate(builder *b) {
    const char *act = percept_text(b->op, "act");
    view gate = input(b, 0), up = input(b, 1), y = output(b, 0);
    if (y.type == ASCEND_FLOAT) {
        view active = scratch(b, y.type, y.rank, y.dims);
        if (!activation(b, act, active, gate)) {
            refuse(b, "the library has no %s", act);
            return;
        }
        CALL(b, Mul, in(active), in(up), out(y));
        return;
    }
    /* SwiGlu rounds once. It takes both halves in one piece of memory. */
    if (strcmp(act, "silu") != 0) {
        refuse(b, "two roundings to 16 bits");
        return;
    }
    int last = y.rank - 1;
    int64_t dims[MAX_RANK], n = y.dims[last];
    for (int i = 0; i < y.rank; i++)
        dims[i] = i == last ? 2 * n : y.dims[i];
    view both = scratch(b, y.type, y.rank, dims);
    copy(b, part(both, last, 0, n, 1), gate);
    copy(b, part(both, last, n, n, 1), up);
    CALL(b, SwiGlu, in(both), integer(last), out(y));
}

bool build_composite(builder *b) {
    const percept_op *op = b->op;
    if (percept_is(op, "softmax"))
        CALL(b, Softmax, in(input(b, 0)), integer(-1), out(output(b, 0)));
    else if (percept_is(op, "log_softmax"))
        CALL(b, LogSoftmax, in(input(b, 0)), integer(-1), out(output(b, 0)));
    else if (percept_is(op, "rms_norm"))
        rms_norm(b);
    else if (percept_is(op, "rms_norm_grad"))
        rms_norm_grad(b);
    else if (percept_is(op, "layer_norm"))
        layer_norm(b);
    else if (percept_is(op, "rope"))
        rope(b);
    else if (percept_is(op, "activate")) {
        const char *act = percept_text(op, "act");
        if (!activation(b, act, output(b, 0), input(b, 0))) refuse(b, "the library has no %s", act);
        in_place(b, 0, 0);
    } else if (percept_is(op, "gated_activate"))
        gated_activate(b);
    else
        return false;
    return true;
}
