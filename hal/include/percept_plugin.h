/*
 * The interface between Percept and a plug-in: a shared library that brings a device.
 *
 * A plug-in is written against this file alone, in any language that can export C functions. It exports one symbol,
 * percept_plugin_entry, and fills in at least one of three tables:
 *
 *   percept_oplib    the vendor has functions for operations: matrix product, softmax, ...
 *   percept_kernels  the vendor loads and dispatches kernel source: WGSL, SPIR-V, MSL, HLSL, GLSL, OpenCL C
 *   percept_graphs   the vendor compiles whole graphs: StableHLO, ONNX, or Percept's text form
 *
 * docs/porting.md goes from nothing to a working plug-in. `percept plugin new` writes one that loads.
 *
 * Rules, which hold for every function and struct below:
 *
 * - Versions. PERCEPT_ABI_VERSION grows by one whenever something is added. Nothing is ever removed, moved or given
 *   another meaning. A struct that begins with `struct_size` may grow at its end: the size is the one its owner knew, a
 *   reader touches no byte beyond it, and takes what is not there as zero. A struct that is handed over to be written
 *   has the size that the host knew, and is zero before. Structs without a size stand in arrays and never grow.
 *   Host and plug-in tell each other their version and the oldest they work with.
 * - Functions that may be null say "optional". All others of a table that is given must be there.
 * - No exception, panic or longjmp crosses this interface.
 * - Errors: a function returns PERCEPT_OK or another status, and then writes one line for the user into `message`,
 *   with percept_fail for instance. A status that is none of those below counts as PERCEPT_FAILED.
 * - Handles (percept_device and so on) are pointers that only the plug-in looks behind; null is never one. The host
 *   frees each handle exactly once, a device last. It never unloads a library.
 * - Pointers that the host passes are valid during the call only. What is kept must be copied.
 * - Threads: calls for one device never overlap, but may come from different threads.
 * - Integers have the width that they say, in the machine's byte order. A flag or size of 0 means no.
 *
 * Tensors are dense and row-major, the last dimension fastest, unless strides are given. A bool is one byte, 0 or 1.
 * Quantized tensors are blocks, row after row; a row is a whole number of blocks.
 */
#ifndef PERCEPT_PLUGIN_H
#define PERCEPT_PLUGIN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version that this file describes. */
#define PERCEPT_ABI_VERSION 2u

#if defined(_WIN32)
#define PERCEPT_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define PERCEPT_EXPORT __attribute__((visibility("default")))
#else
#define PERCEPT_EXPORT
#endif

/* ---- Statuses and messages ------------------------------------------------------------------------------------ */

typedef int32_t percept_status;
enum {
    PERCEPT_OK = 0,
    PERCEPT_FAILED = 1,        /* the library or the chip failed */
    PERCEPT_UNSUPPORTED = 2,   /* not for this operation, these types or this source: the host finds another way */
    PERCEPT_OUT_OF_MEMORY = 3, /* the device has no such memory left */
    PERCEPT_INVALID = 4,       /* the request is wrong: an unknown option, a value out of range */
    PERCEPT_LOST = 5           /* the device is gone, and every handle of it is of no use but to be freed */
};

/* Room for one line of text, which the caller owns. */
typedef struct percept_message {
    uint64_t struct_size;
    char *text;        /* never null; ends with a zero byte */
    uint64_t capacity; /* bytes of `text`, the zero byte included */
} percept_message;

/* ---- Handles -------------------------------------------------------------------------------------------------- */

typedef struct percept_device_s percept_device;         /* an opened device */
typedef struct percept_queue_s percept_queue;           /* work runs in the order in which it was put in */
typedef struct percept_event_s percept_event;           /* a point in a queue */
typedef struct percept_memory_s percept_memory;         /* a block of device memory */
typedef struct percept_plan_s percept_plan;             /* an operation that is ready to be launched */
typedef struct percept_capture_s percept_capture;       /* recorded launches */
typedef struct percept_kernel_s percept_kernel;         /* a compiled module */
typedef struct percept_executable_s percept_executable; /* a compiled graph */
typedef struct percept_group_s percept_group;           /* devices that compute together */

