/* Repacks quantized weights: from blocks, row after row, to whole numbers beside scales and minima. */
#include "plugin.h"

typedef struct format {
    uint32_t dtype;
    int64_t weights, bytes; /* of a block */
    int64_t group;          /* weights that share a scale */
    bool minima, nibbles;
} format;

static const format formats[] = {
    {PERCEPT_Q8_0, 32, 34, 32, false, false},   {PERCEPT_Q4_0, 32, 18, 32, false, true},
    {PERCEPT_Q4_1, 32, 20, 32, true, true},     {PERCEPT_Q4_K, 256, 144, 32, true, false},
    {PERCEPT_Q6_K, 256, 210, 16, false, false}, {PERCEPT_Q8_X, 32, 48, 16, true, false},
};

static const format *format_of(uint32_t dtype) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].dtype == dtype) return &formats[i];
    return NULL;
}

static uint64_t aligned(uint64_t bytes) { return (bytes + 511) / 512 * 512; }

bool weight_layout(const percept_tensor *tensor, int layout, weight_shape *shape) {
    const format *f = format_of(tensor->dtype);
    if (!f || tensor->rank != 2) return false;
    bool fused = layout == LAYOUT_FUSED;
    /* Scales of the fused product are 16-bit floats, which those of three formats are. */
    if (fused && f->weights != 32) return false;
    if (fused && f->group != 32) return false;
    uint64_t n = (uint64_t)tensor->dims[0], k = (uint64_t)tensor->dims[1], groups = n * (k / (uint64_t)f->group);
    *shape = (weight_shape){.rows = tensor->dims[0], .columns = tensor->dims[1], .group = f->group};
    shape->minima = f->minima;
    shape->nibbles = fused && f->nibbles;
    shape->scales = aligned(shape->nibbles ? n * k / 2 : n * k);
    shape->offsets = shape->scales + aligned(groups * (fused ? 2 : 4));
    shape->bytes = shape->offsets + (f->minima ? aligned(groups * (fused ? 2 : 4)) : 0);
    return true;
}

static uint16_t half_bits(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }

