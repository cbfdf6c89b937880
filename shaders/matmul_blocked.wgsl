// Rung 4, blocked: a thread computes 8 × 8 outputs in registers, a workgroup of 256 threads 128 × 128; while a tile is
// multiplied the next one is already on its way from memory. Operands and C: matmul_operands.wgsl.
const DEPTH: u32 = 8u;

const TILE: u32 = 128u;
const STRIDE: u32 = 129u;
/// Values of a tile that each thread brings in.
const LOADS: u32 = TILE * DEPTH / 256u;
// [l][row of C] and [l][column of C], rows STRIDE apart.
var<workgroup> a_tile: array<f32, STRIDE * DEPTH>;
var<workgroup> b_tile: array<f32, STRIDE * DEPTH>;

fn next_a(i0: u32, l0: u32, end: u32, s: u32) -> f32 {
    // Neighbouring threads read neighbouring addresses, whatever the layout.
    let row = i0 + select(s / DEPTH, s % TILE, LAYOUT == 2u);
    let l = l0 + select(s % DEPTH, s / TILE, LAYOUT == 2u);
    if row < p.m && l < end {
        return load_a(row, l);
    }
    return 0.0;
}

fn next_b(j0: u32, l0: u32, end: u32, s: u32) -> f32 {
    let column = j0 + select(s % TILE, s / DEPTH, LAYOUT == 1u);
    let l = l0 + select(s / TILE, s % DEPTH, LAYOUT == 1u);
    if column < p.n && l < end {
        return load_b(l, column);
    }
    return 0.0;
}

fn store_four(slice: u32, i: u32, j: u32, sums: vec4<f32>) {
    for (var s = 0u; s < 4u; s++) {
        if i < p.m && j + 16u * s < p.n {
            store(slice, i, j + 16u * s, sums[s]);
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i0 = group.y * TILE;
    let j0 = group.x * TILE;
    let end = depth_end(group.z);
    // This thread's outputs: rows 8·(lane / 16) …+7, columns lane % 16 + 0, 16, … 112.
    let row = (lane / 16u) * 8u;
    let column = lane % 16u;
    var l0 = group.z * p.k_step;
    var av: array<f32, LOADS>;
    var bv: array<f32, LOADS>;
    for (var s = 0u; s < LOADS; s++) {
        av[s] = next_a(i0, l0, end, lane + 256u * s);
        bv[s] = next_b(j0, l0, end, lane + 256u * s);
    }
    var low0 = vec4<f32>(); var high0 = vec4<f32>();
    var low1 = vec4<f32>(); var high1 = vec4<f32>();
    var low2 = vec4<f32>(); var high2 = vec4<f32>();
    var low3 = vec4<f32>(); var high3 = vec4<f32>();
    var low4 = vec4<f32>(); var high4 = vec4<f32>();
    var low5 = vec4<f32>(); var high5 = vec4<f32>();
    var low6 = vec4<f32>(); var high6 = vec4<f32>();
    var low7 = vec4<f32>(); var high7 = vec4<f32>();
    while l0 < end {
        for (var s = 0u; s < LOADS; s++) {
            let at = lane + 256u * s;
            a_tile[select(at % DEPTH, at / TILE, LAYOUT == 2u) * STRIDE + select(at / DEPTH, at % TILE, LAYOUT == 2u)] = av[s];
            b_tile[select(at / TILE, at % DEPTH, LAYOUT == 1u) * STRIDE + select(at % TILE, at / DEPTH, LAYOUT == 1u)] = bv[s];
        }
        workgroupBarrier();
        l0 += DEPTH;
        for (var s = 0u; s < LOADS; s++) {
            av[s] = next_a(i0, l0, end, lane + 256u * s);
            bv[s] = next_b(j0, l0, end, lane + 256u * s);
        }
        for (var l = 0u; l < DEPTH; l++) {
            let at = l * STRIDE + row;
            let bt = l * STRIDE + column;
            let low = vec4<f32>(b_tile[bt], b_tile[bt + 16u], b_tile[bt + 32u], b_tile[bt + 48u]);
            let high = vec4<f32>(b_tile[bt + 64u], b_tile[bt + 80u], b_tile[bt + 96u], b_tile[bt + 112u]);
            let a0 = vec4<f32>(a_tile[at]);      low0 = fma(a0, low, low0); high0 = fma(a0, high, high0);
            let a1 = vec4<f32>(a_tile[at + 1u]); low1 = fma(a1, low, low1); high1 = fma(a1, high, high1);
            let a2 = vec4<f32>(a_tile[at + 2u]); low2 = fma(a2, low, low2); high2 = fma(a2, high, high2);
            let a3 = vec4<f32>(a_tile[at + 3u]); low3 = fma(a3, low, low3); high3 = fma(a3, high, high3);
            let a4 = vec4<f32>(a_tile[at + 4u]); low4 = fma(a4, low, low4); high4 = fma(a4, high, high4);
            let a5 = vec4<f32>(a_tile[at + 5u]); low5 = fma(a5, low, low5); high5 = fma(a5, high, high5);
            let a6 = vec4<f32>(a_tile[at + 6u]); low6 = fma(a6, low, low6); high6 = fma(a6, high, high6);
            let a7 = vec4<f32>(a_tile[at + 7u]); low7 = fma(a7, low, low7); high7 = fma(a7, high, high7);
        }
        workgroupBarrier();
    }
    let i = i0 + row;
    let j = j0 + column;
    store_four(group.z, i, j, low0);      store_four(group.z, i, j + 64u, high0);
    store_four(group.z, i + 1u, j, low1); store_four(group.z, i + 1u, j + 64u, high1);
    store_four(group.z, i + 2u, j, low2); store_four(group.z, i + 2u, j + 64u, high2);
    store_four(group.z, i + 3u, j, low3); store_four(group.z, i + 3u, j + 64u, high3);
    store_four(group.z, i + 4u, j, low4); store_four(group.z, i + 4u, j + 64u, high4);
    store_four(group.z, i + 5u, j, low5); store_four(group.z, i + 5u, j + 64u, high5);
    store_four(group.z, i + 6u, j, low6); store_four(group.z, i + 6u, j + 64u, high6);
    store_four(group.z, i + 7u, j, low7); store_four(group.z, i + 7u, j + 64u, high7);
}
