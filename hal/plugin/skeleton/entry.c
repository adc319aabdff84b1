/* ---- The entry ------------------------------------------------------------------------------------------------ */

static const char *const options[] = {"index", NULL};

static const percept_plugin plugin = {
    sizeof(percept_plugin), PERCEPT_ABI_VERSION, /* the oldest host */ 1, "NAME", "0.1", options, &devices,
    TABLES, /* collectives */ NULL};

PERCEPT_EXPORT const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message) {
    (void)host, (void)message;
    return &plugin;
}
