// Gradient of attention to the queries, rung 2: keys come in blocks of 64; first a thread is a key and finds ds once, then a
// column of dq. A workgroup a pair (query row, head of the group).
//   dq = Σ ds · k   over the keys that a query sees; ds as in attention_pairs.wgsl.   dq: [T, H, E]
const KEYS: u32 = 64u;
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

var<workgroup> ds_tile: array<f32, KEYS>;

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
    var acc = vec4<f32>();
    for (var block = 0u; block <= row; block += KEYS) {
        workgroupBarrier();
        let j = block + lane;
        ds_tile[lane] = 0.0;
        if j <= row && sees(row, j) {
            ds_tile[lane] = pair(query, j * p.n_kv_heads + group.z).y;
        }
        workgroupBarrier();
        for (var y = 0u; y < min(KEYS, row + 1u - block); y++) {
            let first = ((block + y) * p.n_kv_heads + group.z) * p.e;
            for (var c = 0u; c * 64u < p.e; c++) {
                acc[c] = fma(ds_tile[y], k[first + min(lane + c * 64u, p.e - 1u)], acc[c]);
            }
        }
    }
    for (var c = 0u; c * 64u < p.e; c++) {
        if lane + c * 64u < p.e {
            dq[query * p.e + lane + c * 64u] = acc[c];
        }
    }
}
