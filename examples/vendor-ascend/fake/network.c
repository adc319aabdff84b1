/* Products, norms, activations, rotary embedding, and the optimizer. Sums are kept in doubles. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>

static double *room(int64_t n) { return calloc((size_t)n + 1, sizeof(double)); }

/* to[g,m,n] += x[g,m,k] w[g,k,n] */
static void multiply(double *to, const double *x, const double *w, int64_t g, int64_t m, int64_t k, int64_t n) {
    for (int64_t b = 0; b < g; b++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t p = 0; p < k; p++) {
                double left = x[(b * m + i) * k + p];
                const double *row = w + (b * k + p) * n;
                for (int64_t j = 0; j < n; j++)
                    to[(b * m + i) * n + j] += left * row[j];
            }
}

static void product(enum ascend_op op, const argument *a) {
    bool add = op == ASCEND_Addmm;
    const aclTensor *x = &a[add ? 1 : 0].seen, *w = &a[add ? 2 : 1].seen, *y = &a[add ? 5 : 2].seen;
    int r = x->rank;
    int64_t g = r == 3 ? x->dims[0] : 1, m = x->dims[r - 2], k = x->dims[r - 1], n = w->dims[r - 1];
    double *left = fake_load(x), *right = fake_load(w), *sum = room(g * m * n);
    multiply(sum, left, right, g, m, k, n);
    if (add) {
        double *bias = fake_load_as(&a[0].seen, y->rank, y->dims);
        for (int64_t i = 0; i < m * n; i++)
            sum[i] = a[3].real * bias[i] + a[4].real * sum[i];
        free(bias);
    }
    fake_store(y, sum);
    free(left);
    free(right);
    free(sum);
}

/* A weight is (q + offset) * scale, by groups along k. */
static void fused_weights(const argument *a) {
    const aclTensor *x = &a[0].seen, *w = &a[1].seen, *y = &a[8].seen;
    int64_t m = x->dims[0], k = x->dims[1], n = w->dims[1], group = a[7].whole ? a[7].whole : k;
    double *left = fake_load(x), *q = fake_load(w), *scale = fake_load(&a[2].seen), *sum = room(m * n);
    double *offset = a[3].null ? NULL : fake_load(&a[3].seen);
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) {
            int64_t s = p / group * n + j;
            q[p * n + j] = (q[p * n + j] + (offset ? offset[s] : 0)) * scale[s];
        }
    multiply(sum, left, q, 1, m, k, n);
    fake_store(y, sum);
    free(left);
    free(q);
    free(scale);
    free(offset);
    free(sum);
}

static void softmax(const argument *a, bool logarithm) {
    const aclTensor *x = &a[0].seen;
    int64_t d = x->dims[x->rank - 1], rows = d ? fake_count_of(x) / d : 0;
    if (a[1].whole != -1 && a[1].whole != x->rank - 1) fake_rule("the stand-in is whole", "softmax along another axis");
    double *v = fake_load(x);
    for (int64_t r = 0; r < rows; r++) {
        double *row = v + r * d, most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < d; i++)
            most = row[i] > most || isnan(row[i]) ? row[i] : most;
        for (int64_t i = 0; i < d; i++)
            sum += exp(row[i] - most);
        for (int64_t i = 0; i < d; i++)
            row[i] = logarithm ? row[i] - most - log(sum) : exp(row[i] - most) / sum;
    }
    fake_store(&a[2].seen, v);
    free(v);
}

static void gelu(const argument *a) {
    double *v = fake_load(&a[0].seen);
    int64_t n = fake_count_of(&a[0].seen);
    for (int64_t i = 0; i < n; i++) {
        double x = v[i],
               inner = a[1].whole ? tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)) : erf(x / sqrt(2.0));
        v[i] = x / 2 * (1 + inner);
    }
    fake_store(&a[2].seen, v);
    free(v);
}

static void swi_glu(const argument *a) {
    const aclTensor *x = &a[0].seen;
    if (a[1].whole != -1 && a[1].whole != x->rank - 1) fake_rule("the stand-in is whole", "SwiGlu along another axis");
    int64_t d = x->dims[x->rank - 1], half = d / 2, rows = d ? fake_count_of(x) / d : 0;
    double *v = fake_load(x), *y = room(rows * half);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < half; i++) {
            double g = v[r * d + i];
            y[r * half + i] = g / (1 + exp(-g)) * v[r * d + half + i];
        }
    fake_store(&a[2].seen, y);
    free(v);
    free(y);
}

static void rms_norm(const argument *a) {
    const aclTensor *x = &a[0].seen;
    int64_t d = fake_count_of(&a[1].seen), rows = d ? fake_count_of(x) / d : 0;
    double *v = fake_load(x), *w = fake_load(&a[1].seen), *rstd = room(rows);
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += v[r * d + i] * v[r * d + i];
        rstd[r] = 1 / sqrt(sum / (double)d + a[2].real);
        for (int64_t i = 0; i < d; i++)
            v[r * d + i] *= rstd[r] * w[i];
    }
    fake_store(&a[3].seen, v);
    fake_store(&a[4].seen, rstd);
    free(v);
    free(w);
    free(rstd);
}

