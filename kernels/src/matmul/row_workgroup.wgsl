    parts[lane] = own;
    workgroupBarrier();
    for (var distance = $LANESu / 2u; distance > 0u; distance = distance >> 1u) {
        if lane < distance {
            parts[lane] += parts[lane + distance];
        }
        workgroupBarrier();
    }
    let y0_0 = parts[0];