/* ---- Types of tensors ----------------------------------------------------------------------------------------- */

enum {
    PERCEPT_F32 = 1,
    PERCEPT_F16 = 2,
    PERCEPT_BF16 = 3,
    PERCEPT_I32 = 4,
    PERCEPT_U32 = 5,
    PERCEPT_U8 = 6,
    PERCEPT_BOOL = 7,
    PERCEPT_Q8_0 = 8, /* 32 weights in 34 bytes: f16 scale, 32 signed bytes */
    PERCEPT_Q4_0 = 9, /* 32 in 18: f16 scale, 16 bytes; low nibbles are weights 0..15, high ones 16..31; less 8 */
    PERCEPT_Q4_1 = 10, /* 32 in 20: f16 scale, f16 minimum, nibbles as in Q4_0, of which 8 is not taken */
    PERCEPT_Q4_K = 11, /* 256 in 144, as ggml has it */
    PERCEPT_Q6_K = 12, /* 256 in 210, as ggml has it */
    PERCEPT_Q8_X = 13  /* 32 in 48: 2 f32 scales, 2 f32 minima, 32 signed bytes; 16 weights go with each */
};

typedef struct percept_tensor {
    uint32_t dtype;
    uint32_t rank;          /* 0 for a scalar */
    const int64_t *dims;    /* `rank` extents, each 0 or more */
    const int64_t *strides; /* null: dense. Else elements from one index to the next, one per dimension, given only
                               to devices with PERCEPT_DEVICE_STRIDES, by hosts later than version 2 */
    uint64_t bytes;         /* of the dense form */
    uint32_t flags;
    uint32_t reserved[3];   /* 0 */
} percept_tensor;

/* `flags` of a tensor. */
#define PERCEPT_TENSOR_PACKED 1u /* it lies in the layout that `pack` gave */

/* ---- Operations ----------------------------------------------------------------------------------------------- */

enum { PERCEPT_INTS = 1, PERCEPT_FLOATS = 2, PERCEPT_TEXT = 3, PERCEPT_BYTES = 4 };

/* A named value of an operation: of the four pointers, the one of its kind is set. */
typedef struct percept_attribute {
    const char *name;
    uint32_t kind;
    uint32_t reserved;
    uint64_t count; /* of integers, floats, or bytes; of characters, less the zero byte */
    const int64_t *ints;
    const double *floats;
    const char *text;
    const uint8_t *bytes;
} percept_attribute;

struct percept_region;

typedef struct percept_op {
    uint64_t struct_size;
    const char *name;                   /* a name of the table below */
    const percept_attribute *attributes;
    uint64_t attribute_count;
    const percept_tensor *inputs;
    uint64_t input_count;
    const percept_tensor *outputs;
    uint64_t output_count;
    const char *text;                   /* the operation in Percept's text form, for messages */
    const struct percept_region *region; /* of "fused", else null */
} percept_op;

/* An operation in a region. Values are numbered: the region's inputs first, then the results of its nodes in order. */
typedef struct percept_node {
    const percept_op *op;
    const uint32_t *inputs; /* the values it reads, one for each operand */
} percept_node;

/*
 * The body of a fused operation: elementwise operations over one index space. Its inputs are the operands. Every value
 * has the shape of the results, except operands and constants of other shapes, which a "broadcast" brings to it.
 */
typedef struct percept_region {
    uint64_t struct_size;
    uint64_t input_count;
    const percept_node *nodes; /* in an order in which they can be computed */
    uint64_t node_count;
    const uint32_t *outputs; /* the values that are the results */
    uint64_t output_count;
} percept_region;

