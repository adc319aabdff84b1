/*
 * Weights in the layout that the library takes, kept beside the blocks that they were made from.
 *
 * They are made at the first launch that wants them, since Percept says what a block of memory holds only there. When
 * the blocks are written, what was made of them is freed, unless a capture has its address: then it is made again, at
 * the same address, before it is used the next time.
 */
#include <stdlib.h>

#include "plugin.h"

void ascend_release_weight(const percept_device *device, repacked *weight) {
    if (--weight->holders > 0) return;
    (void)device->f->aclrtFree(weight->base);
    free(weight);
}

void ascend_forget_weights(percept_memory *memory, bool freed) {
    repacked **at = &memory->weights;
    while (*at) {
        repacked *weight = *at;
        weight->stale = true;
        if (!freed && weight->holders > 1) {
            at = &weight->next;
            continue;
        }
        *at = weight->next;
        weight->memory = NULL;
        ascend_release_weight(memory->device, weight);
    }
}

/* Read the blocks, repack them, and put them where the weight is to lie. */
percept_status ascend_refresh_weight(percept_queue *queue, repacked *weight, percept_message *message) {
    if (!weight->stale) return PERCEPT_OK;
    if (!weight->memory) return percept_fail(message, PERCEPT_FAILED, "a capture outlives the weights that it uses");
    uint64_t size = weight->shape.bytes;
    percept_tensor tensor = weight->tensor;
    tensor.dims = weight->dims;
    uint8_t *blocks = malloc((size_t)tensor.bytes), *packed = calloc(1, (size_t)size);
    percept_status status = PERCEPT_OUT_OF_MEMORY;
    if (blocks && packed) {
        percept_span span = {weight->memory, weight->offset, tensor.bytes};
        status = ascend_devices.queue_read(queue, &span, blocks, message);
        if (status == PERCEPT_OK) {
            weight_repack(&tensor, weight->layout, &weight->shape, blocks, packed);
            aclError e = queue->device->f->aclrtMemcpy(weight->base, (size_t)size, packed, (size_t)size,
                                                       (aclrtMemcpyKind)ASCEND_HOST_TO_DEVICE);
            if (!ascend_ok(queue->device, e, "the copy of a repacked weight", message)) status = PERCEPT_FAILED;
        }
    } else {
        percept_fail(message, status, "no memory on the host to repack a weight");
    }
    free(blocks);
    free(packed);
    weight->stale = status != PERCEPT_OK;
    return status;
}

/* The capture that is being recorded needs this weight for as long as it lives. */
static percept_status hold(percept_queue *queue, repacked *weight, percept_message *message) {
    for (uint64_t i = 0; i < queue->held_count; i++)
        if (queue->held[i] == weight) return PERCEPT_OK;
    repacked **more = realloc(queue->held, (size_t)(queue->held_count + 1) * sizeof *more);
    if (!more) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a capture");
    queue->held = more;
    queue->held[queue->held_count++] = weight;
    weight->holders++;
    return PERCEPT_OK;
}

static bool same(const repacked *r, const wanted_weight *w, uint64_t offset) {
    return r->offset == offset && r->layout == w->layout && r->tensor.dtype == w->tensor.dtype &&
           r->dims[0] == w->dims[0] && r->dims[1] == w->dims[1];
}

percept_status ascend_find_weight(percept_queue *queue, const wanted_weight *w, const percept_span *span,
                                  void **address, percept_message *message) {
    repacked *weight = span->memory->weights;
    while (weight && !same(weight, w, span->offset))
        weight = weight->next;
    if (queue->capturing) {
        /* The host launches a program before it records it, so this is not met by one that is replayed. */
        if (!weight || weight->stale)
            return percept_fail(message, PERCEPT_FAILED, "a weight is to be repacked, which no capture may hold");
        *address = weight->base;
        return hold(queue, weight, message);
    }
    if (!weight) {
        weight = calloc(1, sizeof *weight);
        if (!weight) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a weight");
        void *base = NULL;
        aclError e = queue->device->f->aclrtMalloc(&base, (size_t)w->shape.bytes,
                                                   (aclrtMemMallocPolicy)ASCEND_MALLOC_HUGE_FIRST);
        if (!ascend_ok(queue->device, e, "aclrtMalloc of a repacked weight", message)) {
            free(weight);
            return e == ASCEND_OUT_OF_MEMORY ? PERCEPT_OUT_OF_MEMORY : PERCEPT_FAILED;
        }
        *weight = (repacked){.next = span->memory->weights,
                             .memory = span->memory,
                             .offset = span->offset,
                             .layout = w->layout,
                             .tensor = w->tensor,
                             .dims = {w->dims[0], w->dims[1]},
                             .shape = w->shape,
                             .base = base,
                             .holders = 1,
                             .stale = true};
        span->memory->weights = weight;
    }
    *address = weight->base;
    return ascend_refresh_weight(queue, weight, message);
}
