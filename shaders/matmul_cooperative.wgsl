// Cooperative: matrix units multiply SIZE × SIZE matrices of f16 and add in f32; a subgroup of threads holds 2 × 2 such sums,
// four subgroups 4 · SIZE outputs a side. A is rounded to f16 on its way into workgroup memory, the sums leave through it.
// Operands and C: matmul_operands.wgsl. The engine writes coop_mat16x16 for coop_mat8x8 where SIZE is 16.
enable f16;
enable wgpu_cooperative_matrix;

const SIZE: u32 = 8u;
/// Threads of a subgroup; the device has this size and no other.
const SUBGROUP: u32 = 8u;

const TILE: u32 = 4u * SIZE;
const DEPTH: u32 = 2u * SIZE;
const STRIDE: u32 = DEPTH + 8u;
const THREADS: u32 = 4u * SUBGROUP;
// [row of C][l] and [column of C][l], rows STRIDE apart; [row][column] of C.
var<workgroup> a_tile: array<f16, TILE * STRIDE>;
var<workgroup> b_tile: array<f16, TILE * STRIDE>;
var<workgroup> c_tile: array<f32, TILE * TILE>;

/// Rounded to f16; what f16 cannot hold becomes its largest number.
fn narrow(v: f32) -> f16 {
    return f16(clamp(v, -65504.0, 65504.0));
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
    for (var l0 = 0u; l0 < p.k; l0 += DEPTH) {
        for (var s = lane; s < TILE * DEPTH; s += THREADS) {
            let at = s / DEPTH;
            let l = l0 + s % DEPTH;
            var av = 0.0;
            var bv = 0.0;
            if i0 + at < p.m && l < p.k {
                av = load_a(i0 + at, l);
            }
            if j0 + at < p.n && l < p.k {
                bv = load_b(l, j0 + at);
            }
            a_tile[at * STRIDE + s % DEPTH] = narrow(av);
            b_tile[at * STRIDE + s % DEPTH] = narrow(bv);
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
            store(0u, i0 + s / TILE, j0 + s % TILE, c_tile[s]);
        }
    }
}
