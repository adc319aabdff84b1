// scatter_starts: y[r] = how many of the sorted keys are below r.
// Bindings: keys (u32, sorted), y (u32). Parameters: count (of keys).
fn value_y(i: u32) -> u32 {
    var low = 0u;
    var high = p.count;
    while low < high {
        let middle = (low + high) / 2u;
        if keys[middle] < i {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}
