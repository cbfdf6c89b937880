// Rung 2, tiled: a workgroup computes 16 × 16 outputs and shares 16 × 16 tiles of A and B, so that a value is read from
// memory once for 16 products. Operands and C: matmul_operands.wgsl.
var<workgroup> a_tile: array<f32, 272>;
var<workgroup> b_tile: array<f32, 272>;

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let i0 = group.y * 16u;
    let j0 = group.x * 16u;
    // Which element of a tile this thread brings in: neighbours read neighbours, whatever the layout. [row of C or
    // column of C][l], rows 17 apart.
    let a_row = select(local.y, local.x, LAYOUT == 2u);
    let a_l = select(local.x, local.y, LAYOUT == 2u);
    let b_column = select(local.x, local.y, LAYOUT == 1u);
    let b_l = select(local.y, local.x, LAYOUT == 1u);
    let end = depth_end(group.z);
    var sum = 0.0;
    for (var l0 = group.z * p.k_step; l0 < end; l0 += 16u) {
        var av = 0.0;
        var bv = 0.0;
        if i0 + a_row < p.m && l0 + a_l < end {
            av = load_a(i0 + a_row, l0 + a_l);
        }
        if j0 + b_column < p.n && l0 + b_l < end {
            bv = load_b(l0 + b_l, j0 + b_column);
        }
        a_tile[a_row * 17u + a_l] = av;
        b_tile[b_column * 17u + b_l] = bv;
        workgroupBarrier();
        for (var l = 0u; l < 16u; l++) {
            sum = fma(a_tile[local.y * 17u + l], b_tile[local.x * 17u + l], sum);
        }
        workgroupBarrier();
    }
    if i0 + local.y < p.m && j0 + local.x < p.n {
        store(group.z, i0 + local.y, j0 + local.x, sum);
    }
}