/*
 * The operations. A device is asked about each one that a graph has, with its types; it says PERCEPT_UNSUPPORTED to
 * what it does not have, and the operation is then taken apart or runs on the host.
 *
 * Attributes are written name:kind, where a kind is
 *   i  one integer        i* a list of integers      f  one float         s  text
 *   b  0 or 1             t  a dtype, as a number    y* bytes             ?  after a kind: may be missing
 * Float operands of an operation share one dtype, and its results have it, unless the row says otherwise. What an
 * operation computes is said in graph/src/op.rs and composite.rs; StableHLO's definition holds where it has the op.
 *
 * Elementwise; all operands and results have one shape.
 *
 * @op neg abs sign exp expm1 log log1p sqrt rsqrt sin cos tanh erf logistic floor ceil round not is_finite
 * @op add sub mul div rem pow max min and or xor shl shr
 * @op compare_eq compare_ne compare_lt compare_le compare_gt compare_ge
 * @op select          (predicate bool, on true, on false)
 * @op clamp           (low, x, high)
 * @op cast            (x)                     to:t
 * @op bitcast         (x)                     to:t
 *
 * Movement. The host renames memory or copies it for reshape, bitcast and barrier, so only regions have them.
 *
 * @op constant        ()                      splat:f? bytes:y*?   in regions only: one value, or dense bytes
 * @op iota            ()                      axis:i
 * @op reshape         (x)                     dims:i*
 * @op transpose       (x)                     perm:i*
 * @op broadcast       (x)                     dims:i* axes:i*
 * @op slice           (x)                     start:i* limit:i* stride:i*
 * @op pad             (x, value[])            low:i* high:i* interior:i*
 * @op concat          (x...)                  axis:i
 * @op dynamic_slice   (x, start i32[]...)     sizes:i*
 * @op dynamic_update_slice (x, update, start i32[]...)
 * @op gather          (x, indices i32)        axis:i
 * @op scatter         (x, indices i32, updates)  axis:i kind:s          set add
 * @op sort            (x) -> values, indices i32  axis:i descending:b limit:i
 * @op dequantize      (x quantized)           to:t
 * @op barrier         (x...) -> x...
 *
 * Reductions and products.
 *
 * @op reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or   kind:s axes:i* accum:t
 * @op arg_reduce      (x) -> i32              kind:s axis:i            max min
 * @op dot             (lhs, rhs)              lhs_batch:i* rhs_batch:i* lhs_contract:i* rhs_contract:i* accum:t out:t
 *
 * Composites.
 *
 * @op linear          (x[..,k], w[n,k], bias[n]?) -> [..,n]   bias:b act:s?    gelu_erf gelu_tanh silu quick_gelu relu
 * @op quantized_dot   (x[..,k], w quantized [n,k]) -> [..,n]; transposed: (g[..,n], w) -> [..,k]   transposed:b
 * @op ragged_dot      (x[m,k], w[g,n,k], groups i32[m,c]) -> [m,c,n]; transposed: (x[m,n], w, groups) -> [m,c,k]   transposed:b
 * @op ragged_outer    (x[m,k], y[m,c,n], groups i32[m,c]) -> [g,n,k]   groups:i
 * @op int8_dot        (x[..,k], w quantized [n,k]) -> [..,n]
 * @op softmax         (x[..,d])
 * @op log_softmax     (x[..,d])
 * @op cross_entropy   (logits[n,v], labels i32[n]) -> loss f32[n], lse f32[n]   ignore:i label_smoothing:f
 * @op cross_entropy_grad (logits, labels, lse, g f32[n]) -> dlogits   ignore:i label_smoothing:f
 * @op rms_norm        (x[..,d], w[d])         eps:f unit_offset:b
 * @op rms_norm_grad   (x, w, dy) -> dx, dw    eps:f unit_offset:b
 * @op layer_norm      (x[..,d], w[d], b[d])   eps:f
 * @op layer_norm_grad (x, w, dy) -> dx, dw, db   eps:f
 * @op rope            (x[b,h,t,d], cos f32[b,t,r/2], sin f32[b,t,r/2])   interleaved:b
 * @op attention       (q[b,h,t,d], k[b,hk,s,d], v[b,hk,s,e], optional...) -> out[b,h,t,e], lse f32[b,h,t]
 *                     scale:f causal:b window:i? soft_cap:f? segments:b blocks:b wide_blocks:b offset:b kv_len:b
 *                     paged:b
 *                     optional operands, in this order: q_segments i32[b,t], k_segments i32[b,s]; q_blocks i32[b,t],
 *                     k_blocks i32[b,s]; offset i32[b]; kv_len i32[b]; page_table i32[b,pages]
 * @op attention_grad  (q, k, v, optional..., out, lse, dout) -> dq, dk, dv
 *                     scale:f causal:b window:i? soft_cap:f? segments:b blocks:b wide_blocks:b offset:b kv_len:b
 *                     paged:b
 * @op kv_append       (cache[b,hk,s,d], new[b,hk,t,d], pos i32[b]) -> cache;
 *                     paged: (pool[pool,hk,page,d], new, pos, page_table i32[b,pages]) -> pool   paged:b
 * @op activate        (x)                     act:s
 * @op gated_activate  (gate, up) -> act(gate) * up   act:s
 * @op embedding       (table[v,d] float or quantized, ids i32[..]) -> [..,d]   out:t
 * @op patchify        (x[b,c,s1..sn])         patch:i*
 * @op conv1d          (x[b,c,t], w[o,c,k], bias[o]?)   stride:i padding:i dilation:i bias:b
 * @op gated_delta     (q[b,t,hk,dk], k, v[b,t,h,dv], g f32[b,t,h], beta f32[b,t,h]) -> [b,t,h,dv]; segments: segments
 *                     i32[b,t] follows; state: pool f32[slots,h,dk,dv], from, to, rows, i32[b] each, follow, and the
 *                     pool is the second result   segments:b state:b
 * @op short_conv      (x[b,t,c], w[c,taps]) -> [b,t,c]; the options follow as there, with a pool [slots,taps-1,c]
 *                     segments:b state:b
 * @op cum_sum         (x)                     axis:i
 * @op pool            (x[b,c,s1..sn])         kind:s window:i* stride:i*    avg max
 * @op random_bits     (seed u32[2]) -> u32    stream:i dims:i*
 * @op upsample        (x[b,c,h,w])            size:i* kind:s align_corners:b    nearest bilinear
 * @op adam_w          (p, g, m, v, lr f32[], step f32[]) -> p, m, v   beta1:f beta2:f eps:f weight_decay:f
 * @op fused           (...) -> ...            its body is in `region`
 */

