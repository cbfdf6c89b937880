// Gradient of attention to the queries, rung 1: a thread a number of dq, a workgroup a pair (query row, head of the group).
//   dq = Σ ds · k   over the keys that a query sees; ds as in attention_pairs.wgsl.   dq: [T, H, E]
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = p.n_heads / p.n_kv_heads;
    let index = group.y * groups.x + group.x;
    let row = index / share;
    if row >= p.t {
        return;
    }
    let query = row * p.n_heads + group.z * share + index % share;
    for (var column = lane; column < p.e; column += 64u) {
        var sum = 0.0;
        for (var j = 0u; j <= row; j++) {
            if sees(row, j) {
                let key = j * p.n_kv_heads + group.z;
                sum = fma(pair(query, key).y, k[key * p.e + column], sum);
            }
        }
        dq[query * p.e + column] = sum;
    }
}
