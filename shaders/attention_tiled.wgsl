// Attention over a forest, rung 2: the keys come in blocks of 64 whose scores are computed once, each by a thread, and kept in
// workgroup memory; the softmax runs along (M. Milakov and N. Gimelshein, 2018, algorithm 3). Then a thread is a column.
//   s = scale · q·k;   of each block m' = max(m, max s),  l ← l e^(m − m') + Σ e^(s − m'),  o ← o e^(m − m') + Σ e^(s − m') v
// and at the end o / l, lse = m + log l. Shapes, paths and bindings are those of attention_plain. A workgroup a pair.
const KEYS: u32 = 64u;

struct Params { n_heads: u32, n_kv_heads: u32, e: u32, scale: f32, window: u32, n_tiles: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> tiles: array<u32>;
@group(0) @binding(4) var<storage, read> path_rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

var<workgroup> q_row: array<f32, 256>;
var<workgroup> tile: array<f32, KEYS>; // scores, then probabilities
var<workgroup> key_first: array<u32, KEYS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * groups.x + group.x;
    if index >= p.n_tiles {
        return;
    }
    let share = p.n_heads / p.n_kv_heads;
    let pair = tiles[index * 5u + 1u];
    let path = tiles[index * 5u + 4u];
    let out = (tiles[index * 5u] + pair / share) * p.n_heads + group.z * share + pair % share;
    let last = tiles[index * 5u + 3u] + pair / share;
    let first = select(0u, last + 1u - p.window, last >= p.window);
    for (var e = lane; e < p.e; e += 64u) {
        q_row[e] = q[out * p.e + e] * p.scale;
    }
    var largest = -3.0e38;
    var sum = 0.0;
    var acc = vec4<f32>();
    // Blocks start at multiples of 64 positions, whatever the window.
    for (var block = first / KEYS * KEYS; block <= last; block += KEYS) {
        workgroupBarrier();
        // A thread is a key.
        let x = block + lane;
        let key = (path_rows[path + min(x, last)] * p.n_kv_heads + group.z) * p.e;
        key_first[lane] = key;
        var s = 0.0;
        for (var e = 0u; e < p.e; e++) {
            s = fma(q_row[e], k[key + e], s);
        }
        tile[lane] = select(-3.0e38, s, x >= first && x <= last);
        workgroupBarrier();
        var larger = largest;
        for (var y = 0u; y < KEYS; y++) {
            larger = max(larger, tile[y]);
        }
        let shrink = exp(largest - larger);
        largest = larger;
        workgroupBarrier();
        tile[lane] = select(0.0, exp(tile[lane] - larger), x >= first && x <= last);
        workgroupBarrier();
        // A thread is a column, or up to four that are 64 apart.
        sum *= shrink;
        acc *= shrink;
        for (var y = 0u; y < KEYS; y++) {
            sum += tile[y];
            for (var c = 0u; c * 64u < p.e; c++) {
                acc[c] = fma(tile[y], v[key_first[y] + min(lane + c * 64u, p.e - 1u)], acc[c]);
            }
        }
    }
    for (var c = 0u; c * 64u < p.e; c++) {
        if lane + c * 64u < p.e {
            o[out * p.e + lane + c * 64u] = acc[c] / sum;
        }
    }
    if lane == 0u {
        lse[out] = largest + log(sum);
    }
}