static void rms_norm_grad(const argument *a) {
    const aclTensor *x = &a[1].seen;
    int64_t d = fake_count_of(&a[3].seen), rows = d ? fake_count_of(x) / d : 0;
    double *dy = fake_load(&a[0].seen), *v = fake_load(x), *rstd = fake_load(&a[2].seen), *w = fake_load(&a[3].seen);
    double *dw = room(d);
    for (int64_t r = 0; r < rows; r++) {
        double dot = 0;
        for (int64_t i = 0; i < d; i++)
            dot += dy[r * d + i] * w[i] * v[r * d + i];
        for (int64_t i = 0; i < d; i++) {
            double g = dy[r * d + i] * w[i], x_i = v[r * d + i];
            dw[i] += dy[r * d + i] * x_i * rstd[r];
            v[r * d + i] = rstd[r] * g - rstd[r] * rstd[r] * rstd[r] * x_i * dot / (double)d;
        }
    }
    fake_store(&a[4].seen, v);
    fake_store(&a[5].seen, dw);
    free(dy);
    free(v);
    free(rstd);
    free(w);
    free(dw);
}

static void layer_norm(const argument *a) {
    const aclTensor *x = &a[0].seen;
    int64_t d = a[1].array.values[0], rows = d ? fake_count_of(x) / d : 0;
    double *v = fake_load(x), *w = fake_load(&a[2].seen), *b = fake_load(&a[3].seen), *mean = room(rows),
           *rstd = room(rows);
    for (int64_t r = 0; r < rows; r++) {
        double *row = v + r * d, square = 0;
        for (int64_t i = 0; i < d; i++)
            mean[r] += row[i] / (double)d;
        for (int64_t i = 0; i < d; i++)
            square += (row[i] - mean[r]) * (row[i] - mean[r]);
        rstd[r] = 1 / sqrt(square / (double)d + a[4].real);
        for (int64_t i = 0; i < d; i++)
            row[i] = (row[i] - mean[r]) * rstd[r] * w[i] + b[i];
    }
    fake_store(&a[5].seen, v);
    fake_store(&a[6].seen, mean);
    fake_store(&a[7].seen, rstd);
    free(v);
    free(w);
    free(b);
    free(mean);
    free(rstd);
}

/* Mode 0 turns halves, 1 neighbours: y = x cos + turned(x) sin. */
static void rotary(const argument *a) {
    const aclTensor *x = &a[0].seen;
    int64_t d = x->dims[3], n = fake_count_of(x), half = d / 2;
    double *v = fake_load(x), *c = fake_load_as(&a[1].seen, 4, x->dims), *s = fake_load_as(&a[2].seen, 4, x->dims);
    double *y = room(n);
    if (a[3].whole > 1) fake_rule("the stand-in is whole", "rotary mode %d", (int)a[3].whole);
    for (int64_t i = 0; i < n; i++) {
        int64_t e = i % d, row = i - e;
        double turned = a[3].whole ? (e % 2 ? v[i - 1] : -v[i + 1]) : e < half ? -v[row + e + half] : v[row + e - half];
        y[i] = v[i] * c[i] + turned * s[i];
    }
    fake_store(&a[4].seen, y);
    free(v);
    free(c);
    free(s);
    free(y);
}

static void adam_w(const argument *a) {
    int64_t n = fake_count_of(&a[0].seen);
    double *p = fake_load(&a[0].seen), *m = fake_load(&a[1].seen), *v = fake_load(&a[2].seen),
           *g = fake_load(&a[4].seen);
    double *step = fake_load(&a[5].seen), lr = a[6].real, b1 = a[7].real, b2 = a[8].real;
    for (int64_t i = 0; i < n; i++) {
        double grad = a[12].whole ? -g[i] : g[i];
        m[i] = b1 * m[i] + (1 - b1) * grad;
        v[i] = b2 * v[i] + (1 - b2) * grad * grad;
        double direction = m[i] / (1 - pow(b1, step[0])) / (sqrt(v[i] / (1 - pow(b2, step[0]))) + a[10].real);
        p[i] = p[i] - lr * direction - lr * a[9].real * p[i];
    }
    fake_store(&a[0].seen, p);
    fake_store(&a[1].seen, m);
    fake_store(&a[2].seen, v);
    free(p);
    free(m);
    free(v);
    free(g);
    free(step);
}

bool fake_network(enum ascend_op op, const argument *a) {
    switch (op) {
    case ASCEND_Mm:
    case ASCEND_BatchMatMul:
    case ASCEND_Addmm:
        product(op, a);
        return true;
    case ASCEND_WeightQuantBatchMatmulV2:
        fused_weights(a);
        return true;
    case ASCEND_Softmax:
    case ASCEND_LogSoftmax:
        softmax(a, op == ASCEND_LogSoftmax);
        return true;
    case ASCEND_GeluV2:
        gelu(a);
        return true;
    case ASCEND_SwiGlu:
        swi_glu(a);
        return true;
    case ASCEND_RmsNorm:
        rms_norm(a);
        return true;
    case ASCEND_RmsNormGrad:
        rms_norm_grad(a);
        return true;
    case ASCEND_LayerNorm:
        layer_norm(a);
        return true;
    case ASCEND_RotaryPositionEmbedding:
        rotary(a);
        return true;
    case ASCEND_ApplyAdamWV2:
        adam_w(a);
        return true;
    default:
        return false;
    }
}
