/*
 * A plug-in for tests: it adds and multiplies, and does what the option `fault` names. What decides about the tables is
 * chosen when it is compiled: ABI, OLDEST, OTHER_SYMBOL, REFUSES, SHORT_TABLE, CAPTURES; EMPTY launches do nothing.
 */
#include <stdlib.h>
#ifdef __unix__
#include <unistd.h>
#endif

#include "percept_plugin.h"

#ifndef ABI
#define ABI PERCEPT_ABI_VERSION
#endif
#ifndef OLDEST
#define OLDEST 1
#endif
#ifdef LONG_CAPTURES
#define STEPS 4096
#else
#define STEPS 64
#endif

struct percept_device_s {
    char fault[64];
    char counts[256]; /* a file that gets the counts when the device is closed */
    unsigned queries, launches, captures, replays, plans, memories;
};

struct percept_queue_s {
    percept_device *device;
    percept_capture *recording;
};

struct percept_memory_s {
    void *block;
    unsigned char *bytes;
};

struct percept_plan_s {
    int multiplies;
    size_t elements;
};

struct percept_capture_s {
    unsigned count;
    struct {
        percept_plan *plan;
        percept_span a, b, to;
    } steps[STEPS];
};

static int has(const percept_device *device, const char *fault) { return strcmp(device->fault, fault) == 0; }

static percept_status device_open(const percept_option *options, uint64_t count, percept_device **device,
                                  percept_message *message) {
    percept_device *opened = (percept_device *)calloc(1, sizeof *opened);
    uint64_t i;
    if (!opened) return PERCEPT_OUT_OF_MEMORY;
    for (i = 0; i < count; i++) {
        char *to = strcmp(options[i].key, "fault") == 0 ? opened->fault : opened->counts;
        snprintf(to, to == opened->fault ? sizeof opened->fault : sizeof opened->counts, "%s", options[i].value);
    }
    if (has(opened, "open-fails")) {
        free(opened);
        return percept_fail(message, PERCEPT_FAILED, "the chip is\nasleep");
    }
    if (has(opened, "open-null")) {
        free(opened);
        return PERCEPT_OK;
    }
    *device = opened;
    return PERCEPT_OK;
}

static void device_close(percept_device *device) {
    if (device->counts[0]) {
        FILE *file = fopen(device->counts, "w");
        if (file) {
            fprintf(file, "queries %u launches %u captures %u replays %u plans %u memories %u\n", device->queries,
                    device->launches, device->captures, device->replays, device->plans, device->memories);
            fclose(file);
        }
    }
    free(device);
}

static percept_status device_info(percept_device *device, percept_device_info *info, percept_message *message) {
    (void)message;
    snprintf(info->name, sizeof info->name, "trial");
    if (has(device, "info-unterminated")) memset(info->vendor, 'x', sizeof info->vendor);
    info->dtypes = has(device, "info-no-dtypes") ? 0 : 1u << PERCEPT_F32;
    info->max_buffer_bytes = has(device, "info-no-memory") ? 0 : (uint64_t)1 << 30;
    info->flags = PERCEPT_DEVICE_SOFTWARE | (has(device, "async") ? 0 : PERCEPT_DEVICE_SYNCHRONOUS);
    return PERCEPT_OK;
}

static percept_status memory_new(percept_device *device, uint64_t bytes, percept_memory **memory,
                                 percept_message *message) {
    percept_memory *made;
    if (has(device, "memory-null")) return PERCEPT_OK;
    if (has(device, "memory-none")) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "none left");
    made = (percept_memory *)calloc(1, sizeof *made);
    if (made) made->block = malloc((size_t)bytes + 63);
    if (!made || !made->block) {
        free(made);
        return PERCEPT_OUT_OF_MEMORY;
    }
    made->bytes = (unsigned char *)(((uintptr_t)made->block + 63) & ~(uintptr_t)63);
    *memory = made;
    device->memories++;
    return PERCEPT_OK;
}

