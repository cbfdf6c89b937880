// Rung 3, register-tiled: a thread computes 4 × 4 outputs in registers, a workgroup of 256 threads 64 × 64. Four values of
// A and four of B read from workgroup memory serve sixteen products. Operands and C: matmul_operands.wgsl.
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const STRIDE: u32 = 65u;
// [l][row of C] and [l][column of C], rows STRIDE apart.
var<workgroup> a_tile: array<f32, 1040>;
var<workgroup> b_tile: array<f32, 1040>;

fn store_row(slice: u32, i: u32, j: u32, sums: vec4<f32>) {
    if i >= p.m {
        return;
    }
    for (var s = 0u; s < 4u; s++) {
        if j + 16u * s < p.n {
            store(slice, i, j + 16u * s, sums[s]);
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i0 = group.y * TILE;
    let j0 = group.x * TILE;
    // This thread's outputs: rows 4·(lane / 16) …+3, columns lane % 16 + 0, 16, 32, 48.
    let row = (lane / 16u) * 4u;
    let column = lane % 16u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    let end = depth_end(group.z);
    for (var l0 = group.z * p.k_step; l0 < end; l0 += DEPTH) {
        for (var s = lane; s < TILE * DEPTH; s += 256u) {
            // Neighbouring threads read neighbouring addresses, whatever the layout.
            let a_row = select(s / DEPTH, s % TILE, LAYOUT == 2u);
            let a_l = select(s % DEPTH, s / TILE, LAYOUT == 2u);
            let b_column = select(s % TILE, s / DEPTH, LAYOUT == 1u);
            let b_l = select(s / TILE, s % DEPTH, LAYOUT == 1u);
            var av = 0.0;
            var bv = 0.0;
            if i0 + a_row < p.m && l0 + a_l < end {
                av = load_a(i0 + a_row, l0 + a_l);
            }
            if j0 + b_column < p.n && l0 + b_l < end {
                bv = load_b(l0 + b_l, j0 + b_column);
            }
            a_tile[a_l * STRIDE + a_row] = av;
            b_tile[b_l * STRIDE + b_column] = bv;
        }
        workgroupBarrier();
        for (var l = 0u; l < DEPTH; l++) {
            let at = l * STRIDE + row;
            let bt = l * STRIDE + column;
            let bv = vec4<f32>(b_tile[bt], b_tile[bt + 16u], b_tile[bt + 32u], b_tile[bt + 48u]);
            sum0 = fma(vec4<f32>(a_tile[at]), bv, sum0);
            sum1 = fma(vec4<f32>(a_tile[at + 1u]), bv, sum1);
            sum2 = fma(vec4<f32>(a_tile[at + 2u]), bv, sum2);
            sum3 = fma(vec4<f32>(a_tile[at + 3u]), bv, sum3);
        }
        workgroupBarrier();
    }
    store_row(group.z, i0 + row, j0 + column, sum0);
    store_row(group.z, i0 + row + 1u, j0 + column, sum1);
    store_row(group.z, i0 + row + 2u, j0 + column, sum2);
    store_row(group.z, i0 + row + 3u, j0 + column, sum3);
}
