/* Loads the libraries and looks every name up in all of them, since where a function lives differs between releases. */
#include <dlfcn.h>
#include <pthread.h>

#include "plugin.h"

/* The runtime first: the others need it. Of newer releases libopapi is split. */
static const char *const NAMES[] = {
    "libascendcl.so",        "libnnopbase.so",        "libcust_opapi.so",        "libopapi.so",
    "libopapi_nn.so",        "libopapi_math.so",      "libopapi_transformer.so", "libaclnn_math.so",
    "libaclnn_ops_infer.so", "libaclnn_ops_train.so", "libaclnn_sparse.so",      "libaclnn_rand.so",
};
enum { LIBRARIES = sizeof NAMES / sizeof NAMES[0] };

static void *handles[LIBRARIES];
static functions table;
static bool loaded;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* A function by its name. ISO C has no cast from an object pointer to one, so its bytes are copied. */
static bool find(const char *name, void *function) {
    for (int i = 0; i < LIBRARIES; i++) {
        void *symbol = handles[i] ? dlsym(handles[i], name) : NULL;
        if (symbol) {
            memcpy(function, &symbol, sizeof symbol);
            return true;
        }
    }
    return false;
}

static bool load(const char *directory, percept_message *message) {
    char path[1024];
    char first[512] = "";
    for (int i = 0; i < LIBRARIES; i++) {
        int n = snprintf(path, sizeof path, "%s%s%s", directory, directory[0] ? "/" : "", NAMES[i]);
        if (n < 0 || (size_t)n >= sizeof path) {
            percept_fail(message, PERCEPT_INVALID, "the option libraries is longer than %d characters",
                         (int)sizeof path);
            return false;
        }
        if (!handles[i]) handles[i] = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (!handles[i] && !first[0]) (void)snprintf(first, sizeof first, "%s", dlerror());
    }
    const char *missing = NULL;
#define LOOK_UP(result, name, parameters)                                                                              \
    if (!find(#name, &table.name) && !missing) missing = #name;
    ASCEND_RUNTIME(LOOK_UP)
    ASCEND_OBJECTS(LOOK_UP)
#undef LOOK_UP
    if (missing) {
        percept_fail(message, PERCEPT_FAILED,
                     "no library of CANN has %s%s%s; source set_env.sh of the toolkit, or give ?libraries=DIRECTORY",
                     missing, first[0] ? ": " : "", first);
        return false;
    }
#define LOOK_UP(X, signature)                                                                                          \
    table.ops[ASCEND_##X].name = "aclnn" #X;                                                                           \
    if (!find("aclnn" #X "GetWorkspaceSize", &table.ops[ASCEND_##X].phase_one) ||                                      \
        !find("aclnn" #X, &table.ops[ASCEND_##X].phase_two))                                                           \
        table.ops[ASCEND_##X].phase_one = NULL;
    ASCEND_OPS(LOOK_UP)
#undef LOOK_UP
    aclError status = table.aclInit(NULL);
    if (status != 0 && status != ASCEND_REPEATED_INITIALIZE) {
        percept_fail(message, PERCEPT_FAILED, "aclInit gives error %d", (int)status);
        return false;
    }
    return true;
}

const functions *ascend_functions(const char *directory, percept_message *message) {
    pthread_mutex_lock(&loading);
    loaded = loaded || load(directory, message);
    const functions *result = loaded ? &table : NULL;
    pthread_mutex_unlock(&loading);
    return result;
}
