/* What the files of this plug-in share. */
#ifndef VENDOR_ASCEND_PLUGIN_H
#define VENDOR_ASCEND_PLUGIN_H

#include "../../hal/include/percept_plugin.h"
#include "ascend.h"

/* ---- The libraries (library.c) -------------------------------------------------------------------------------- */

#define ASCEND_FIELD(result, name, parameters) result(*name) parameters;

typedef struct functions {
    ASCEND_RUNTIME(ASCEND_FIELD)
    ASCEND_OBJECTS(ASCEND_FIELD)
    struct {
        const char *name;
        void *phase_one; /* aclnnXGetWorkspaceSize, of the signature that ASCEND_OPS gives; null: no library has it */
        ascend_phase_two phase_two;
    } ops[ASCEND_OP_COUNT];
} functions;

#undef ASCEND_FIELD

/* The functions, loaded once from `directory` or, when that is empty, from where the loader finds them. */
const functions *ascend_functions(const char *directory, percept_message *message);

/* Phase one of a call; `arguments` are as its signature has them (phase_one.c). */
struct bound;
aclnnStatus ascend_phase_one(const functions *f, enum ascend_op op, const struct bound *arguments, uint64_t *workspace,
                             aclOpExecutor **executor);

/* ---- Devices and memory (device.c) ---------------------------------------------------------------------------- */

struct percept_device_s {
    const functions *f;
    int32_t number;
    aclrtContext context;
    int8_t cube;        /* cubeMathType of products */
    bool offset_minima; /* minima of 4-bit blocks by antiquantOffset, which rounds them to 16 bits */
    void *dummy;        /* the address that operands have while an operation is only asked about */
    uint64_t memory_bytes;
    uint64_t dtypes; /* as percept_device_info has them */
};

struct percept_queue_s {
    percept_device *device;
    aclrtStream stream;
    bool capturing;
    struct repacked **held; /* weights that the capture being recorded uses */
    uint64_t held_count;
};

struct percept_memory_s {
    percept_device *device;
    uint8_t *base;
    uint64_t bytes;
    struct repacked *weights; /* made from what lies here */
};

struct percept_capture_s {
    aclmdlRI graph;
    struct repacked **held;
    uint64_t held_count;
};

/* The first line of the library's own words on its last error, with ": " before it, or nothing. */
void ascend_words(const percept_device *device, char *text, size_t room);
/* Whether the status is none; else the message names the call and the library's own words. */
bool ascend_ok(const percept_device *device, aclError status, const char *call, percept_message *message);
/* Make the device's context the one of this thread. */
bool ascend_enter(const percept_device *device, percept_message *message);

extern const percept_devices ascend_devices;

/* ---- Views and plans (plan.c) --------------------------------------------------------------------------------- */

enum { MAX_RANK = 8, MAX_ARGUMENTS = 42, MAX_CALLS = 48 };

/* Where the bytes of a view lie during a launch. */
enum place {
    AT_NOTHING, /* a tensor that is left out */
    AT_INPUT,
    AT_OUTPUT,
    AT_SCRATCH,
    AT_WEIGHT /* in a repacked weight of the operand `index` */
};

/* Elements of a tensor by strides, as aclCreateTensor takes them. */
typedef struct view {
    enum place place;
    uint32_t index;  /* of the operand or result */
    uint64_t offset; /* bytes from the place's beginning, a multiple of 32 */
    int type;        /* of the library */
    int rank;
    int64_t dims[MAX_RANK];
    int64_t strides[MAX_RANK];
    int64_t start;    /* elements from the offset to the first one */
    int64_t elements; /* of the storage behind the offset */
} view;

typedef enum argument_kind {
    ARG_IN,
    ARG_OUT,
    ARG_REF,
    ARG_LIST,
    ARG_SCALAR,
    ARG_INT,
    ARG_INTS,
    ARG_REAL,
    ARG_TEXT
} argument_kind;

/* An argument of phase one. */
typedef struct argument {
    argument_kind kind;
    view tensor;     /* of ARG_IN, ARG_OUT, ARG_REF, ARG_LIST (of one tensor) */
    double real;     /* of ARG_SCALAR and ARG_REAL */
    int64_t integer; /* of ARG_INT, which booleans and dtypes are too; the dtype of ARG_SCALAR */
    int64_t ints[MAX_RANK];
    int count; /* of `ints`; -1: a null array */
    const char *text;
} argument;

/* An argument made for the library. */
typedef struct bound {
    aclTensor *tensor;
    aclTensorList *list;
    aclScalar *scalar;
    aclIntArray *ints;
    double real;
    int64_t integer;
    char text[16];
    void *address; /* that the tensor has now */
} bound;

typedef struct builder {
    percept_device *device;
    const percept_op *op;
    percept_plan *plan;
    percept_message *message;
    percept_status status; /* of the first thing that went wrong; then nothing more is added */
} builder;

