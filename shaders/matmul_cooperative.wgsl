// Cooperative: matrix units multiply SIZE × SIZE matrices of f16 and add in f32; a subgroup of threads holds 2 × 2 such sums,
// four subgroups 4 · SIZE outputs a side. B is f16. Row i of A is multiplied by scale[i], a power of two (row_scales.wgsl), and
// rounded to f16 on its way into workgroup memory; the sums leave through it and are divided by scale[i], which is exact.
// Operands and C: matmul_operands.wgsl. The engine writes coop_mat16x16 for coop_mat8x8 where SIZE is 16.
enable f16;
enable wgpu_cooperative_matrix;

const SIZE: u32 = 8u;
/// Threads of a subgroup: of the sizes that a device has the smallest that gives the right values (engine/src/gpu/rungs.rs).
const SUBGROUP: u32 = 8u;

const TILE: u32 = 4u * SIZE;
const DEPTH: u32 = 2u * SIZE;
const STRIDE: u32 = DEPTH + 8u;
const THREADS: u32 = 4u * SUBGROUP;
@group(0) @binding(3) var<storage, read> scale: array<f32>;
// [row of C][l] and [column of C][l], rows STRIDE apart; [row][column] of C; [row of C].
var<workgroup> a_tile: array<f16, TILE * STRIDE>;
var<workgroup> b_tile: array<f16, TILE * STRIDE>;
var<workgroup> c_tile: array<f32, TILE * TILE>;
var<workgroup> row_scale: array<f32, TILE>;

/// 1 / 2^e, exactly: the exponents' bits add up to 254.
fn inverse(power: f32) -> f32 {
    return bitcast<f32>(0x7F000000u - bitcast<u32>(power));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i0 = group.y * TILE;
    let j0 = group.x * TILE;
    let row = (lane / (2u * SUBGROUP)) * 2u * SIZE;
    let column = ((lane / SUBGROUP) % 2u) * 2u * SIZE;
    var sum00: coop_mat8x8<f32,C>;
    var sum01: coop_mat8x8<f32,C>;
    var sum10: coop_mat8x8<f32,C>;
    var sum11: coop_mat8x8<f32,C>;
    for (var s = lane; s < TILE; s += THREADS) {
        row_scale[s] = scale[min(i0 + s, p.m - 1u)];
    }
    workgroupBarrier();
    for (var l0 = 0u; l0 < p.k; l0 += DEPTH) {
        for (var s = lane; s < TILE * DEPTH; s += THREADS) {
            // Neighbouring threads read neighbouring addresses, whatever the layout.
            let a_row = s / DEPTH;
            let a_l = s % DEPTH;
            let b_column = select(s % TILE, s / DEPTH, LAYOUT == 1u);
            let b_l = select(s / TILE, s % DEPTH, LAYOUT == 1u);
            var av = 0.0;
            var bv = 0.0;
            if i0 + a_row < p.m && l0 + a_l < p.k {
                av = load_a(i0 + a_row, l0 + a_l) * row_scale[a_row];
            }
            if j0 + b_column < p.n && l0 + b_l < p.k {
                bv = load_b(l0 + b_l, j0 + b_column);
            }
            a_tile[a_row * STRIDE + a_l] = f16(av);
            b_tile[b_column * STRIDE + b_l] = f16(bv);
        }
        workgroupBarrier();
        for (var l = 0u; l < DEPTH; l += SIZE) {
            let a0 = coopLoadT<coop_mat8x8<f16,A>>(&a_tile[row * STRIDE + l], STRIDE);
            let a1 = coopLoadT<coop_mat8x8<f16,A>>(&a_tile[(row + SIZE) * STRIDE + l], STRIDE);
            let b0 = coopLoad<coop_mat8x8<f16,B>>(&b_tile[column * STRIDE + l], STRIDE);
            let b1 = coopLoad<coop_mat8x8<f16,B>>(&b_tile[(column + SIZE) * STRIDE + l], STRIDE);
            sum00 = coopMultiplyAdd(a0, b0, sum00);
            sum01 = coopMultiplyAdd(a0, b1, sum01);
            sum10 = coopMultiplyAdd(a1, b0, sum10);
            sum11 = coopMultiplyAdd(a1, b1, sum11);
        }
        workgroupBarrier();
    }
    coopStoreT(sum00, &c_tile[row * TILE + column], TILE);
    coopStoreT(sum01, &c_tile[row * TILE + column + SIZE], TILE);
    coopStoreT(sum10, &c_tile[(row + SIZE) * TILE + column], TILE);
    coopStoreT(sum11, &c_tile[(row + SIZE) * TILE + column + SIZE], TILE);
    workgroupBarrier();
    for (var s = lane; s < TILE * TILE; s += THREADS) {
        if i0 + s / TILE < p.m && j0 + s % TILE < p.n {
            store(0u, i0 + s / TILE, j0 + s % TILE, c_tile[s] * inverse(row_scale[s / TILE]));
        }
    }
}
