// A plug-in for tests whose compiler of kernels is the machine's C++ compiler: Metal's language is C++, so with a few
// definitions for what Metal's library has, the kernels over single elements compile, and run one after the other. What
// uses vectors or threadgroup memory is refused, as a compiler may.
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "percept_plugin.h"

namespace {

const char *const library = R"(#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#define kernel
#define device
#define constant
#define thread
template <class T, class F> T as_type(F f) { T t; static_assert(sizeof t == sizeof f, ""); std::memcpy(&t, &f, sizeof t); return t; }
namespace metal {
typedef unsigned uint;
struct uint3 { uint x, y, z; };
inline float min(float a, float b) { return std::fmin(a, b); }
inline uint min(uint a, uint b) { return std::min(a, b); }
inline int min(int a, int b) { return std::min(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline uint max(uint a, uint b) { return std::max(a, b); }
inline int max(int a, int b) { return std::max(a, b); }
template <class T, class L, class H> T clamp(T x, L low, H high) { return min(max(x, T(low)), T(high)); }
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float rint(float x) { return std::nearbyint(x); }
inline float floor(float x) { return std::floor(x); }
inline float ceil(float x) { return std::ceil(x); }
inline float sqrt(float x) { return std::sqrt(x); }
inline float abs(float x) { return std::fabs(x); }
template <class T> T select(T a, T b, bool c) { return c ? b : a; }
inline uint clz(uint x) { return x ? __builtin_clz(x) : 32; }
}
)";

// Calls `main_` for every invocation, with the buffers in the order of its arguments.
const char *const caller = R"(
template <class... A, std::size_t... I>
void each(void (*f)(metal::uint3, metal::uint3, unsigned, A &...), void **b, const unsigned *n, unsigned lanes, std::index_sequence<I...>) {
    for (unsigned z = 0; z < n[2]; z++) for (unsigned y = 0; y < n[1]; y++) for (unsigned x = 0; x < n[0]; x++)
        for (unsigned lane = 0; lane < lanes; lane++)
            f(metal::uint3{x, y, z}, metal::uint3{n[0], n[1], n[2]}, lane, *reinterpret_cast<A *>(b[I])...);
}
template <class... A> void all(void (*f)(metal::uint3, metal::uint3, unsigned, A &...), void **b, const unsigned *n, unsigned lanes) {
    each(f, b, n, lanes, std::index_sequence_for<A...>());
}
extern "C" void run(void **buffers, const unsigned *groups, unsigned lanes) { all(main_, buffers, groups, lanes); }
)";

using Run = void (*)(void **, const unsigned *, unsigned);

} // namespace

struct percept_device_s {
    std::string folder;
    unsigned compiled = 0;
};
struct percept_queue_s {
    percept_device *device;
};
struct percept_memory_s {
    void *block;
    unsigned char *bytes;
};
struct percept_kernel_s {
    Run run;
    unsigned lanes;
};