static float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023, bits;
    if (exponent == 31)
        bits = sign | 0x7f800000u | fraction << 13;
    else if (exponent)
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    else {
        float small = (float)fraction * 0x1p-24f;
        return sign ? -small : small;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To nearest, ties to even. */
static uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffffu;
    if (bits >= 0x477ff000u) return (uint16_t)(sign | (bits > 0x7f800000u ? 0x7e00 : 0x7c00));
    if (bits < 0x38800000u) {
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f; /* aligns the last bit with 2^-24 */
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfff + (bits >> 13 & 1) - 0x38000000u;
    return (uint16_t)(sign | bits >> 13);
}

static float float_at(const uint8_t *at) {
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The six-bit scale and minimum of group j of a Q4_K block, as ggml packs them. */
static void scale_of_q4_k(const uint8_t *s, int j, int *scale, int *minimum) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

/* The whole numbers of a block, and what they are multiplied with and then added to, by group. */
static void unpack(uint32_t dtype, const uint8_t *block, int8_t *q, float *scale, float *minimum) {
    switch (dtype) {
    case PERCEPT_Q8_0:
        *scale = from_half(half_bits(block));
        memcpy(q, block + 2, 32);
        break;
    case PERCEPT_Q4_0:
    case PERCEPT_Q4_1: {
        bool low = dtype == PERCEPT_Q4_1;
        *scale = from_half(half_bits(block));
        if (low) *minimum = from_half(half_bits(block + 2));
        const uint8_t *nibbles = block + (low ? 4 : 2);
        for (int i = 0; i < 16; i++) {
            q[i] = (int8_t)((nibbles[i] & 15) - (low ? 0 : 8));
            q[i + 16] = (int8_t)((nibbles[i] >> 4) - (low ? 0 : 8));
        }
        break;
    }
    case PERCEPT_Q4_K: {
        float d = from_half(half_bits(block)), least = from_half(half_bits(block + 2));
        for (int j = 0; j < 8; j++) {
            int s, m;
            scale_of_q4_k(block + 4, j, &s, &m);
            scale[j] = d * (float)s;
            minimum[j] = -least * (float)m;
            const uint8_t *nibbles = block + 16 + j / 2 * 32;
            for (int i = 0; i < 32; i++)
                q[j * 32 + i] = (int8_t)(j % 2 ? nibbles[i] >> 4 : nibbles[i] & 15);
        }
        break;
    }
    case PERCEPT_Q6_K: {
        const uint8_t *low = block, *high = block + 128;
        const int8_t *scales = (const int8_t *)block + 192;
        float d = from_half(half_bits(block + 208));
        for (int i = 0; i < 256; i++) {
            int half = i / 128, quarter = i % 128 / 32, at = i % 32;
            int four = low[half * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
            int two = high[half * 32 + at] >> (quarter * 2) & 3;
            q[i] = (int8_t)((four | two << 4) - 32);
        }
        for (int g = 0; g < 16; g++)
            scale[g] = d * (float)scales[g];
        break;
    }
    default: /* Q8_X */
        for (int g = 0; g < 2; g++) {
            scale[g] = float_at(block + 4 * g);
            minimum[g] = float_at(block + 8 + 4 * g);
        }
        memcpy(q, block + 16, 32);
        break;
    }
}

/* A group for the fused product, where a weight is (q + offset) * scale. */
static void put_fused(const weight_shape *shape, uint8_t *packed, uint64_t group, const int8_t *q, float scale,
                      float minimum) {
    int8_t shifted[32];
    float offset = 0.0f;
    memcpy(shifted, q, sizeof shifted);
    if (shape->minima) {
        /* Nibbles 0 .. 15 become -8 .. 7. A group of one value has no scale: it is one unit of its minimum. */
        for (int i = 0; i < 32; i++)
            shifted[i] = (int8_t)(scale == 0.0f ? 0 : q[i] - 8);
        offset = scale == 0.0f ? 1.0f : minimum / scale + 8.0f;
        if (scale == 0.0f) scale = minimum;
    }
    for (int i = 0; i < 32; i += 2) {
        if (shape->nibbles) {
            packed[group * 16 + (uint64_t)i / 2] = (uint8_t)((shifted[i] & 15) | (shifted[i + 1] & 15) << 4);
        } else {
            packed[group * 32 + (uint64_t)i] = (uint8_t)shifted[i];
            packed[group * 32 + (uint64_t)i + 1] = (uint8_t)shifted[i + 1];
        }
    }
    uint16_t s = to_half(scale), o = to_half(offset);
    memcpy(packed + shape->scales + group * 2, &s, 2);
    if (shape->minima) memcpy(packed + shape->offsets + group * 2, &o, 2);
}

void weight_repack(const percept_tensor *tensor, int layout, const weight_shape *shape, const uint8_t *blocks,
                   uint8_t *packed) {
    const format *f = format_of(tensor->dtype);
    uint64_t count = (uint64_t)(shape->rows * (shape->columns / f->weights)),
             groups = (uint64_t)(f->weights / f->group);
    for (uint64_t n = 0; n < count; n++) {
        int8_t q[256];
        float scale[16] = {0}, minimum[16] = {0};
        unpack(tensor->dtype, blocks + n * (uint64_t)f->bytes, q, scale, minimum);
        if (layout == LAYOUT_FUSED) {
            put_fused(shape, packed, n, q, scale[0], minimum[0]);
            continue;
        }
        memcpy(packed + n * (uint64_t)f->weights, q, (size_t)f->weights);
        memcpy(packed + shape->scales + n * groups * 4, scale, groups * 4);
        if (f->minima) memcpy(packed + shape->offsets + n * groups * 4, minimum, groups * 4);
    }
}