static void memory_free(percept_device *device, percept_memory *memory) {
    device->memories--;
    free(memory->block);
    free(memory);
}

static percept_status queue_new(percept_device *device, percept_queue **queue, percept_message *message) {
    (void)message;
    *queue = (percept_queue *)calloc(1, sizeof **queue);
    if (!*queue) return PERCEPT_OUT_OF_MEMORY;
    (*queue)->device = device;
    return PERCEPT_OK;
}

static void queue_free(percept_device *device, percept_queue *queue) {
    (void)device;
    free(queue);
}

static unsigned char *at(const percept_span *span) { return span->memory->bytes + span->offset; }

static percept_status queue_write(percept_queue *queue, const percept_span *to, const void *bytes,
                                  percept_message *message) {
    (void)queue, (void)message;
    memcpy(at(to), bytes, (size_t)to->bytes);
    return PERCEPT_OK;
}

static percept_status queue_read(percept_queue *queue, const percept_span *from, void *bytes,
                                 percept_message *message) {
    if (has(queue->device, "lost")) return percept_fail(message, PERCEPT_LOST, "the cable is out");
    memcpy(bytes, at(from), (size_t)from->bytes);
    return PERCEPT_OK;
}

static percept_status queue_wait(percept_queue *queue, percept_message *message) {
    (void)queue, (void)message;
    return PERCEPT_OK;
}

static void *memory_address(percept_device *device, percept_memory *memory) {
    if (has(device, "address-odd")) return memory->bytes + 4;
    return has(device, "hidden-past") ? NULL : memory->bytes;
}

static const percept_devices devices = {
    sizeof(percept_devices), device_open, device_close, device_info, memory_new, memory_free, queue_new, queue_free,
    queue_write, queue_read, queue_wait, NULL, memory_address, NULL, NULL, NULL, NULL, NULL, NULL};

static percept_status query(percept_device *device, const percept_op *op, percept_planned *planned,
                            percept_message *message) {
    int adds = percept_is(op, "add"), multiplies = percept_is(op, "mul");
    device->queries++;
    if ((!adds && !multiplies) || op->inputs[0].dtype != PERCEPT_F32)
        return percept_fail(message, PERCEPT_UNSUPPORTED, "only add and mul of f32");
    if (has(device, "plan-null")) return PERCEPT_OK;
    if (has(device, "query-fails")) return percept_fail(message, PERCEPT_FAILED, "the compiler fell over");
    planned->plan = (percept_plan *)calloc(1, sizeof *planned->plan);
    if (!planned->plan) return PERCEPT_OUT_OF_MEMORY;
    planned->plan->multiplies = multiplies;
    planned->plan->elements = (size_t)percept_elements(&op->outputs[0]);
    planned->workspace_bytes = has(device, "workspace-huge") ? UINT64_MAX : 100;
    if (has(device, "pairs-many")) planned->in_place_count = 1000;
    if (has(device, "pair-odd")) {
        planned->in_place_count = 1;
        planned->in_place[0][0] = 9;
    }
    device->plans++;
    return PERCEPT_OK;
}

static void plan_free(percept_device *device, percept_plan *plan) {
    device->plans--;
    free(plan);
}

static void compute(const percept_plan *plan, const percept_span *a, const percept_span *b, const percept_span *to) {
    const float *x = (const float *)(const void *)at(a), *y = (const float *)(const void *)at(b);
    float *z = (float *)(void *)at(to);
    size_t i;
    for (i = 0; i < plan->elements; i++) z[i] = plan->multiplies ? x[i] * y[i] : x[i] + y[i];
}