/* ---- Devices and memory --------------------------------------------------------------------------------------- */

typedef struct percept_option {
    const char *key;   /* one of percept_plugin.options */
    const char *value; /* empty when the user gave none */
} percept_option;

/* What the plug-in writes of a device. Texts end with a zero byte. */
typedef struct percept_device_info {
    uint64_t struct_size;
    char name[128];           /* the hardware's name */
    char vendor[128];
    char driver[128];         /* driver or runtime, with its version */
    char features[512];       /* words with spaces between them */
    uint64_t dtypes;          /* bit n is set: the dtype with number n */
    uint64_t max_buffer_bytes; /* the largest block of memory; more than 0 */
    uint64_t memory_bytes;    /* all of it; 0: not known */
    uint64_t flags;
} percept_device_info;

/* `flags` of a device. */
#define PERCEPT_DEVICE_SOFTWARE 1u    /* it is a processor rather than hardware of its own */
#define PERCEPT_DEVICE_SYNCHRONOUS 2u /* what a call started is finished when the call returns */
#define PERCEPT_DEVICE_STRIDES 4u     /* tensors may have strides */
/* Since version 2: what graphs have in f32 is computed in a half type, by which the ladder then counts errors. Tensors of f32 keep
   their form in memory. One of both at most. */
#define PERCEPT_DEVICE_COMPUTES_F16 8u
#define PERCEPT_DEVICE_COMPUTES_BF16 16u

/* A part of a block of memory. Offsets of tensors are multiples of 64 bytes, of kernels' windows of their alignment. */
typedef struct percept_span {
    percept_memory *memory;
    uint64_t offset;
    uint64_t bytes;
} percept_span;

