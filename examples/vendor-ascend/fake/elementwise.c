/* Elementwise operations, with operands repeated to the result. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>

static double sign_of(double x) { return isnan(x) ? x : x > 0 ? 1 : x < 0 ? -1 : x; }

static double unary(enum ascend_op op, double x) {
    switch (op) {
    case ASCEND_Neg: return -x;
    case ASCEND_Abs: return fabs(x);
    case ASCEND_Sign: return sign_of(x);
    case ASCEND_Exp: return exp(x);
    case ASCEND_Expm1: return expm1(x);
    case ASCEND_Log: return log(x);
    case ASCEND_Log1p: return log1p(x);
    case ASCEND_Sqrt: return sqrt(x);
    case ASCEND_Rsqrt: return 1 / sqrt(x);
    case ASCEND_Sin: return sin(x);
    case ASCEND_Cos: return cos(x);
    case ASCEND_Tanh: return tanh(x);
    case ASCEND_Erf: return erf(x);
    case ASCEND_Sigmoid: return 1 / (1 + exp(-x));
    case ASCEND_Floor: return floor(x);
    case ASCEND_Ceil: return ceil(x);
    case ASCEND_Round: return nearbyint(x);
    case ASCEND_LogicalNot: return x == 0;
    case ASCEND_BitwiseNot: return (double)~(int64_t)x;
    case ASCEND_IsFinite: return isfinite(x) != 0;
    case ASCEND_Silu: return x / (1 + exp(-x));
    default: return x > 0 || isnan(x) ? x : 0;
    }
}

static double binary(enum ascend_op op, double x, double y, bool whole) {
    int64_t i = whole ? (int64_t)x : 0, j = whole ? (int64_t)y : 0;
    switch (op) {
    case ASCEND_Mul: return whole ? (double)(int32_t)(uint32_t)((uint64_t)i * (uint64_t)j) : x * y;
    case ASCEND_Div: return x / y;
    case ASCEND_Maximum: return isnan(x) || isnan(y) ? NAN : x > y ? x : y;
    case ASCEND_Minimum: return isnan(x) || isnan(y) ? NAN : x < y ? x : y;
    case ASCEND_PowTensorTensor: return pow(x, y);
    case ASCEND_FmodTensor: return fmod(x, y);
    case ASCEND_LogicalAnd: return x != 0 && y != 0;
    case ASCEND_LogicalOr: return x != 0 || y != 0;
    case ASCEND_LogicalXor: return (x != 0) != (y != 0);
    case ASCEND_BitwiseAndTensor: return (double)(i & j);
    case ASCEND_BitwiseOrTensor: return (double)(i | j);
    case ASCEND_BitwiseXorTensor: return (double)(i ^ j);
    case ASCEND_EqTensor: return x == y;
    case ASCEND_NeTensor: return x != y;
    case ASCEND_LtTensor: return x < y;
    case ASCEND_LeTensor: return x <= y;
    case ASCEND_GtTensor: return x > y;
    default: return x >= y;
    }
}

/* To a whole number as a cast does: cut off, limited, and 0 of no number. */
static double cut(double x, double low, double high) {
    return isnan(x) ? 0 : trunc(x < low ? low : x > high ? high : x);
}

static double cast(double x, int from, int to) {
    if (to == ASCEND_BOOL) return x != 0;
    if (!fake_is_float(from) || fake_is_float(to)) return x;
    switch (to) {
    case ASCEND_INT32: return cut(x, INT32_MIN, INT32_MAX);
    case ASCEND_INT64: return cut(x, -0x1p62, 0x1p62);
    case ASCEND_INT8: return cut(x, -128, 127);
    default: return cut(x, 0, 255);
    }
}

static bool is_unary(enum ascend_op op) { return op <= ASCEND_Relu; }
static bool is_binary(enum ascend_op op) { return op >= ASCEND_Mul && op <= ASCEND_GeTensor; }

bool fake_elementwise(enum ascend_op op, const argument *a, int count) {
    bool others = op == ASCEND_Add || op == ASCEND_Sub || op == ASCEND_Muls || op == ASCEND_Adds ||
                  op == ASCEND_Clamp || op == ASCEND_SWhere || op == ASCEND_Cast || op == ASCEND_DivMod;
    if (!is_unary(op) && !is_binary(op) && !others) return false;
    const aclTensor *to = &a[count - 1].seen, *from = &a[0].seen;
    int64_t n = fake_count_of(to);
    bool two = is_binary(op) || op == ASCEND_Add || op == ASCEND_Sub || op == ASCEND_SWhere || op == ASCEND_DivMod;
    bool whole = !fake_is_float(from->type);
    double *x = fake_load_as(from, to->rank, to->dims);
    double *y = two ? fake_load_as(&a[1].seen, to->rank, to->dims) : NULL;
    double *z = op == ASCEND_SWhere ? fake_load_as(&a[2].seen, to->rank, to->dims) : NULL;
    for (int64_t i = 0; i < n; i++) {
        double v = x[i];
        if (is_unary(op))
            v = unary(op, v);
        else if (is_binary(op))
            v = binary(op, v, y[i], whole);
        else if (op == ASCEND_Add)
            v = v + a[2].real * y[i];
        else if (op == ASCEND_DivMod) {
            if (y[i] == 0 || a[2].whole != 1) fake_rule("division", "by zero, or rounded otherwise than towards it");
            v = trunc(v / y[i]);
        } else if (op == ASCEND_Sub)
            v = v - a[2].real * y[i];
        else if (op == ASCEND_Muls)
            v = v * a[1].real;
        else if (op == ASCEND_Adds)
            v = v + a[2].real * a[1].real;
        else if (op == ASCEND_Clamp)
            v = v < a[1].real ? a[1].real : v > a[2].real ? a[2].real : v;
        else if (op == ASCEND_SWhere)
            v = v != 0 ? y[i] : z[i];
        else
            v = cast(v, from->type, to->type);
        x[i] = v;
    }
    fake_store(to, x);
    free(x);
    free(y);
    free(z);
    return true;
}