static percept_status launch(percept_queue *queue, const percept_launch *launch, percept_message *message) {
    percept_device *device = queue->device;
    percept_capture *recording = queue->recording;
#ifdef EMPTY
    if (!recording) return PERCEPT_OK;
#endif
    if (has(device, "crash")) *(volatile int *)(uintptr_t)8 = 1;
    if (has(device, "exit")) exit(3);
    while (has(device, "hang")) {}
    if (has(device, "double-free")) {
        void *block = malloc(32), *volatile again = block;
        free(block);
        free(again);
    }
    if (has(device, "lies")) return percept_fail(message, PERCEPT_UNSUPPORTED, "not on this chip after all");
    if (has(device, "status-odd")) return 77;
    if (has(device, "unterminated")) {
        memset(message->text, 'x', (size_t)message->capacity);
        return PERCEPT_FAILED;
    }
    if (has(device, "workspace-past")) memset(at(&launch->workspace), 1, (size_t)launch->workspace.bytes + 4);
    if (recording) {
        if (recording->count == STEPS) return percept_fail(message, PERCEPT_UNSUPPORTED, "too long to be recorded");
        recording->steps[recording->count].plan = launch->plan;
        recording->steps[recording->count].a = launch->inputs[0];
        recording->steps[recording->count].b = launch->inputs[1];
        recording->steps[recording->count].to = launch->outputs[0];
        recording->count++;
        return PERCEPT_OK;
    }
    device->launches++;
    compute(launch->plan, &launch->inputs[0], &launch->inputs[1], &launch->outputs[0]);
    if (has(device, "wrong")) ((float *)(void *)at(&launch->outputs[0]))[0] += 1;
    if (has(device, "result-past") || has(device, "hidden-past") || has(device, "async"))
        memset(at(&launch->outputs[0]), 1, (size_t)launch->outputs[0].bytes + 64);
    return PERCEPT_OK;
}

#ifdef CAPTURES
static percept_status capture_begin(percept_queue *queue, percept_message *message) {
    (void)message;
    queue->recording = (percept_capture *)calloc(1, sizeof *queue->recording);
    return queue->recording ? PERCEPT_OK : PERCEPT_OUT_OF_MEMORY;
}

static percept_status capture_end(percept_queue *queue, percept_capture **capture, percept_message *message) {
    (void)message;
    *capture = queue->recording;
    queue->recording = NULL;
    queue->device->captures++;
    return PERCEPT_OK;
}

static percept_status capture_replay(percept_queue *queue, percept_capture *capture, percept_message *message) {
    unsigned i;
    (void)message;
    queue->device->replays++;
    for (i = 0; i < capture->count; i++)
        compute(capture->steps[i].plan, &capture->steps[i].a, &capture->steps[i].b, &capture->steps[i].to);
    return PERCEPT_OK;
}

static void capture_free(percept_device *device, percept_capture *capture) {
    device->captures--;
    free(capture);
}
#else
#define capture_begin NULL
#define capture_end NULL
#define capture_replay NULL
#define capture_free NULL
#endif

static const percept_oplib oplib = {
#ifdef SHORT_TABLE
    offsetof(percept_oplib, launch),
#else
    sizeof(percept_oplib),
#endif
    query, plan_free, launch, NULL, capture_begin, capture_end, capture_replay, capture_free, NULL};

static const char *const options[] = {"fault", "counts", NULL};

static const percept_plugin plugin = {
    sizeof(percept_plugin), ABI, OLDEST, "trial", "1.2", options, &devices, &oplib, NULL, NULL, NULL};

#ifdef OTHER_SYMBOL
PERCEPT_EXPORT int some_other_library(void) { return (int)plugin.abi_version; }
#else
PERCEPT_EXPORT const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message) {
    if (host->struct_size < sizeof(percept_host) || host->abi_version < 1 || !host->version) {
        (void)percept_fail(message, PERCEPT_INVALID, "this host is none");
        return NULL;
    }
#ifdef REFUSES
    if (host->abi_version > 0) {
        (void)percept_fail(message, PERCEPT_FAILED, "no driver is installed");
        return NULL;
    }
#endif
    host->log(PERCEPT_LOG_DEBUG, "the trial plug-in starts");
    return &plugin;
}
#endif