view input(const builder *b, uint32_t index);
view output(const builder *b, uint32_t index);
view scratch(builder *b, int type, int rank, const int64_t *dims);
view scratch_at(uint64_t offset, int type, int rank, const int64_t *dims);
view nothing(void);
/* A view of a repacked weight, beginning `offset` bytes in. */
view weight(uint32_t index, uint64_t offset, int type, int rank, const int64_t *dims);
/* Views of the same elements: dense under other extents, with dimensions in another order, a part of one dimension. */
view reshaped(view v, int rank, const int64_t *dims);
view permuted(view v, const int64_t *order);
view part(view v, int axis, int64_t start, int64_t count, int64_t step);
/* As another dtype of the same size, for operations that only move bytes. */
view bits(view v);
bool dense(const view *v);
int64_t count_of(const view *v);
int type_bytes(int type);
bool is_float(int type);

argument in(view v);
argument out(view v);
argument ref(view v);
argument list(view v);
argument scalar(double value, int type);
argument integer(int64_t value);
argument ints(int count, const int64_t *values);
argument real(double value);
argument text(const char *value);

/* Add a call of the library; phase one is asked at once, with dummy addresses. */
void call(builder *b, enum ascend_op op, int count, const argument *arguments);
#define CALL(b, op, ...)                                                                                               \
    call(b, ASCEND_##op, (int)(sizeof((argument[]){__VA_ARGS__}) / sizeof(argument)), (argument[]){__VA_ARGS__})

/* Copy elements; nothing is done in a launch where both lie at one address. */
void copy(builder *b, view to, view from);
void cast(builder *b, view to, view from);
/* The elements as another float dtype: the view itself when it has it. */
view as_type(builder *b, view v, int type);
/* Unsigned words as signed ones that have the same order, and back; other dtypes as they are. */
view in_order(builder *b, view v);
void out_of_order(builder *b, view to, view from);
void refuse(builder *b, const char *format, ...);
/* The launch may put result `result` where operand `operand` lies. */
void in_place(builder *b, uint32_t operand, uint32_t result);
/* This plan reads operand `index` as a repacked weight of this layout. */
void wants_weight(builder *b, uint32_t index, int layout);

extern const percept_oplib ascend_oplib;

percept_status ascend_capture_begin(percept_queue *queue, percept_message *message);
percept_status ascend_capture_end(percept_queue *queue, percept_capture **capture, percept_message *message);
percept_status ascend_capture_replay(percept_queue *queue, percept_capture *capture, percept_message *message);
void ascend_capture_free(percept_device *device, percept_capture *capture);

/* ---- Operations: each file says whether an operation's name is one of its own --------------------------------- */

bool build_elementwise(builder *b);
bool build_movement(builder *b);
bool build_indexing(builder *b);
bool build_reduction(builder *b);
bool build_product(builder *b);
bool build_quantized(builder *b);
bool build_composite(builder *b);
bool build_attention(builder *b);
bool build_training(builder *b);

/* ---- Quantized weights (weights.c) ---------------------------------------------------------------------------- */

/* Layouts of repacked weights. */
enum {
    LAYOUT_PLAIN = 1, /* whole numbers int8[n,k], scales f32[n,k/g], minima f32[n,k/g]: exact */
    LAYOUT_FUSED = 2 /* int8 or int4[n,k], scales f16[n,k/32], offsets f16[n,k/32]: what WeightQuantBatchMatmul takes */
};

typedef struct weight_shape {
    int64_t rows, columns, group; /* elements that share a scale */
    bool minima, nibbles;
    uint64_t scales, offsets, bytes; /* where they begin, and the size of all */
} weight_shape;

/* How a weight of this type is laid out; false when the layout has no such type. */
bool weight_layout(const percept_tensor *tensor, int layout, weight_shape *shape);
void weight_repack(const percept_tensor *tensor, int layout, const weight_shape *shape, const uint8_t *blocks,
                   uint8_t *packed);

/* ---- Repacked weights (repacked.c) ---------------------------------------------------------------------------- */

/* What a plan wants of a quantized operand. */
typedef struct wanted_weight {
    uint32_t index;
    int layout;
    percept_tensor tensor; /* without its dims */
    int64_t dims[2];
    weight_shape shape;
} wanted_weight;

/* A weight in a layout, made from the blocks that lie in a block of memory. */
typedef struct repacked {
    struct repacked *next;
    percept_memory *memory; /* null when that is gone */
    uint64_t offset;        /* where the blocks begin */
    int layout;
    percept_tensor tensor; /* without its dims */
    int64_t dims[2];
    weight_shape shape;
    void *base;
    int holders; /* the memory and captures */
    bool stale;  /* the blocks were written since */
} repacked;

/* The weight's address; it is made when it is not there. */
percept_status ascend_find_weight(percept_queue *queue, const wanted_weight *wanted, const percept_span *span,
                                  void **address, percept_message *message);
percept_status ascend_refresh_weight(percept_queue *queue, repacked *weight, percept_message *message);
/* The memory is written, or freed; nothing that reads its weights runs. */
void ascend_forget_weights(percept_memory *memory, bool freed);
void ascend_release_weight(const percept_device *device, repacked *weight);

#endif