typedef struct percept_devices {
    uint64_t struct_size;

    /* Open a device. Options have been held to percept_plugin.options; values are the plug-in's to check. */
    percept_status (*device_open)(const percept_option *options, uint64_t option_count, percept_device **device,
                                  percept_message *message);
    void (*device_close)(percept_device *device);
    percept_status (*device_info)(percept_device *device, percept_device_info *info, percept_message *message);

    /* Memory of at least this many bytes, more than 0, aligned to 64; its contents do not matter. */
    percept_status (*memory_new)(percept_device *device, uint64_t bytes, percept_memory **memory,
                                 percept_message *message);
    /* Work in queues that reads or writes the block has been waited for. */
    void (*memory_free)(percept_device *device, percept_memory *memory);

    percept_status (*queue_new)(percept_device *device, percept_queue **queue, percept_message *message);
    void (*queue_free)(percept_device *device, percept_queue *queue);

    /* Copy from the host, after everything in the queue. `bytes` may be used again when the call returns. */
    percept_status (*queue_write)(percept_queue *queue, const percept_span *to, const void *bytes,
                                  percept_message *message);
    /* Copy to the host, after everything in the queue, and wait for it. Errors of earlier work surface here. */
    percept_status (*queue_read)(percept_queue *queue, const percept_span *from, void *bytes, percept_message *message);
    /* Wait for everything in the queue. Errors of earlier work surface here. */
    percept_status (*queue_wait)(percept_queue *queue, percept_message *message);

    /* Optional: copy within the device, after everything in the queue. The parts do not overlap. */
    percept_status (*queue_copy)(percept_queue *queue, const percept_span *from, const percept_span *to,
                                 percept_message *message);
    /* Optional: where the host sees a block, when it does without a copy; else null. Valid until it is freed. */
    void *(*memory_address)(percept_device *device, percept_memory *memory);

    /* Optional, all six or none: points in queues. `microseconds` from one to the other is finite and 0 or more. Hosts
       of versions 1 and 2 record none. */
    percept_status (*event_new)(percept_device *device, percept_event **event, percept_message *message);
    void (*event_free)(percept_device *device, percept_event *event);
    percept_status (*event_record)(percept_queue *queue, percept_event *event, percept_message *message);
    percept_status (*event_wait)(percept_event *event, percept_message *message);       /* the host waits */
    percept_status (*queue_wait_event)(percept_queue *queue, percept_event *event, percept_message *message);
    percept_status (*event_elapsed)(percept_event *from, percept_event *to, double *microseconds,
                                    percept_message *message);
} percept_devices;

/* ---- Op libraries --------------------------------------------------------------------------------------------- */

/* What the plug-in writes of an operation that it has. */
typedef struct percept_planned {
    uint64_t struct_size;
    percept_plan *plan;       /* never null */
    uint64_t workspace_bytes; /* scratch memory that each launch needs */
    uint32_t in_place_count;  /* at most 8 */
    uint32_t in_place[8][2];  /* (operand, result): they may share memory, since each element is read before it is
                                 written; the first pair that fits is used */
} percept_planned;

typedef struct percept_launch {
    uint64_t struct_size;
    percept_plan *plan;
    const percept_span *inputs; /* in the order of the operation's operands */
    uint64_t input_count;
    const percept_span *outputs; /* they do not overlap operands, except in pairs that were named in `in_place` */
    uint64_t output_count;
    percept_span workspace; /* its memory is null when the plan needs none */
    const char *path;       /* the place in the model, for messages */
} percept_launch;

