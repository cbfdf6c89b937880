// For at most ROWS rows (decoding, LoRA's small sides): a value of B is read once and used for all rows of A. SPLIT threads share a
// column, each takes every SPLIT-th l, and a tree adds their sums: 16 where B's rows run along l (layout 1), else 1. Operands and C: matmul_operands.wgsl.
const ROWS: u32 = 8u;
const SPLIT: u32 = 1u;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let j = (group.y * groups.x + group.x) * (64u / SPLIT) + lane / SPLIT;
    let part = lane % SPLIT;
    var sum: array<f32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        sum[i] = 0.0;
    }
    if j < p.n {
        for (var l = group.z * p.k_step + part; l < depth_end(group.z); l += SPLIT) {
            let bv = load_b(l, j);
            for (var i = 0u; i < ROWS; i++) {
                sum[i] = fma(load_a(min(i, p.m - 1u), l), bv, sum[i]);
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        if SPLIT > 1u {
            sums[lane] = sum[i];
            workgroupBarrier();
            for (var half = SPLIT / 2u; half > 0u; half >>= 1u) {
                if part < half {
                    sums[lane] += sums[lane + half];
                }
                workgroupBarrier();
            }
            sum[i] = sums[lane];
            workgroupBarrier();
        }
        if part == 0u && i < p.m && j < p.n {
            store(group.z, i, j, sum[i]);
        }
    }
}
