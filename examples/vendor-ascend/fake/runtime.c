/* libascendcl: devices, memory, copies, streams and captured graphs. */
#include "fake.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARGIN = 64, MARGIN_BYTE = 0x5e, FRESH_BYTE = 0xcb };

typedef struct block {
    struct block *next;
    uint8_t *base;
    size_t size;
} block;

typedef struct graph {
    struct graph *next;
    task *first, *last;
} graph;

typedef struct stream {
    struct stream *next;
    task *first, *last;
    graph *capturing;
} stream;

static pthread_mutex_t lock;
static pthread_once_t lock_made = PTHREAD_ONCE_INIT;
static bool initialized;
static int contexts;
static block *blocks;
static stream *streams;
static graph *graphs;
static int64_t counts[COUNTS];
static _Thread_local aclrtContext current;
static _Thread_local char message[512], handed_out[512];

static const char *const names[] = {
#define NAME(X, signature) "aclnn" #X,
    ASCEND_OPS(NAME)
#undef NAME
};

const char *fake_op_name(enum ascend_op op) { return names[op]; }

void (*fake_compute)(enum ascend_op op, const argument *arguments, int count);
aclnnStatus (*fake_check)(enum ascend_op op, const argument *arguments, int count);

static void make_lock(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &attributes);
}

int fake_lock(void) {
    pthread_once(&lock_made, make_lock);
    pthread_mutex_lock(&lock);
    return 0;
}

void fake_unlock(int *locked) {
    (void)locked;
    pthread_mutex_unlock(&lock);
}

void fake_rule(const char *name, const char *format, ...) {
    va_list rest;
    fprintf(stderr, "fake-ascend: the rule '%s' is broken: ", name);
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}

int fake_refuse(int status, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(message, sizeof message, format, rest);
    va_end(rest);
    return status;
}

void fake_add(enum fake_count which, int64_t by) { counts[which] += by; }

EXPORTED int64_t fake_ascend_count(const char *name) {
    LOCKED;
    static const char *const names[COUNTS] = {"workspace_queries", "launches", "replays",          "live_objects",
                                              "live_bytes",        "setters",  "repeated_launches"};
    for (int i = 0; i < COUNTS; i++)
        if (strcmp(names[i], name) == 0) return counts[i];
    return -1;
}

bool fake_is_310p(void) {
#ifdef FAKE_ASCEND_310P
    return true;
#endif
    const char *chip = getenv("FAKE_ASCEND_CHIP");
    return chip && strcmp(chip, "310P") == 0;
}

void fake_need_context(const char *call) {
    if (!initialized) fake_rule("initialize first", "%s before aclInit", call);
    if (!current) fake_rule("context of the thread", "%s on a thread without a current context", call);
}

static block *block_of(const void *address, size_t bytes) {
    const uint8_t *at = address;
    for (block *b = blocks; b; b = b->next)
        if (at >= b->base && at - b->base <= (ptrdiff_t)b->size && bytes <= b->size - (size_t)(at - b->base)) return b;
    return NULL;
}

bool fake_on_device(const void *address, size_t bytes) { return block_of(address, bytes) != NULL; }

static void check_margin(const block *b, const char *when) {
    for (int i = 0; i < MARGIN; i++)
        if (b->base[b->size + (size_t)i] != MARGIN_BYTE)
            fake_rule("stay within memory", "byte %d behind a block of %zu bytes was written; seen at %s", i, b->size,
                      when);
}

static stream *stream_of(aclrtStream handle, const char *call) {
    fake_need_context(call);
    for (stream *s = streams; s; s = s->next)
        if (s == handle) return s;
    fake_rule("live handles", "%s on a stream that does not exist", call);
}

static bool any_capture(void) {
    for (stream *s = streams; s; s = s->next)
        if (s->capturing) return true;
    return false;
}

static void not_while_capturing(const char *call) {
    if (any_capture()) fake_rule("capture", "%s while a stream is captured", call);
}

EXPORTED aclError aclInit(const char *path) {
    LOCKED;
    (void)path;
    if (initialized) return ASCEND_REPEATED_INITIALIZE;
    initialized = true;
    return 0;
}

EXPORTED const char *aclGetRecentErrMsg(void) {
    memcpy(handed_out, message, sizeof message);
    message[0] = 0;
    return handed_out;
}

EXPORTED const char *aclrtGetSocName(void) { return fake_is_310p() ? "Ascend310P3 (fake)" : "Ascend910B4 (fake)"; }

EXPORTED aclError aclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch) {
    *major = 1;
    *minor = *patch = 0;
    return 0;
}

EXPORTED aclError aclrtGetDeviceCount(uint32_t *count) {
    *count = 2;
    return 0;
}

EXPORTED aclError aclrtSetDevice(int32_t device) {
    LOCKED;
    if (!initialized) fake_rule("initialize first", "aclrtSetDevice before aclInit");
    if (device < 0 || device > 1) return fake_refuse(107001, "there are devices 0 and 1, not %d", (int)device);
    return 0;
}