typedef struct percept_oplib {
    uint64_t struct_size;

    /*
     * Prepare an operation, or say PERCEPT_UNSUPPORTED with the reason. Equal operations on equal types share a plan,
     * so this is asked once for each, and a plan is launched many times, on other memory each time.
     */
    percept_status (*query)(percept_device *device, const percept_op *op, percept_planned *planned,
                            percept_message *message);
    void (*plan_free)(percept_device *device, percept_plan *plan);
    /* Put one operation into a queue. */
    percept_status (*launch)(percept_queue *queue, const percept_launch *launch, percept_message *message);

    /* Optional: put a whole program into a queue, in order. `failed` is set to the launch that an error is about. */
    percept_status (*launch_program)(percept_queue *queue, const percept_launch *const *launches, uint64_t count,
                                     uint64_t *failed, percept_message *message);

    /*
     * Optional, all four or none: between begin and end, launches are recorded rather than run; replay runs them on
     * the same memory. The host records a program that comes again with the same memory, and replays it then.
     */
    percept_status (*capture_begin)(percept_queue *queue, percept_message *message);
    percept_status (*capture_end)(percept_queue *queue, percept_capture **capture, percept_message *message);
    percept_status (*capture_replay)(percept_queue *queue, percept_capture *capture, percept_message *message);
    void (*capture_free)(percept_device *device, percept_capture *capture);

    /*
     * Optional: bring a weight into the layout that kernels read best. It depends on dtype, shape and device alone.
     * The first call, with `packed` null, asks for the size; PERCEPT_UNSUPPORTED leaves the weight as it is. Operands
     * in that layout have PERCEPT_TENSOR_PACKED when an operation is asked about. Hosts of versions 1 and 2 do not pack.
     */
    percept_status (*pack)(percept_device *device, const percept_tensor *tensor, const void *bytes, void *packed,
                           uint64_t *packed_bytes, percept_message *message);
} percept_oplib;

/* ---- Kernel devices ------------------------------------------------------------------------------------------- */

enum {
    PERCEPT_WGSL = 1,
    PERCEPT_SPIRV = 2, /* 1.3 with the Shader capability, as Vulkan takes it */
    PERCEPT_MSL = 3,   /* 2.4; storage buffer i is [[buffer(i)]]; then come the parameters; then, where it is asked for,
                          a buffer with the bytes of each storage buffer, a uint each */
    PERCEPT_HLSL = 4,  /* shader model 6.0; groups are spaces */
    PERCEPT_GLSL = 5,  /* 4.50; storage and uniform buffers are numbered from 0 each */
    PERCEPT_OPENCL_C = 6 /* hosts of versions 1 and 2 do not write it and refuse a plug-in that asks for it */
};

/* What kernels may use. Zeros mean the least that WebGPU promises. */
typedef struct percept_kernel_limits {
    uint64_t struct_size;
    uint32_t language;              /* the one that modules are handed over in */
    uint32_t f16;                   /* 16-bit floats compute correctly */
    uint32_t subgroup_size;         /* 0: none, or not fixed */
    uint32_t max_workgroup_storage; /* bytes; 0: 16384 */
    uint32_t max_invocations;       /* of a workgroup; 0: 256 */
    uint32_t max_groups;            /* of each dimension; 0: 65535 */
    uint32_t max_bindings;          /* storage buffers of a module; 0: 8 */
    uint32_t alignment;             /* windows start at multiples of it, a power of two from 4 on; 0: 256 */
    uint64_t max_window;            /* bytes; 0: 128 MiB */
} percept_kernel_limits;

/*
 * A compute module with the entry point `entry`. Storage buffers are group 0, binding 0 and on, all read and write;
 * parameters are a uniform block of 32-bit words at group 1, binding 0.
 */
typedef struct percept_module {
    uint64_t struct_size;
    const char *key; /* modules with one key are the same program: the key of a cache on disk */
    const void *source;
    uint64_t source_bytes; /* of text, less the zero byte that follows it */
    const char *entry;
    uint32_t language;
    uint32_t workgroup_size[3];
    uint32_t binding_count;
    uint32_t parameter_words; /* at most 64 */
} percept_module;

typedef struct percept_dispatch {
    uint64_t struct_size;
    percept_kernel *kernel;
    const percept_span *bindings;
    uint64_t binding_count;
    const uint32_t *parameters;
    uint64_t parameter_words;
    uint32_t groups[3]; /* workgroups of each dimension */
    uint32_t reserved;
    const char *path; /* the operation, for messages */
} percept_dispatch;

