/*
 * NAME: a plug-in for Percept. As it stands it computes on the processor, so that it loads and climbs the ladder's
 * first rung; put the chip's own calls in the places marked HERE, one after the other, and climb on:
 *
 *   make
 *   percept device test plugin:./NAMESUFFIX --level 0
 *
 * percept_plugin.h says what every function must do.
 */
#include <stdlib.h>

#include "percept_plugin.h"

/* ---- The device and its memory -------------------------------------------------------------------------------- */

struct percept_device_s {
    int index; /* HERE: the chip's context */
};

struct percept_queue_s {
    percept_device *device; /* HERE: the chip's stream */
};

struct percept_memory_s {
    void *block;          /* HERE: an address on the chip */
    unsigned char *bytes; /* `block`, aligned */
};

static percept_status device_open(const percept_option *options, uint64_t count, percept_device **device,
                                  percept_message *message) {
    percept_device *opened = (percept_device *)calloc(1, sizeof *opened);
    uint64_t i;
    if (!opened) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for the device");
    for (i = 0; i < count; i++)
        if (strcmp(options[i].key, "index") == 0) opened->index = atoi(options[i].value);
    if (opened->index != 0) {
        int index = opened->index;
        free(opened);
        return percept_fail(message, PERCEPT_INVALID, "there is no device %d; there is device 0", index);
    }
    *device = opened;
    return PERCEPT_OK;
}

static void device_close(percept_device *device) { free(device); }

static percept_status device_info(percept_device *device, percept_device_info *info, percept_message *message) {
    (void)device, (void)message;
    snprintf(info->name, sizeof info->name, "NAME");
    snprintf(info->vendor, sizeof info->vendor, "you");
    snprintf(info->driver, sizeof info->driver, "1");
    info->dtypes = 1u << PERCEPT_F32 | 1u << PERCEPT_I32;
    info->max_buffer_bytes = (uint64_t)1 << 32;
    info->flags = PERCEPT_DEVICE_SOFTWARE | PERCEPT_DEVICE_SYNCHRONOUS; /* HERE: neither is a chip's */
    return PERCEPT_OK;
}

static percept_status memory_new(percept_device *device, uint64_t bytes, percept_memory **memory,
                                 percept_message *message) {
    percept_memory *made = (percept_memory *)calloc(1, sizeof *made);
    (void)device;
    if (made) made->block = malloc((size_t)bytes + 63);
    if (!made || !made->block) {
        free(made);
        return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no %llu bytes are left", (unsigned long long)bytes);
    }
    made->bytes = (unsigned char *)(((uintptr_t)made->block + 63) & ~(uintptr_t)63);
    *memory = made;
    return PERCEPT_OK;
}

static void memory_free(percept_device *device, percept_memory *memory) {
    (void)device;
    free(memory->block);
    free(memory);
}

static percept_status queue_new(percept_device *device, percept_queue **queue, percept_message *message) {
    percept_queue *made = (percept_queue *)calloc(1, sizeof *made);
    if (!made) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for a queue");
    made->device = device;
    *queue = made;
    return PERCEPT_OK;
}

static void queue_free(percept_device *device, percept_queue *queue) {
    (void)device;
    free(queue);
}

/* Where a span begins. */
static unsigned char *at(const percept_span *span) { return span->memory->bytes + span->offset; }

static percept_status queue_write(percept_queue *queue, const percept_span *to, const void *bytes,
                                  percept_message *message) {
    (void)queue, (void)message;
    memcpy(at(to), bytes, (size_t)to->bytes);
    return PERCEPT_OK;
}

static percept_status queue_read(percept_queue *queue, const percept_span *from, void *bytes,
                                 percept_message *message) {
    (void)queue, (void)message;
    memcpy(bytes, at(from), (size_t)from->bytes);
    return PERCEPT_OK;
}

static percept_status queue_wait(percept_queue *queue, percept_message *message) {
    (void)queue, (void)message;
    return PERCEPT_OK;
}

static percept_status queue_copy(percept_queue *queue, const percept_span *from, const percept_span *to,
                                 percept_message *message) {
    (void)queue, (void)message;
    memcpy(at(to), at(from), (size_t)from->bytes);
    return PERCEPT_OK;
}

/* HERE: null where the host does not see the chip's memory. */
static void *memory_address(percept_device *device, percept_memory *memory) {
    (void)device;
    return memory->bytes;
}

static const percept_devices devices = {
    sizeof(percept_devices), device_open, device_close, device_info, memory_new, memory_free, queue_new, queue_free,
    queue_write, queue_read, queue_wait, queue_copy, memory_address,
    /* events */ NULL, NULL, NULL, NULL, NULL, NULL};