EXPORTED aclError aclrtCreateContext(aclrtContext *context, int32_t device) {
    LOCKED;
    if (!initialized) fake_rule("initialize first", "aclrtCreateContext before aclInit");
    (void)device;
    *context = malloc(1);
    contexts++;
    current = *context;
    return 0;
}

EXPORTED aclError aclrtDestroyContext(aclrtContext context) {
    LOCKED;
    if (contexts-- == 0) fake_rule("live handles", "a context is destroyed twice");
    if (current == context) current = NULL;
    free(context);
    return 0;
}

EXPORTED aclError aclrtSetCurrentContext(aclrtContext context) {
    if (!context) return fake_refuse(107002, "a null context");
    current = context;
    return 0;
}

EXPORTED aclError aclrtGetMemInfo(aclrtMemAttr attribute, size_t *available, size_t *total) {
    LOCKED;
    (void)attribute;
    fake_need_context("aclrtGetMemInfo");
    *total = (size_t)4 << 30;
    *available = *total - (size_t)counts[BYTES];
    return 0;
}

EXPORTED aclError aclrtMalloc(void **memory, size_t size, aclrtMemMallocPolicy policy) {
    LOCKED;
    (void)policy;
    fake_need_context("aclrtMalloc");
    not_while_capturing("aclrtMalloc");
    if (size == 0) return fake_refuse(107000, "aclrtMalloc of no bytes");
    if ((size_t)counts[BYTES] + size > (size_t)4 << 30) return fake_refuse(ASCEND_OUT_OF_MEMORY, "4 GiB are used up");
    block *b = malloc(sizeof *b);
    size_t room = (size + MARGIN + 511) / 512 * 512;
    if (!b || !(b->base = aligned_alloc(512, room))) {
        free(b);
        return fake_refuse(ASCEND_OUT_OF_MEMORY, "the host has no memory left");
    }
    b->size = size;
    memset(b->base, FRESH_BYTE, size);
    memset(b->base + size, MARGIN_BYTE, MARGIN);
    b->next = blocks;
    blocks = b;
    counts[BYTES] += (int64_t)size;
    *memory = b->base;
    return 0;
}

static bool uses(const task *t, const block *b) {
    const uint8_t *end = b->base + b->size;
#define INSIDE(p) ((const uint8_t *)(p) >= b->base && (const uint8_t *)(p) < end)
    if (t->op == ASCEND_OP_COUNT) return INSIDE(t->to) || INSIDE(t->from);
    for (int i = 0; i < t->count; i++)
        if (t->arguments[i].seen.mark && INSIDE(t->arguments[i].seen.data)) return true;
    return t->workspace && INSIDE(t->workspace);
#undef INSIDE
}

EXPORTED aclError aclrtFree(void *memory) {
    LOCKED;
    fake_need_context("aclrtFree");
    not_while_capturing("aclrtFree");
    for (block **at = &blocks; *at; at = &(*at)->next) {
        block *b = *at;
        if (b->base != memory) continue;
        for (stream *s = streams; s; s = s->next)
            for (task *t = s->first; t; t = t->next)
                if (uses(t, b))
                    fake_rule("wait before free", "memory is freed while %s that uses it waits in a stream",
                              t->op == ASCEND_OP_COUNT ? "a copy" : fake_op_name(t->op));
        check_margin(b, "aclrtFree");
        *at = b->next;
        counts[BYTES] -= (int64_t)b->size;
        free(b->base);
        free(b);
        return 0;
    }
    fake_rule("live handles", "aclrtFree of memory that aclrtMalloc did not give, or twice");
}

static void check_copy(const void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind) {
    if (count > room) fake_rule("stay within memory", "a copy of %zu bytes into room for %zu", count, room);
    bool to_device = kind == ASCEND_HOST_TO_DEVICE || kind == ASCEND_DEVICE_TO_DEVICE;
    bool from_device = kind == ASCEND_DEVICE_TO_HOST || kind == ASCEND_DEVICE_TO_DEVICE;
    if (to_device != fake_on_device(to, count) || from_device != fake_on_device(from, count))
        fake_rule("device memory", "a copy of %zu bytes of kind %d whose ends lie elsewhere", count, (int)kind);
}

EXPORTED aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind) {
    LOCKED;
    fake_need_context("aclrtMemcpy");
    not_while_capturing("aclrtMemcpy");
    check_copy(to, room, from, count, kind);
    memcpy(to, from, count);
    return 0;
}

