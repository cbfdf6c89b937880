// Gradient of attention to the queries, rung 1: a thread a number of dq, a workgroup 64 columns of a pair (query row, head of
// the group).
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
    let columns = (p.e + 63u) / 64u;
    let kv_head = group.z / columns;
    let column = group.z % columns * 64u + lane;
    if column >= p.e {
        return;
    }
    let query = row * p.n_heads + kv_head * share + index % share;
    var sum = 0.0;
    for (var j = 0u; j <= row; j++) {
        if sees(row, j) {
            let key = j * p.n_kv_heads + kv_head;
            sum = fma(pair(query, key).y, k[key * p.e + column], sum);
        }
    }
    dq[query * p.e + column] = sum;
}
