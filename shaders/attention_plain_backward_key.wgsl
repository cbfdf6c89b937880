// Gradient of attention to the keys and values, rung 1: a thread a column of dk and dv, a workgroup 64 columns of a key row and
// key head.
//   dv = Σ p · do,   dk = Σ ds · q   over the query rows that see a key and all heads of its group; p, ds as in attention_pairs.wgsl.
// dk, dv: [T, K, E]
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = p.n_heads / p.n_kv_heads;
    let row = group.y * groups.x + group.x;
    if row >= p.t {
        return;
    }
    let columns = (p.e + 63u) / 64u;
    let kv_head = group.z / columns;
    let column = group.z % columns * 64u + lane;
    if column >= p.e {
        return;
    }
    let key = row * p.n_kv_heads + kv_head;
    var to_k = 0.0;
    var to_v = 0.0;
    for (var head = kv_head * share; head < (kv_head + 1u) * share; head++) {
        for (var i = row; i < forest[p.t + row]; i++) {
            if sees(i, row) {
                let query = i * p.n_heads + head;
                let found = pair(query, key);
                to_v = fma(found.x, d_o[query * p.e + column], to_v);
                to_k = fma(found.y, q[query * p.e + column], to_k);
            }
        }
    }
    dk[key * p.e + column] = to_k;
    dv[key * p.e + column] = to_v;
}