static void run(task *t) {
    if (t->op == ASCEND_OP_COUNT) {
        memmove(t->to, t->from, t->bytes);
        return;
    }
    for (int i = 0; i < t->count; i++) {
        const aclTensor *v = &t->arguments[i].seen;
        const uint8_t *first;
        size_t bytes;
        if (!v->mark) continue;
        fake_reach(v, &first, &bytes);
        if (bytes && !fake_on_device(first, bytes))
            fake_rule("live memory", "%s uses memory that was freed before it ran", fake_op_name(t->op));
    }
    if (t->workspace) memset(t->workspace, 0xa7, t->workspace_size); /* as scratch memory is used */
    fake_compute(t->op, t->arguments, t->count);
    for (int i = 0; i < t->count; i++) {
        const aclTensor *v = &t->arguments[i].seen;
        const block *b = v->mark ? block_of(v->data, 0) : NULL;
        if (b) check_margin(b, fake_op_name(t->op));
    }
}

static void free_tasks(task *t) {
    while (t) {
        task *next = t->next;
        free(t->arguments);
        free(t);
        t = next;
    }
}

static void finish(stream *s) {
    while (s->first) {
        task *t = s->first;
        run(t);
        s->first = t->next;
        if (!s->first) s->last = NULL;
        t->next = NULL;
        free_tasks(t);
    }
}

static void append(task **first, task **last, task *t) {
    t->next = NULL;
    if (*last)
        (*last)->next = t;
    else
        *first = t;
    *last = t;
}

void fake_put(aclrtStream handle, task *t) {
    stream *s = stream_of(handle, "a launch");
    if (s->capturing)
        append(&s->capturing->first, &s->capturing->last, t);
    else
        append(&s->first, &s->last, t);
}

EXPORTED aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind,
                                   aclrtStream handle) {
    LOCKED;
    stream *s = stream_of(handle, "aclrtMemcpyAsync");
    if (s->capturing && kind != ASCEND_DEVICE_TO_DEVICE) fake_rule("capture", "a copy with the host while capturing");
    check_copy(to, room, from, count, kind);
    task *t = calloc(1, sizeof *t);
    *t = (task){.op = ASCEND_OP_COUNT, .to = to, .from = from, .bytes = count};
    fake_put(handle, t);
    return 0;
}

EXPORTED aclError aclrtCreateStream(aclrtStream *handle) {
    LOCKED;
    fake_need_context("aclrtCreateStream");
    stream *s = calloc(1, sizeof *s);
    s->next = streams;
    streams = s;
    *handle = s;
    return 0;
}

EXPORTED aclError aclrtSynchronizeStream(aclrtStream handle) {
    LOCKED;
    stream *s = stream_of(handle, "aclrtSynchronizeStream");
    if (s->capturing) fake_rule("capture", "a wait for a stream that is captured");
    finish(s);
    return 0;
}

EXPORTED aclError aclrtDestroyStream(aclrtStream handle) {
    LOCKED;
    stream *s = stream_of(handle, "aclrtDestroyStream");
    if (s->capturing) fake_rule("capture", "a stream is destroyed while it is captured");
    finish(s);
    for (stream **at = &streams; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    free(s);
    return 0;
}

EXPORTED aclError aclmdlRICaptureBegin(aclrtStream handle, aclmdlRICaptureMode mode) {
    LOCKED;
    stream *s = stream_of(handle, "aclmdlRICaptureBegin");
    (void)mode;
    if (s->capturing) fake_rule("capture", "a capture is begun within another");
    s->capturing = calloc(1, sizeof(graph));
    return 0;
}

EXPORTED aclError aclmdlRICaptureEnd(aclrtStream handle, aclmdlRI *model) {
    LOCKED;
    stream *s = stream_of(handle, "aclmdlRICaptureEnd");
    if (!s->capturing) fake_rule("capture", "a capture is ended that was not begun");
    graph *g = s->capturing;
    s->capturing = NULL;
    g->next = graphs;
    graphs = g;
    *model = g;
    counts[OBJECTS]++;
    return 0;
}

static graph **place_of(aclmdlRI model, const char *call) {
    for (graph **at = &graphs; *at; at = &(*at)->next)
        if (*at == model) return at;
    fake_rule("live handles", "%s on a graph that was destroyed", call);
}

EXPORTED aclError aclmdlRIExecuteAsync(aclmdlRI model, aclrtStream handle) {
    LOCKED;
    graph *g = *place_of(model, "aclmdlRIExecuteAsync");
    stream *s = stream_of(handle, "aclmdlRIExecuteAsync");
    if (s->capturing) fake_rule("capture", "a graph is replayed within a capture");
    for (const task *t = g->first; t; t = t->next) {
        task *again = malloc(sizeof *again);
        *again = *t;
        again->arguments = malloc((size_t)(t->count ? t->count : 1) * sizeof *t->arguments);
        if (t->count) memcpy(again->arguments, t->arguments, (size_t)t->count * sizeof *t->arguments);
        append(&s->first, &s->last, again);
    }
    counts[REPLAYS]++;
    return 0;
}

EXPORTED aclError aclmdlRIDestroy(aclmdlRI model) {
    LOCKED;
    graph **at = place_of(model, "aclmdlRIDestroy"), *g = *at;
    *at = g->next;
    free_tasks(g->first);
    free(g);
    counts[OBJECTS]--;
    return 0;
}
