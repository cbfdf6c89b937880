// Gradient of attention to the keys and values, rung 2: query rows come in blocks of 64; first a thread is a query and finds p
// and ds once, then a column of dk and dv. A workgroup a key row and key head.
//   dv = Σ p · do,   dk = Σ ds · q   over the query rows that see a key and all heads of its group; p, ds as in attention_pairs.wgsl.
// dk, dv: [T, K, E]
const QUERIES: u32 = 64u;
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;

var<workgroup> tile: array<vec2<f32>, QUERIES>; // p and ds

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
    let key = row * p.n_kv_heads + group.z;
    let end = min(forest[p.t + row], p.t);
    var to_k = vec4<f32>();
    var to_v = vec4<f32>();
    for (var head = group.z * share; head < (group.z + 1u) * share; head++) {
        for (var block = row; block < end; block += QUERIES) {
            workgroupBarrier();
            let i = block + lane;
            tile[lane] = vec2<f32>();
            if i < end && sees(i, row) {
                tile[lane] = pair(i * p.n_heads + head, key);
            }
            workgroupBarrier();
            for (var y = 0u; y < min(QUERIES, end - block); y++) {
                let first = ((block + y) * p.n_heads + head) * p.e;
                for (var c = 0u; c * 64u < p.e; c++) {
                    let at = first + min(lane + c * 64u, p.e - 1u);
                    to_v[c] = fma(tile[y].x, d_o[at], to_v[c]);
                    to_k[c] = fma(tile[y].y, q[at], to_k[c]);
                }
            }
        }
    }
    for (var c = 0u; c * 64u < p.e; c++) {
        if lane + c * 64u < p.e {
            dk[key * p.e + lane + c * 64u] = to_k[c];
            dv[key * p.e + lane + c * 64u] = to_v[c];
        }
    }
}
