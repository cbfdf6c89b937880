// Attention over a forest, rung 1: the equation as it stands, a thread a number of the output. Nothing is shared: each thread
// computes all scores of its query twice, once for their maximum and once for the sums.
//   s = scale · q·k,   o = Σ e^(s − max) v / Σ e^(s − max),   lse = max + log Σ e^(s − max)   over the keys that a query sees.
// q, o: [T, H, E]; k, v: [S, K, E]; lse: [T, H]. The query row at position `pos` of a run sees the key rows
// path_rows[path_offset + x] for x in max(0, pos + 1 − window) ..= pos. A workgroup 64 columns of a pair (query, head of the group).
struct Params { n_heads: u32, n_kv_heads: u32, e: u32, scale: f32, window: u32, n_tiles: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// Per pair: first query row of its run, the pair's place in the run, pairs of the run, position of the run's first query,
// where its path starts.
@group(0) @binding(3) var<storage, read> tiles: array<u32>;
@group(0) @binding(4) var<storage, read> path_rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

/// Four entries a round: Mesa's software Vulkan breaks off all loops of a thread after 65,535 rounds.
fn score(query: u32, key: u32) -> f32 {
    var sum = 0.0;
    var e = 0u;
    for (; e + 4u <= p.e; e += 4u) {
        let four = vec4<f32>(q[query + e], q[query + e + 1u], q[query + e + 2u], q[query + e + 3u]) * p.scale;
        sum += dot(four, vec4<f32>(k[key + e], k[key + e + 1u], k[key + e + 2u], k[key + e + 3u]));
    }
    for (; e < p.e; e++) {
        sum = fma(q[query + e] * p.scale, k[key + e], sum);
    }
    return sum;
}

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
    let columns = (p.e + 63u) / 64u;
    let kv_head = group.z / columns;
    let column = group.z % columns * 64u + lane;
    if column >= p.e {
        return;
    }
    let pair = tiles[index * 5u + 1u];
    let path = tiles[index * 5u + 4u];
    let out = (tiles[index * 5u] + pair / share) * p.n_heads + kv_head * share + pair % share;
    let last = tiles[index * 5u + 3u] + pair / share;
    let first = select(0u, last + 1u - p.window, last >= p.window);
    var largest = -3.0e38;
    for (var x = first; x <= last; x++) {
        largest = max(largest, score(out * p.e, (path_rows[path + x] * p.n_kv_heads + kv_head) * p.e));
    }
    var sum = 0.0;
    var acc = 0.0;
    for (var x = first; x <= last; x++) {
        let key = (path_rows[path + x] * p.n_kv_heads + kv_head) * p.e;
        let probability = exp(score(out * p.e, key) - largest);
        sum += probability;
        acc = fma(probability, v[key + column], acc);
    }
    o[out * p.e + column] = acc / sum;
    if column == 0u {
        lse[out] = largest + log(sum);
    }
}
