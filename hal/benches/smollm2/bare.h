/* What the bare loops in C share: the list of a program's arguments, values for them, and times. */
#ifndef BARE_H
#define BARE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 1024, RANK = 8 };

/* An input or an output. */
struct argument {
    char kind[8]; /* "in" or "out" */
    char name[128];
    int element;   /* the type of its elements, by the library's number */
    int is_weight; /* filled with small numbers, otherwise with zeros */
    int replaced;  /* of an input: the output that takes its memory, or -1 */
    size_t bytes;
    size_t rank;
    int64_t dims[RANK];
};

static struct argument arguments[MOST];
static size_t argument_count;

static void stop(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Lines of: kind name element is_weight replaced bytes rank dims... */
static inline void read_arguments(const char *path) {
    FILE *file = fopen(path, "r");
    struct argument a;
    if (!file) stop(path, "it cannot be read");
    while (fscanf(file, "%7s %127s %d %d %d %zu %zu", a.kind, a.name, &a.element, &a.is_weight, &a.replaced, &a.bytes, &a.rank) == 7) {
        if (a.rank > RANK || argument_count == MOST) stop(path, "it has more than there is room for");
        for (size_t i = 0; i < a.rank; i++)
            if (fscanf(file, "%ld", &a.dims[i]) != 1) stop(path, "an extent is missing");
        arguments[argument_count++] = a;
    }
    fclose(file);
}

/* Its elements: those of a weight are small numbers in every type. */
static inline void *values(const struct argument *a) {
    uint32_t state = 1, word, *at = calloc((a->bytes + 67) / 64, 64);
    if (!at) stop(a->name, "no memory");
    for (size_t i = 0; a->is_weight && i < (a->bytes + 3) / 4; i++) {
        state = state * 1664525u + 1013904223u;
        word = state & 0x27ff27ffu;
        at[i] = word;
    }
    return at;
}

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Print the median of some times, which are sorted. */
static inline void print_median(double *times, size_t count) {
    qsort(times, count, sizeof *times, by_size);
    printf("%.3f\n", times[count / 2]);
}

#endif
