    let sum = subgroupAdd(own);
    if lane % $SIZEu == 0u {
        parts[lane / $SIZEu] = sum;
    }
    workgroupBarrier();
    var y0_0 = parts[0];
    for (var i = 1u; i < $LANESu / $SIZEu; i++) {
        y0_0 += parts[i];
    }
