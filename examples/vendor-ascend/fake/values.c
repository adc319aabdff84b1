/* Elements of tensors as doubles, and back. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool fake_is_float(int type) { return type == ASCEND_FLOAT || type == ASCEND_FLOAT16 || type == ASCEND_BF16; }

int64_t fake_count_of(const aclTensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dims[i];
    return n;
}

bool fake_is_dense(const aclTensor *t) {
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dims[i] != 1 && t->strides[i] != step) return false;
        step *= t->dims[i];
    }
    return true;
}

/* To the nearest number with so many bits of fraction, ties to even. */
static double nearest(double value, int fraction, int least, double most) {
    if (value == 0 || isnan(value) || isinf(value)) return value;
    int exponent;
    frexp(value, &exponent);
    exponent -= 1;
    if (exponent < least) exponent = least;
    double unit = ldexp(1.0, exponent - fraction), rounded = nearbyint(value / unit) * unit;
    return fabs(rounded) > most ? copysign(INFINITY, value) : rounded;
}

double fake_round(int type, double value) {
    switch (type) {
    case ASCEND_FLOAT:
        return (float)value;
    case ASCEND_FLOAT16:
        return nearest(value, 10, -14, 65504.0);
    case ASCEND_BF16:
        return nearest(value, 7, -126, 0x1.fep127);
    default:
        return value;
    }
}

static double read_element(const aclTensor *t, int64_t at) {
    const uint8_t *p = t->data;
    switch (t->type) {
    case ASCEND_FLOAT: {
        float v;
        memcpy(&v, p + at * 4, 4);
        return v;
    }
    case ASCEND_FLOAT16: {
        uint16_t h;
        memcpy(&h, p + at * 2, 2);
        int exponent = h >> 10 & 31, fraction = h & 1023;
        double v = exponent == 31 ? (fraction ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                  : ldexp(fraction, -24);
        return h & 0x8000 ? -v : v;
    }
    case ASCEND_BF16: {
        uint16_t h;
        memcpy(&h, p + at * 2, 2);
        uint32_t bits = (uint32_t)h << 16;
        float v;
        memcpy(&v, &bits, 4);
        return v;
    }
    case ASCEND_INT32: {
        int32_t v;
        memcpy(&v, p + at * 4, 4);
        return v;
    }
    case ASCEND_INT64: {
        int64_t v;
        memcpy(&v, p + at * 8, 8);
        return (double)v;
    }
    case ASCEND_INT8:
        return (int8_t)p[at];
    case ASCEND_INT4: {
        int nibble = p[at / 2] >> (at % 2 * 4) & 15;
        return nibble > 7 ? nibble - 16 : nibble;
    }
    case ASCEND_BOOL:
        if (p[at] > 1) fake_rule("a bool is 0 or 1", "a byte of one is %d", p[at]);
        return p[at];
    default:
        return p[at];
    }
}

static void write_element(const aclTensor *t, int64_t at, double value) {
    uint8_t *p = t->data;
    value = fake_round(t->type, value);
    switch (t->type) {
    case ASCEND_FLOAT: {
        float v = (float)value;
        memcpy(p + at * 4, &v, 4);
        return;
    }
    case ASCEND_FLOAT16: {
        uint16_t h = signbit(value) ? 0x8000 : 0;
        double v = fabs(value);
        int exponent;
        if (isnan(v))
            h |= 0x7e00;
        else if (isinf(v))
            h |= 0x7c00;
        else if (v < 0x1p-14)
            h |= (uint16_t)ldexp(v, 24);
        else {
            double mantissa = frexp(v, &exponent);
            h |= (uint16_t)((exponent + 14) << 10 | ((int)ldexp(mantissa, 11) & 1023));
        }
        memcpy(p + at * 2, &h, 2);
        return;
    }
    case ASCEND_BF16: {
        float v = (float)value;
        uint32_t bits;
        memcpy(&bits, &v, 4);
        uint16_t h = isnan(v) ? 0x7fc0 : (uint16_t)(bits >> 16);
        memcpy(p + at * 2, &h, 2);
        return;
    }
    case ASCEND_INT32: {
        int32_t v = (int32_t)(int64_t)value;
        memcpy(p + at * 4, &v, 4);
        return;
    }
    case ASCEND_INT64: {
        int64_t v = (int64_t)value;
        memcpy(p + at * 8, &v, 8);
        return;
    }
    default:
        p[at] = (uint8_t)(int64_t)value;
    }
}

/* Walks elements in row-major order under strides of one's choice. */
static void walk(int rank, const int64_t *dims, const int64_t *strides, int64_t start,
                 void (*visit)(void *to, int64_t n, int64_t at), void *to) {
    int64_t index[FAKE_RANK] = {0}, at = start, count = 1;
    for (int i = 0; i < rank; i++)
        count *= dims[i];
    for (int64_t n = 0; n < count; n++) {
        visit(to, n, at);
        for (int i = rank - 1; i >= 0; i--) {
            at += strides[i];
            if (++index[i] < dims[i]) break;
            at -= dims[i] * strides[i];
            index[i] = 0;
        }
    }
}

typedef struct reading {
    const aclTensor *tensor;
    double *values;
} reading;

static void read_visit(void *to, int64_t n, int64_t at) {
    reading *r = to;
    r->values[n] = read_element(r->tensor, at);
}

static void write_visit(void *to, int64_t n, int64_t at) {
    reading *r = to;
    write_element(r->tensor, at, r->values[n]);
}

double *fake_load_as(const aclTensor *t, int rank, const int64_t *dims) {
    int64_t strides[FAKE_RANK] = {0}, count = 1;
    for (int i = 0; i < rank; i++) {
        int own = i - (rank - t->rank);
        count *= dims[i];
        if (own >= 0 && t->dims[own] == dims[i]) strides[i] = t->strides[own];
    }
    reading r = {t, malloc((size_t)(count ? count : 1) * sizeof(double))};
    walk(rank, dims, strides, t->offset, read_visit, &r);
    return r.values;
}

double *fake_load(const aclTensor *t) { return fake_load_as(t, t->rank, t->dims); }

void fake_store(const aclTensor *t, const double *values) {
    reading r = {t, (double *)values};
    walk(t->rank, t->dims, t->strides, t->offset, write_visit, &r);
}
