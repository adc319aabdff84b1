/* ---- The graph compiler --------------------------------------------------------------------------------------- */

/*
 * HERE: hand the graph to the chip's compiler. What stands here reads Percept's text form, and no more of it than the
 * operations that are never asked about: they give an input's bytes, or a constant.
 *
 *   graph "name"
 *   %0:f32[2,3] = input "x" data
 *   %1:f32[6] = reshape(dims:[6]) %0
 *   %2:f32[6] = constant((ty:"f32[6]",splat:Some(7.0)))
 *   output "y" %1
 */

/* What a value is. */
struct value {
    long input; /* the input whose bytes it has, or -1 */
    float fill; /* else every element */
};

struct percept_executable_s {
    struct value *outputs;
    uint64_t count;
};

static percept_status supports(percept_device *device, const percept_op *op, percept_message *message) {
    (void)device;
    return percept_fail(message, PERCEPT_UNSUPPORTED, "%s is not written yet", op->name);
}

static void executable_free(percept_device *device, percept_executable *executable) {
    (void)device;
    free(executable->outputs);
    free(executable);
}

/* The number behind the last '%' of a line, or -1. */
static long last_value(const char *line) {
    const char *sign = strrchr(line, '%');
    return sign ? strtol(sign + 1, NULL, 10) : -1;
}

/* Read one line; what it says of a value is added to `values`. False when it is not understood. */
static int read_line(char *line, struct value *values, long *known, percept_executable *made, uint64_t outputs) {
    char *right = strstr(line, " = ");
    char *path = strstr(line, "  ; ");
    struct value value = {-1, 0};
    long from;
    if (path) *path = 0; /* the place in the model */
    from = last_value(line);
    if (strncmp(line, "output ", 7) == 0) {
        if (from < 0 || from >= *known || made->count >= outputs) return 0;
        made->outputs[made->count++] = values[from];
        return 1;
    }
    if (line[0] != '%' || !right) return strncmp(line, "graph ", 6) == 0;
    right += 3;
    if (strncmp(right, "input ", 6) == 0) {
        value.input = *known;
    } else if (strncmp(right, "constant((ty:\"f32", 17) == 0 && strstr(right, "splat:Some(")) {
        value.fill = (float)strtod(strstr(right, "splat:Some(") + 11, NULL);
    } else if (from >= 0 && from < *known && strstr(right, " %")) {
        value = values[from];
    } else {
        return 0;
    }
    values[(*known)++] = value;
    return 1;
}

static percept_status compile(percept_device *device, const percept_graph *graph, percept_executable **executable,
                              percept_message *message) {
    size_t size = (size_t)graph->source_bytes, lines = 2, i;
    char *text = (char *)malloc(size + 1), *line, *next;
    struct value *values = NULL;
    long known = 0;
    percept_status status = PERCEPT_OK;
    percept_executable *made = (percept_executable *)calloc(1, sizeof *made);
    (void)device;
    if (text) memcpy(text, graph->source, size + 1);
    for (i = 0; text && i < size; i++) lines += text[i] == '\n';
    values = (struct value *)calloc(lines, sizeof *values);
    if (made) made->outputs = (struct value *)calloc((size_t)graph->output_count + 1, sizeof *made->outputs);
    if (!text || !values || !made || !made->outputs)
        status = percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for a graph");
    for (line = text; status == PERCEPT_OK && line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        if (!read_line(line, values, &known, made, graph->output_count))
            status = percept_fail(message, PERCEPT_UNSUPPORTED, "not written yet: %s", line);
    }
    free(text);
    free(values);
    if (status == PERCEPT_OK)
        *executable = made;
    else if (made)
        executable_free(device, made);
    return status;
}

/* Outputs may lie where inputs were, so all are made before one is written. */
static percept_status run(percept_queue *queue, percept_executable *executable, const percept_span *inputs,
                          uint64_t input_count, const percept_span *outputs, uint64_t output_count,
                          percept_message *message) {
    uint64_t i, total = 1, place = 0;
    unsigned char *all;
    (void)queue, (void)input_count;
    for (i = 0; i < output_count; i++) total += outputs[i].bytes;
    all = (unsigned char *)malloc((size_t)total);
    if (!all) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for a run");
    for (i = 0; i < output_count; place += outputs[i++].bytes) {
        const struct value *value = &executable->outputs[i];
        size_t bytes = (size_t)outputs[i].bytes, b;
        if (value->input >= 0)
            memcpy(all + place, at(&inputs[value->input]), bytes);
        else
            for (b = 0; b + sizeof(float) <= bytes; b += sizeof(float)) memcpy(all + place + b, &value->fill, sizeof(float));
    }
    for (place = 0, i = 0; i < output_count; place += outputs[i++].bytes)
        memcpy(at(&outputs[i]), all + place, (size_t)outputs[i].bytes);
    free(all);
    return PERCEPT_OK;
}

static const percept_graphs graphs = {
    sizeof(percept_graphs), PERCEPT_TEXT_FORM, 0, supports, compile, executable_free, run};

