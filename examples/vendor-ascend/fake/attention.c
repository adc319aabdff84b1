/* Fused attention. A mask of 1 hides the key. A row that is hidden as a whole gives what nobody should use. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>

enum { GARBAGE = 12345 };

typedef struct problem {
    const aclTensor *q, *k, *v, *mask;
    double scale;
    bool zeros; /* for rows that see nothing */
} problem;

/* Gives the result, and for each row the greatest score and the sum of exponentials. */
static double *attend(const problem *p, double *most, double *sum) {
    int64_t b = p->q->dims[0], h = p->q->dims[1], t = p->q->dims[2], d = p->q->dims[3];
    int64_t hk = p->k->dims[1], s = p->k->dims[2], e = p->v->dims[3];
    double *q = fake_load(p->q), *k = fake_load(p->k), *v = fake_load(p->v);
    double *out = calloc((size_t)(b * h * t * e) + 1, sizeof *out), *scores = malloc((size_t)(s + 1) * sizeof *scores);
    const int64_t dims[4] = {b, 1, t, s};
    double *hidden = p->mask ? fake_load_as(p->mask, 4, dims) : NULL;
    for (int64_t r = 0; r < b * h * t; r++) {
        int64_t batch = r / (h * t), head = r / t % h, i = r % t, group = batch * hk + head / (h / hk);
        most[r] = -INFINITY;
        sum[r] = 0;
        for (int64_t j = 0; j < s; j++) {
            double dot = 0;
            for (int64_t c = 0; c < d; c++)
                dot += q[r * d + c] * k[(group * s + j) * d + c];
            bool is_hidden = hidden && hidden[(batch * t + i) * s + j] != 0;
            scores[j] = is_hidden ? -INFINITY : dot * p->scale;
            if (scores[j] > most[r]) most[r] = scores[j];
        }
        bool nothing = isinf(most[r]) && most[r] < 0;
        for (int64_t j = 0; j < s && !nothing; j++) {
            double weight = exp(scores[j] - most[r]);
            sum[r] += weight;
            for (int64_t c = 0; c < e; c++)
                out[r * e + c] += weight * v[(group * s + j) * e + c];
        }
        for (int64_t c = 0; c < e; c++)
            out[r * e + c] = nothing ? (p->zeros ? 0 : GARBAGE) : out[r * e + c] / sum[r];
    }
    free(q);
    free(k);
    free(v);
    free(scores);
    free(hidden);
    return out;
}

bool fake_attention(enum ascend_op op, const argument *a) {
    bool infer = op == ASCEND_FusedInferAttentionScoreV2;
    if (!infer && op != ASCEND_FlashAttentionScore) return false;
    const argument *mask = &a[infer ? 4 : 6];
    problem p = {&a[0].seen,
                 &a[1].seen,
                 &a[2].seen,
                 mask->null ? NULL : &mask->seen,
                 a[infer ? 25 : 8].real,
                 infer && a[31].whole == 2};
    int64_t rows = p.q->dims[0] * p.q->dims[1] * p.q->dims[2];
    double *most = malloc((size_t)(rows + 1) * sizeof *most), *sum = malloc((size_t)(rows + 1) * sizeof *sum);
    double *out = attend(&p, most, sum);
    if (infer) {
        fake_store(&a[37].seen, out);
        if (a[34].whole) {
            /* Documented: infinity where nothing is seen. */
            for (int64_t r = 0; r < rows; r++)
                most[r] = sum[r] == 0 ? INFINITY : most[r] + log(sum[r]);
            fake_store(&a[38].seen, most);
        }
    } else {
        const aclTensor *to[2] = {&a[16].seen, &a[17].seen};
        double *eight = malloc((size_t)(rows * 8 + 1) * sizeof *eight);
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < rows * 8; i++)
                eight[i] = sum[i / 8] == 0 ? GARBAGE : side ? sum[i / 8] : most[i / 8];
            fake_store(to[side], eight);
        }
        fake_store(&a[19].seen, out);
        free(eight);
    }
    free(most);
    free(sum);
    free(out);
    return true;
}
