/* libopapi: both phases of every operation, from the list of signatures. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

static argument tensor_argument(argument_kind kind, const aclTensor *t) {
    return (argument){.kind = kind, .tensor = t, .null = !t};
}
#define T(v) tensor_argument(T_IN, v)
#define O(v) tensor_argument(T_OUT, v)
#define R(v) tensor_argument(T_REF, v)
#define I(v) ((argument){.kind = WHOLE, .whole = (int64_t)(v)})
#define D(v) ((argument){.kind = REAL, .real = (double)(v)})
static argument L(const aclTensorList *l) { return (argument){.kind = T_LIST, .list = l, .null = !l}; }
static argument S(const aclScalar *s) { return (argument){.kind = SCALAR, .real = s ? s->value : 0, .null = !s}; }

static argument A(const aclIntArray *a) {
    argument made = {.kind = ARRAY, .null = !a};
    if (a) made.array = *a;
    return made;
}

static argument P(const char *p) {
    argument made = {.kind = WORD};
    snprintf(made.word, sizeof made.word, "%s", p);
    return made;
}

#define PLAN(X, ...)                                                                                                   \
    {                                                                                                                  \
        const argument list[] = {__VA_ARGS__};                                                                         \
        return fake_plan(ASCEND_##X, (int)(sizeof list / sizeof *list), list, workspace, executor);                    \
    }
#define ONE(X) EXPORTED aclnnStatus aclnn##X##GetWorkspaceSize
#define MAKE_to(X) ONE(X)(ASCEND_T a, ASCEND_O o, ASCEND_END) PLAN(X, T(a), O(o))
#define MAKE_tto(X) ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_O o, ASCEND_END) PLAN(X, T(a), T(b), O(o))
#define MAKE_ttto(X) ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_T c, ASCEND_O o, ASCEND_END) PLAN(X, T(a), T(b), T(c), O(o))
#define MAKE_ttso(X) ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_S s, ASCEND_O o, ASCEND_END) PLAN(X, T(a), T(b), S(s), O(o))
#define MAKE_tso(X) ONE(X)(ASCEND_T a, ASCEND_S s, ASCEND_O o, ASCEND_END) PLAN(X, T(a), S(s), O(o))
#define MAKE_tsso(X) ONE(X)(ASCEND_T a, ASCEND_S s, ASCEND_S r, ASCEND_O o, ASCEND_END) PLAN(X, T(a), S(s), S(r), O(o))
#define MAKE_ssso(X) ONE(X)(ASCEND_S a, ASCEND_S b, ASCEND_S c, ASCEND_O o, ASCEND_END) PLAN(X, S(a), S(b), S(c), O(o))
#define MAKE_tyo(X) ONE(X)(ASCEND_T a, const aclDataType y, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(y), O(o))
#define MAKE_tao(X) ONE(X)(ASCEND_T a, ASCEND_A l, ASCEND_O o, ASCEND_END) PLAN(X, T(a), A(l), O(o))
#define MAKE_tio(X) ONE(X)(ASCEND_T a, int64_t i, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(i), O(o))
#define MAKE_tiyo(X)                                                                                                   \
    ONE(X)(ASCEND_T a, int64_t i, aclDataType y, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(i), I(y), O(o))
#define MAKE_tito(X) ONE(X)(ASCEND_T a, int64_t i, ASCEND_T b, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(i), T(b), O(o))
#define MAKE_tittso(X)                                                                                                 \
    ONE(X)(ASCEND_T a, int64_t i, ASCEND_T b, ASCEND_T c, ASCEND_S s, ASCEND_O o, ASCEND_END)                          \
    PLAN(X, T(a), I(i), T(b), T(c), S(s), O(o))
#define MAKE_ttno(X) ONE(X)(ASCEND_T a, ASCEND_T b, int n, ASCEND_O o, ASCEND_END) PLAN(X, T(a), T(b), I(n), O(o))
#define MAKE_tibo(X) ONE(X)(ASCEND_T a, int64_t i, bool k, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(i), I(k), O(o))
#define MAKE_tibyo(X)                                                                                                  \
    ONE(X)(ASCEND_T a, int64_t i, bool k, aclDataType y, ASCEND_O o, ASCEND_END) PLAN(X, T(a), I(i), I(k), I(y), O(o))
#define MAKE_tabo(X) ONE(X)(ASCEND_T a, ASCEND_A l, bool k, ASCEND_O o, ASCEND_END) PLAN(X, T(a), A(l), I(k), O(o))
#define MAKE_tabyo(X)                                                                                                  \
    ONE(X)(ASCEND_T a, ASCEND_A l, bool k, aclDataType y, ASCEND_O o, ASCEND_END) PLAN(X, T(a), A(l), I(k), I(y), O(o))
#define MAKE_tbiboo(X)                                                                                                 \
    ONE(X)(ASCEND_T a, bool s, int64_t i, bool d, ASCEND_O o, ASCEND_O p, ASCEND_END)                                  \
    PLAN(X, T(a), I(s), I(i), I(d), O(o), O(p))
#define MAKE_r(X) ONE(X)(ASCEND_O r, ASCEND_END) PLAN(X, R(r))
#define MAKE_rt(X) ONE(X)(ASCEND_O r, ASCEND_T a, ASCEND_END) PLAN(X, R(r), T(a))
#define MAKE_ritt(X) ONE(X)(ASCEND_O r, int64_t i, ASCEND_T a, ASCEND_T b, ASCEND_END) PLAN(X, R(r), I(i), T(a), T(b))
#define MAKE_rtti(X) ONE(X)(ASCEND_O r, ASCEND_T a, ASCEND_T b, int64_t i, ASCEND_END) PLAN(X, R(r), T(a), T(b), I(i))
#define MAKE_ttoc(X) ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_O o, int8_t c, ASCEND_END) PLAN(X, T(a), T(b), O(o), I(c))
#define MAKE_tttssoc(X)                                                                                                \
    ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_T c, ASCEND_S s, ASCEND_S r, ASCEND_O o, int8_t m, ASCEND_END)               \
    PLAN(X, T(a), T(b), T(c), S(s), S(r), O(o), I(m))
#define MAKE_ttdoo(X)                                                                                                  \
    ONE(X)(ASCEND_T a, ASCEND_T b, double d, ASCEND_O o, ASCEND_O p, ASCEND_END) PLAN(X, T(a), T(b), D(d), O(o), O(p))
#define MAKE_ttttoo(X)                                                                                                 \
    ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_T c, ASCEND_T d, ASCEND_O o, ASCEND_O p, ASCEND_END)                         \
    PLAN(X, T(a), T(b), T(c), T(d), O(o), O(p))
#define MAKE_tattdooo(X)                                                                                               \
    ONE(X)(ASCEND_T a, ASCEND_A l, ASCEND_T b, ASCEND_T c, double d, ASCEND_O o, ASCEND_O p, ASCEND_O q, ASCEND_END)   \
    PLAN(X, T(a), A(l), T(b), T(c), D(d), O(o), O(p), O(q))
#define MAKE_tttio(X)                                                                                                  \
    ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_T c, int64_t i, ASCEND_O o, ASCEND_END) PLAN(X, T(a), T(b), T(c), I(i), O(o))
#define MAKE_tttttttno(X)                                                                                              \
    ONE(X)(ASCEND_T a, ASCEND_T b, ASCEND_T c, ASCEND_T d, ASCEND_T e, ASCEND_T f, ASCEND_T g, int n, ASCEND_O o,      \
           ASCEND_END)                                                                                                 \
    PLAN(X, T(a), T(b), T(c), T(d), T(e), T(f), T(g), I(n), O(o))
#define MAKE_rrrrttfffffbb(X)                                                                                          \
    ONE(X)(ASCEND_O p, ASCEND_O m, ASCEND_O v, ASCEND_O x, ASCEND_T g, ASCEND_T t, float lr, float b1, float b2,       \
           float wd, float eps, bool amsgrad, bool maximize, ASCEND_END)                                               \
    PLAN(X, R(p), R(m), R(v), R(x), T(g), T(t), D(lr), D(b1), D(b2), D(wd), D(eps), I(amsgrad), I(maximize))
#define MAKE_flash(X)                                                                                                  \
    ONE(X)(ASCEND_T q, ASCEND_T k, ASCEND_T v, ASCEND_T shift, ASCEND_T drop, ASCEND_T pad, ASCEND_T mask,             \
           ASCEND_A prefix, double scale, double keep, int64_t pre, int64_t next, int64_t heads, char *layout,         \
           int64_t precise, int64_t sparse, ASCEND_O most, ASCEND_O sum, ASCEND_O soft, ASCEND_O o, ASCEND_END)        \
    PLAN(X, T(q), T(k), T(v), T(shift), T(drop), T(pad), T(mask), A(prefix), D(scale), D(keep), I(pre), I(next),       \
         I(heads), P(layout), I(precise), I(sparse), O(most), O(sum), O(soft), O(o))
#define MAKE_infer(X)                                                                                                  \
    ONE(X)(ASCEND_T q, ASCEND_L k, ASCEND_L v, ASCEND_T shift, ASCEND_T mask, ASCEND_A lengths, ASCEND_A kv_lengths,   \
           ASCEND_T a, ASCEND_T b, ASCEND_T c, ASCEND_T d, ASCEND_T e, ASCEND_T f, ASCEND_T g, ASCEND_T h, ASCEND_T i, \
           ASCEND_T j, ASCEND_T l, ASCEND_T m, ASCEND_T n, ASCEND_T p, ASCEND_T r, ASCEND_T s, ASCEND_A prefix,        \
           int64_t heads, double scale, int64_t pre, int64_t next, char *layout, int64_t kv_heads, int64_t sparse,     \
           int64_t precise, int64_t block, int64_t anti, bool lse_wanted, int64_t anti_k, int64_t anti_v, ASCEND_O o,  \
           ASCEND_O lse, ASCEND_END)                                                                                   \
    PLAN(X, T(q), L(k), L(v), T(shift), T(mask), A(lengths), A(kv_lengths), T(a), T(b), T(c), T(d), T(e), T(f), T(g),  \
         T(h), T(i), T(j), T(l), T(m), T(n), T(p), T(r), T(s), A(prefix), I(heads), D(scale), I(pre), I(next),         \
         P(layout), I(kv_heads), I(sparse), I(precise), I(block), I(anti), I(lse_wanted), I(anti_k), I(anti_v), O(o),  \
         O(lse))

#define BOTH(X, signature)                                                                                             \
    MAKE_##signature(X) EXPORTED aclnnStatus aclnn##X(void *workspace, uint64_t size, aclOpExecutor *executor,         \
                                                      aclrtStream stream) {                                            \
        return fake_launch(ASCEND_##X, workspace, size, executor, stream);                                             \
    }
ASCEND_OPS(BOTH)
