// dynamic_update_slice for 16-bit storage: as dynamic_update_slice, but every word of y is written by its owner.
// Bindings: update, start0 .. startk (one i32 each), y. Parameters per dimension: most, extent, size, step of update.
fn value_y(i: u32) -> f32 {
    var rest = i;
    var at = 0u;
    var inside = true;
$FIND
    if inside {
        return load_update(at);
    }
    return load_y(i);
}
