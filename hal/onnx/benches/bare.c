/*
 * A model of one step run over and over through ONNX Runtime, with values that are bound once and caches that are written in place:
 * the least that a program can do. usage: bare LIBRARY FOLDER RUNS THREADS, where FOLDER has model.onnx and arguments.txt. It prints the
 * median time of a run in microseconds.
 */
#include <dlfcn.h>

#include "bare.h"

/* Places in the table of functions, which never change. */
enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    CREATE_SESSION_OPTIONS = 10,
    SET_OPTIMIZATION_LEVEL = 23,
    SET_INTRA_OP_THREADS = 24,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY_INFO = 69,
    RUN_WITH_BINDING = 133,
    CREATE_IO_BINDING = 134,
    BIND_INPUT = 136,
    BIND_OUTPUT = 137
};
enum { TABLE_VERSION = 24, SEVERITY_FATAL = 4, ENABLE_ALL = 99, ARENA_ALLOCATOR = 1, MEMORY_DEFAULT = 0 };

struct api_base {
    void *const *(*get_api)(uint32_t version);
    const char *(*version)(void);
};

static void *const *api;

static void check(void *status) {
    if (status) stop("ONNX Runtime", ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
}

static void *tensor(void *memory, const struct argument *a, void *data) {
    void *value;
    check(((void *(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))api[CREATE_TENSOR_WITH_DATA])(
        memory, data, a->bytes, a->dims, a->rank, a->element, &value));
    return value;
}

int main(int count, char **words) {
    char path[4096];
    void *env, *options, *session, *memory, *binding, *library, *of_output[MOST] = {0};
    if (count != 5) stop(words[0], "usage: bare LIBRARY FOLDER RUNS THREADS");
    library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) stop(words[1], dlerror());
    const struct api_base *(*entry)(void) = (const struct api_base *(*)(void))dlsym(library, "OrtGetApiBase");
    if (!entry || !(api = entry()->get_api(TABLE_VERSION))) stop(words[1], "it is not ONNX Runtime, or too old");
    snprintf(path, sizeof path, "%s/arguments.txt", words[2]);
    read_arguments(path);
    check(((void *(*)(int, const char *, void **))api[CREATE_ENV])(SEVERITY_FATAL, "bare", &env));
    check(((void *(*)(void **))api[CREATE_SESSION_OPTIONS])(&options));
    check(((void *(*)(void *, int))api[SET_OPTIMIZATION_LEVEL])(options, ENABLE_ALL));
    check(((void *(*)(void *, int))api[SET_INTRA_OP_THREADS])(options, atoi(words[4])));
    snprintf(path, sizeof path, "%s/model.onnx", words[2]);
    check(((void *(*)(void *, const char *, void *, void **))api[CREATE_SESSION])(env, path, options, &session));
    check(((void *(*)(int, int, void **))api[CREATE_CPU_MEMORY_INFO])(ARENA_ALLOCATOR, MEMORY_DEFAULT, &memory));
    check(((void *(*)(void *, void **))api[CREATE_IO_BINDING])(session, &binding));
    void *(*bind_input)(void *, const char *, void *) = (void *(*)(void *, const char *, void *))api[BIND_INPUT];
    void *(*bind_output)(void *, const char *, void *) = (void *(*)(void *, const char *, void *))api[BIND_OUTPUT];
    for (size_t i = 0; i < argument_count; i++) {
        const struct argument *a = &arguments[i];
        if (strcmp(a->kind, "in")) continue;
        void *value = tensor(memory, a, values(a));
        check(bind_input(binding, a->name, value));
        if (a->replaced >= 0) of_output[a->replaced] = value;
    }
    size_t output = 0, bytes = 0;
    void *result = NULL, *copy = NULL;
    for (size_t i = 0; i < argument_count; i++) {
        const struct argument *a = &arguments[i];
        if (strcmp(a->kind, "out")) continue;
        void *value = of_output[output++];
        if (!value) {
            result = values(a);
            bytes = a->bytes;
            value = tensor(memory, a, result);
            copy = malloc(bytes);
        }
        check(bind_output(binding, a->name, value));
    }
    size_t runs = (size_t)atoi(words[3]);
    double *times = malloc(runs * sizeof *times);
    for (size_t i = 0; i < runs; i++) {
        double begin = now();
        check(((void *(*)(void *, void *, void *))api[RUN_WITH_BINDING])(session, NULL, binding));
        if (copy) memcpy(copy, result, bytes);
        times[i] = now() - begin;
    }
    print_median(times, runs);
    return 0;
}
