/* The entry: a plug-in of Percept's whose op library is AscendCL and aclnn. */
#include "plugin.h"

/* device: its number. libraries: the directory of libascendcl.so and the others. cube: cubeMathType of products, 0 to
   keep the dtype. minima: "offset" lets 4-bit weights with minima use the library's fused product. */
static const char *const options[] = {"device", "libraries", "cube", "minima", NULL};

static const percept_plugin plugin = {
    .struct_size = sizeof(percept_plugin),
    .abi_version = PERCEPT_ABI_VERSION,
    .oldest_abi_version = 1,
    .name = "ascend",
    .version = "1.0",
    .options = options,
    .devices = &ascend_devices,
    .oplib = &ascend_oplib,
};

const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message) {
    (void)host;
    (void)message;
    return &plugin;
}
