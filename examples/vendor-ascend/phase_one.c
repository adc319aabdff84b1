/* Calls phase one of an operation with arguments from a list, by its signature. */
#include "plugin.h"

#define T(i) a[i].tensor
#define L(i) a[i].list
#define S(i) a[i].scalar
#define A(i) a[i].ints
#define I(i) a[i].integer
#define D(i) a[i].real
#define F(i) (float)a[i].real
#define B(i) (a[i].integer != 0)
#define Y(i) (aclDataType) a[i].integer
#define C(i) (int8_t) a[i].integer

/* One function for each signature, so that a call is checked against its type. */
#define DISPATCH(signature, ...)                                                                                       \
    static aclnnStatus by_##signature(ascend_##signature f, const bound *a, uint64_t *w, aclOpExecutor **e) {          \
        return f(__VA_ARGS__, w, e);                                                                                   \
    }

DISPATCH(to, T(0), T(1))
DISPATCH(tto, T(0), T(1), T(2))
DISPATCH(ttto, T(0), T(1), T(2), T(3))
DISPATCH(ttso, T(0), T(1), S(2), T(3))
DISPATCH(tso, T(0), S(1), T(2))
DISPATCH(tsso, T(0), S(1), S(2), T(3))
DISPATCH(ssso, S(0), S(1), S(2), T(3))
DISPATCH(tyo, T(0), Y(1), T(2))
DISPATCH(tao, T(0), A(1), T(2))
DISPATCH(tio, T(0), I(1), T(2))
DISPATCH(tiyo, T(0), I(1), Y(2), T(3))
DISPATCH(tito, T(0), I(1), T(2), T(3))
DISPATCH(tittso, T(0), I(1), T(2), T(3), S(4), T(5))
DISPATCH(ttno, T(0), T(1), (int)I(2), T(3))
DISPATCH(tibo, T(0), I(1), B(2), T(3))
DISPATCH(tibyo, T(0), I(1), B(2), Y(3), T(4))
DISPATCH(tabo, T(0), A(1), B(2), T(3))
DISPATCH(tabyo, T(0), A(1), B(2), Y(3), T(4))
DISPATCH(tbiboo, T(0), B(1), I(2), B(3), T(4), T(5))
DISPATCH(r, T(0))
DISPATCH(rt, T(0), T(1))
DISPATCH(ritt, T(0), I(1), T(2), T(3))
DISPATCH(rtti, T(0), T(1), T(2), I(3))
DISPATCH(ttoc, T(0), T(1), T(2), C(3))
DISPATCH(tttssoc, T(0), T(1), T(2), S(3), S(4), T(5), C(6))
DISPATCH(ttdoo, T(0), T(1), D(2), T(3), T(4))
DISPATCH(ttttoo, T(0), T(1), T(2), T(3), T(4), T(5))
DISPATCH(tattdooo, T(0), A(1), T(2), T(3), D(4), T(5), T(6), T(7))
DISPATCH(tttio, T(0), T(1), T(2), I(3), T(4))
DISPATCH(tttttttno, T(0), T(1), T(2), T(3), T(4), T(5), T(6), (int)I(7), T(8))
DISPATCH(rrrrttfffffbb, T(0), T(1), T(2), T(3), T(4), T(5), F(6), F(7), F(8), F(9), F(10), B(11), B(12))

static aclnnStatus by_flash(ascend_flash f, const bound *a, uint64_t *w, aclOpExecutor **e) {
    char layout[16];
    memcpy(layout, a[13].text, sizeof layout);
    return f(T(0), T(1), T(2), T(3), T(4), T(5), T(6), A(7), D(8), D(9), I(10), I(11), I(12), layout, I(14), I(15),
             T(16), T(17), T(18), T(19), w, e);
}

static aclnnStatus by_infer(ascend_infer f, const bound *a, uint64_t *w, aclOpExecutor **e) {
    char layout[16];
    memcpy(layout, a[28].text, sizeof layout);
    return f(T(0), L(1), L(2), T(3), T(4), A(5), A(6), T(7), T(8), T(9), T(10), T(11), T(12), T(13), T(14), T(15),
             T(16), T(17), T(18), T(19), T(20), T(21), T(22), A(23), I(24), D(25), I(26), I(27), layout, I(29), I(30),
             I(31), I(32), I(33), B(34), I(35), I(36), T(37), T(38), w, e);
}

aclnnStatus ascend_phase_one(const functions *f, enum ascend_op op, const bound *arguments, uint64_t *workspace,
                             aclOpExecutor **executor) {
    void *symbol = f->ops[op].phase_one;
    switch (op) {
#define CASE(X, signature)                                                                                             \
    case ASCEND_##X: {                                                                                                 \
        ascend_##signature typed;                                                                                      \
        memcpy(&typed, &symbol, sizeof typed);                                                                         \
        return by_##signature(typed, arguments, workspace, executor);                                                  \
    }
        ASCEND_OPS(CASE)
#undef CASE
    case ASCEND_OP_COUNT:
        break;
    }
    return -1;
}