typedef struct percept_kernels {
    uint64_t struct_size;
    percept_status (*limits)(percept_device *device, percept_kernel_limits *limits, percept_message *message);
    /* Compile a module. After PERCEPT_UNSUPPORTED the operation is taken apart or runs on the host. */
    percept_status (*kernel_new)(percept_device *device, const percept_module *module, percept_kernel **kernel,
                                 percept_message *message);
    void (*kernel_free)(percept_device *device, percept_kernel *kernel);
    /* Put dispatches into a queue, each of which sees what those before it wrote. */
    percept_status (*dispatch)(percept_queue *queue, const percept_dispatch *const *dispatches, uint64_t count,
                               uint64_t *failed, percept_message *message);
} percept_kernels;

/* ---- Graph compilers ------------------------------------------------------------------------------------------ */

enum {
    PERCEPT_TEXT_FORM = 1, /* Percept's own, as docs/porting.md describes it; every host writes it */
    PERCEPT_STABLEHLO = 2, /* MLIR text; a host that does not write it refuses the plug-in by name */
    PERCEPT_ONNX = 3       /* the bytes of a ModelProto; likewise */
};

typedef struct percept_graph {
    uint64_t struct_size;
    const void *source;
    uint64_t source_bytes; /* of text, less the zero byte that follows it */
    uint32_t format;
    uint32_t reserved;
    const percept_tensor *inputs;
    uint64_t input_count;
    const percept_tensor *outputs;
    uint64_t output_count;
    const int32_t *replaces; /* one for each output: the input that is given up for it, or -1 */
} percept_graph;

typedef struct percept_graphs {
    uint64_t struct_size;
    uint32_t format; /* the one that graphs are handed over in */
    uint32_t reserved;
    /* Whether a graph may have an operation; after PERCEPT_UNSUPPORTED it is taken apart or runs on the host. Of formats
       other than the text form, the host asks only about operations that it can write. */
    percept_status (*supports)(percept_device *device, const percept_op *op, percept_message *message);
    /* Compile a graph of such operations, and of constants, reshapes, bitcasts and barriers, which are never asked
       about. */
    percept_status (*compile)(percept_device *device, const percept_graph *graph, percept_executable **executable,
                              percept_message *message);
    void (*executable_free)(percept_device *device, percept_executable *executable);
    /* Put a run into a queue. An output has memory of its own, or that of the input that is given up for it, which
       what else reads that input must still see as it was. */
    percept_status (*run)(percept_queue *queue, percept_executable *executable, const percept_span *inputs,
                          uint64_t input_count, const percept_span *outputs, uint64_t output_count,
                          percept_message *message);
} percept_graphs;

/* ---- Devices that compute together ---------------------------------------------------------------------------- */

enum { PERCEPT_REDUCE_SUM = 1, PERCEPT_REDUCE_MAX = 2, PERCEPT_REDUCE_MIN = 3 };

/* Optional as a whole. Every member of a group makes the same calls in the same order. Hosts of versions 1 and 2 make none. */
typedef struct percept_collectives {
    uint64_t struct_size;
    /* 128 bytes that one member makes and the host carries to the others. */
    percept_status (*group_id)(percept_device *device, uint8_t id[128], percept_message *message);
    percept_status (*group_new)(percept_device *device, const uint8_t id[128], uint32_t rank, uint32_t size,
                                percept_group **group, percept_message *message);
    void (*group_free)(percept_device *device, percept_group *group);
    percept_status (*all_reduce)(percept_queue *queue, percept_group *group, uint32_t reduction,
                                 const percept_tensor *type, const percept_span *from, const percept_span *to,
                                 percept_message *message);
    percept_status (*all_gather)(percept_queue *queue, percept_group *group, const percept_tensor *type,
                                 const percept_span *from, const percept_span *to, percept_message *message);
    percept_status (*reduce_scatter)(percept_queue *queue, percept_group *group, uint32_t reduction,
                                     const percept_tensor *type, const percept_span *from, const percept_span *to,
                                     percept_message *message);
    percept_status (*broadcast)(percept_queue *queue, percept_group *group, uint32_t root,
                                const percept_tensor *type, const percept_span *in_place, percept_message *message);
} percept_collectives;