namespace {

percept_status device_open(const percept_option *, uint64_t, percept_device **device, percept_message *message) {
    char name[] = "/tmp/metal.XXXXXX";
    if (!mkdtemp(name)) return percept_fail(message, PERCEPT_FAILED, "no folder can be made");
    *device = new percept_device_s;
    (*device)->folder = name;
    std::ofstream((*device)->folder + "/metal_stdlib") << library;
    if (std::system(("mkdir " + (*device)->folder + "/simd && touch " + (*device)->folder + "/simd/simd.h").c_str()) != 0)
        return percept_fail(message, PERCEPT_FAILED, "no folder can be made");
    return PERCEPT_OK;
}

void device_close(percept_device *device) {
    if (std::system(("rm -r " + device->folder).c_str()) != 0) std::perror("rm");
    delete device;
}

percept_status device_info(percept_device *, percept_device_info *info, percept_message *) {
    std::snprintf(info->name, sizeof info->name, "metal");
    info->dtypes = 1u << PERCEPT_F32 | 1u << PERCEPT_I32;
    info->max_buffer_bytes = uint64_t(1) << 32;
    info->flags = PERCEPT_DEVICE_SOFTWARE | PERCEPT_DEVICE_SYNCHRONOUS;
    return PERCEPT_OK;
}

percept_status memory_new(percept_device *, uint64_t bytes, percept_memory **memory, percept_message *message) {
    void *block = std::malloc(bytes + 255);
    if (!block) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory");
    auto address = (reinterpret_cast<uintptr_t>(block) + 255) & ~uintptr_t(255);
    *memory = new percept_memory_s{block, reinterpret_cast<unsigned char *>(address)};
    return PERCEPT_OK;
}

void memory_free(percept_device *, percept_memory *memory) {
    std::free(memory->block);
    delete memory;
}

percept_status queue_new(percept_device *device, percept_queue **queue, percept_message *) {
    *queue = new percept_queue_s{device};
    return PERCEPT_OK;
}

void queue_free(percept_device *, percept_queue *queue) { delete queue; }

unsigned char *at(const percept_span *span) { return span->memory->bytes + span->offset; }

percept_status queue_write(percept_queue *, const percept_span *to, const void *bytes, percept_message *) {
    std::memcpy(at(to), bytes, to->bytes);
    return PERCEPT_OK;
}

percept_status queue_read(percept_queue *, const percept_span *from, void *bytes, percept_message *) {
    std::memcpy(bytes, at(from), from->bytes);
    return PERCEPT_OK;
}

percept_status queue_wait(percept_queue *, percept_message *) { return PERCEPT_OK; }

void *memory_address(percept_device *, percept_memory *memory) { return memory->bytes; }

percept_status limits(percept_device *, percept_kernel_limits *limits, percept_message *) {
    limits->language = PERCEPT_MSL;
    return PERCEPT_OK;
}

percept_status kernel_new(percept_device *device, const percept_module *module, percept_kernel **kernel,
                          percept_message *message) {
    std::string source(static_cast<const char *>(module->source), module->source_bytes);
    for (const char *word : {"float4", "float2", "uint2", "uint4", "int4", "half", "threadgroup ", "atomic", "bool3"})
        if (source.find(word) != std::string::npos)
            return percept_fail(message, PERCEPT_UNSUPPORTED, "%s uses %s", module->key, word);
    std::string name = device->folder + "/" + std::to_string(device->compiled++);
    std::ofstream(name + ".cpp") << source << caller;
    std::string command = "c++ -std=c++17 -w -O1 -ffp-contract=off -fPIC -shared -I" + device->folder + " " + name + ".cpp -o " +
                          name + ".so 2> " + name + ".log";
    if (std::system(command.c_str()) != 0) {
        std::string line;
        std::ifstream log(name + ".log");
        while (std::getline(log, line) && line.find("error") == std::string::npos) {
        }
        return percept_fail(message, PERCEPT_FAILED, "%s: %s", module->key, line.c_str());
    }
    void *loaded = dlopen((name + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
    auto run = loaded ? reinterpret_cast<Run>(dlsym(loaded, "run")) : nullptr;
    if (!run) return percept_fail(message, PERCEPT_FAILED, "%s", dlerror());
    *kernel = new percept_kernel_s{run, module->workgroup_size[0] * module->workgroup_size[1] * module->workgroup_size[2]};
    return PERCEPT_OK;
}

void kernel_free(percept_device *, percept_kernel *kernel) { delete kernel; }

percept_status dispatch(percept_queue *, const percept_dispatch *const *dispatches, uint64_t count, uint64_t *,
                        percept_message *) {
    for (uint64_t d = 0; d < count; d++) {
        const percept_dispatch *one = dispatches[d];
        std::vector<uint32_t> parameters(one->parameters, one->parameters + one->parameter_words), sizes;
        std::vector<void *> buffers{parameters.data()};
        for (uint64_t b = 0; b < one->binding_count; b++) {
            buffers.push_back(at(&one->bindings[b]));
            sizes.push_back(uint32_t(one->bindings[b].bytes));
        }
        buffers.push_back(sizes.data());
        one->kernel->run(buffers.data(), one->groups, one->kernel->lanes);
    }
    return PERCEPT_OK;
}

const percept_devices devices = {sizeof(percept_devices), device_open, device_close, device_info, memory_new,
    memory_free, queue_new, queue_free, queue_write, queue_read, queue_wait, nullptr, memory_address, nullptr, nullptr,
    nullptr, nullptr, nullptr, nullptr};
const percept_kernels kernels = {sizeof(percept_kernels), limits, kernel_new, kernel_free, dispatch};
const percept_plugin plugin = {sizeof(percept_plugin), PERCEPT_ABI_VERSION, 1, "metal", "1", nullptr, &devices, nullptr,
    &kernels, nullptr, nullptr};

} // namespace

PERCEPT_EXPORT const percept_plugin *percept_plugin_entry(const percept_host *, percept_message *) { return &plugin; }
