/*
 * A stand-in for libascendcl, libnnopbase and libopapi on the processor. It computes what the operations are documented
 * to compute, and holds its caller to the documented rules: one that is broken ends the process with a message that
 * names it. What a real library answers with a status, such as a dtype that the chip does not have, gets a status.
 *
 * The environment variable FAKE_ASCEND_CHIP is 910B (the default) or 310P, which has no bf16 and lacks some operations;
 * built with -DFAKE_ASCEND_310P it is always that.
 */
#ifndef FAKE_ASCEND_H
#define FAKE_ASCEND_H

#include "../ascend.h"

#define EXPORTED __attribute__((visibility("default")))

enum { FAKE_RANK = 8, FAKE_ARGUMENTS = 42 };
/* Statuses of aclnn, as documented. */
enum { FAKE_NULL = 161001, FAKE_INVALID = 161002, FAKE_RUNTIME = 361001 };

struct aclTensor {
    uint32_t mark;
    int type, rank;
    int64_t dims[FAKE_RANK], strides[FAKE_RANK], offset, elements; /* of the storage */
    uint8_t *data;
    bool listed;
};

struct aclScalar {
    uint32_t mark;
    double value;
};

struct aclIntArray {
    uint32_t mark;
    uint64_t count;
    int64_t values[FAKE_RANK];
};

struct aclTensorList {
    uint32_t mark;
    uint64_t count;
    aclTensor *tensors[FAKE_RANK];
};

typedef enum argument_kind { T_IN, T_OUT, T_REF, T_LIST, SCALAR, WHOLE, ARRAY, REAL, WORD } argument_kind;

/* An argument of phase one, taken over but for tensors, of which a launch takes what they say then. */
typedef struct argument {
    argument_kind kind;
    const aclTensor *tensor;
    const aclTensorList *list;
    bool null;
    double real;
    int64_t whole;
    aclIntArray array;
    char word[16];
    aclTensor seen; /* the tensor at a launch */
} argument;

struct aclOpExecutor {
    uint32_t mark;
    enum ascend_op op;
    int count;
    argument arguments[FAKE_ARGUMENTS];
    uint64_t workspace;
    bool repeatable, can_repeat, used;
};

/* What waits in a stream. Work is done when somebody waits for it, so that what is taken away too early is missed. */
typedef struct task {
    struct task *next;
    enum ascend_op op; /* ASCEND_OP_COUNT: a copy */
    int count;
    argument *arguments;
    uint8_t *workspace;
    uint64_t workspace_size;
    void *to;
    const void *from;
    size_t bytes;
} task;

/* A rule is broken: say which, and end. */
void fake_rule(const char *name, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* An answer that is no success, with words for aclGetRecentErrMsg. */
int fake_refuse(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* One lock for everything. */
int fake_lock(void);
void fake_unlock(int *locked);
#define LOCKED __attribute__((cleanup(fake_unlock), unused)) int locked = fake_lock()

/* Counted by name: "workspace_queries", "launches", "replays", "live_objects", "live_bytes", "setters", "failures". */
enum fake_count { QUERIES, LAUNCHES, REPLAYS, OBJECTS, BYTES, SETTERS, REPEATED, COUNTS };
void fake_add(enum fake_count which, int64_t by);
EXPORTED int64_t fake_ascend_count(const char *name);

const char *fake_op_name(enum ascend_op op);
/* Whether bytes lie within one live block of device memory. */
bool fake_on_device(const void *address, size_t bytes);
/* A context must be current on this thread. */
void fake_need_context(const char *call);
bool fake_is_310p(void);
/* Put work into a stream, or into what is captured of it. The task is taken over. */
void fake_put(aclrtStream stream, task *work);
/* Set by libopapi when it is loaded: runs one operation; the documented restrictions of one, as a status. */
extern void (*fake_compute)(enum ascend_op op, const argument *arguments, int count);
extern aclnnStatus (*fake_check)(enum ascend_op op, const argument *arguments, int count);
/* Bytes that a tensor's view reaches, from its first to behind its last. */
void fake_reach(const aclTensor *t, const uint8_t **first, size_t *bytes);
int fake_bytes(int type);

aclnnStatus fake_plan(enum ascend_op op, int count, const argument *arguments, uint64_t *workspace,
                      aclOpExecutor **executor);
aclnnStatus fake_launch(enum ascend_op op, void *workspace, uint64_t size, aclOpExecutor *executor, aclrtStream stream);

/* ---- libopapi's own ------------------------------------------------------------------------------------------ */

int64_t fake_count_of(const aclTensor *t);
/* All elements in row-major order as doubles, which hold every dtype here but the largest int64; to be freed. */
double *fake_load(const aclTensor *t);
/* The same, repeated to these extents. */
double *fake_load_as(const aclTensor *t, int rank, const int64_t *dims);
void fake_store(const aclTensor *t, const double *values);
/* A value as the dtype holds it. */
double fake_round(int type, double value);
bool fake_is_float(int type);
bool fake_is_dense(const aclTensor *t);
/* Each says whether the operation is one of its own. */
bool fake_elementwise(enum ascend_op op, const argument *a, int count);
bool fake_moving(enum ascend_op op, const argument *a);
bool fake_reducing(enum ascend_op op, const argument *a);
bool fake_network(enum ascend_op op, const argument *a);
bool fake_attention(enum ascend_op op, const argument *a);

#endif