/* ---- The entry ------------------------------------------------------------------------------------------------ */

enum { PERCEPT_LOG_ERROR = 1, PERCEPT_LOG_WARNING = 2, PERCEPT_LOG_INFO = 3, PERCEPT_LOG_DEBUG = 4 };

/* What the host tells the plug-in. It stays valid for good. */
typedef struct percept_host {
    uint64_t struct_size;
    uint32_t abi_version;        /* the one that the host was built with */
    uint32_t oldest_abi_version; /* the oldest of plug-ins that it takes */
    const char *version;         /* of Percept */
    void (*log)(uint32_t level, const char *line);
} percept_host;

/* What the plug-in tells the host. It stays valid for good. */
typedef struct percept_plugin {
    uint64_t struct_size;
    uint32_t abi_version;        /* the one that the plug-in was built with: PERCEPT_ABI_VERSION */
    uint32_t oldest_abi_version; /* the oldest of hosts that it works with; 1 unless it needs what came later */
    const char *name;
    const char *version;
    const char *const *options; /* the keys that `device_open` knows, ending with null; null: none */
    const percept_devices *devices;
    const percept_oplib *oplib;         /* null: none */
    const percept_kernels *kernels;     /* null: none */
    const percept_graphs *graphs;       /* null: none */
    const percept_collectives *collectives; /* null: none */
} percept_plugin;

/*
 * The one symbol that a plug-in exports. Null with a message when it does not work with this host or machine. It may
 * be called more than once.
 */
typedef const percept_plugin *(*percept_plugin_entry_function)(const percept_host *host, percept_message *message);
PERCEPT_EXPORT const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message);

/* ---- Conveniences, for plug-ins in C and C++ ------------------------------------------------------------------ */

/* Write a message and return the status: `return percept_fail(message, PERCEPT_FAILED, "the chip says %d", code);` */
static inline percept_status percept_fail(percept_message *message, percept_status status, const char *format, ...) {
    if (message && message->text && message->capacity > 0) {
        va_list rest;
        va_start(rest, format);
        (void)vsnprintf(message->text, (size_t)message->capacity, format, rest);
        va_end(rest);
    }
    return status;
}

/* The attribute with this name, or null. */
static inline const percept_attribute *percept_attribute_of(const percept_op *op, const char *name) {
    uint64_t i;
    for (i = 0; i < op->attribute_count; i++)
        if (strcmp(op->attributes[i].name, name) == 0) return &op->attributes[i];
    return NULL;
}

static inline int64_t percept_int(const percept_op *op, const char *name, int64_t otherwise) {
    const percept_attribute *a = percept_attribute_of(op, name);
    return a && a->kind == PERCEPT_INTS && a->count > 0 ? a->ints[0] : otherwise;
}

static inline double percept_float(const percept_op *op, const char *name, double otherwise) {
    const percept_attribute *a = percept_attribute_of(op, name);
    return a && a->kind == PERCEPT_FLOATS && a->count > 0 ? a->floats[0] : otherwise;
}

/* The text with this name, or "" when there is none. */
static inline const char *percept_text(const percept_op *op, const char *name) {
    const percept_attribute *a = percept_attribute_of(op, name);
    return a && a->kind == PERCEPT_TEXT ? a->text : "";
}

static inline int percept_is(const percept_op *op, const char *name) { return strcmp(op->name, name) == 0; }

/* The number of elements. */
static inline int64_t percept_elements(const percept_tensor *tensor) {
    int64_t n = 1;
    uint32_t i;
    for (i = 0; i < tensor->rank; i++) n *= tensor->dims[i];
    return n;
}

/* The extent of a dimension, counted from the last one, which is 0; 1 beyond the first. */
static inline int64_t percept_extent(const percept_tensor *tensor, uint32_t from_last) {
    return from_last < tensor->rank ? tensor->dims[tensor->rank - 1 - from_last] : 1;
}

#ifdef __cplusplus
}
#endif

#endif
