// Gradient of attention to the keys and values (T. Dao et al., "FlashAttention", NeurIPS 2022, algorithm 4), by key block:
//   p = e^(scale·q·k − lse),   dv = Σ p · do,   ds = p · (do·v − δ) · scale,   dk = Σ ds · q
// over the query rows that see a key and all heads of its group, in ascending order: no atomics.
// q, do: [T, H, E]; k, v, dk, dv: [T, K, E]; lse, δ: [T, H]. Row i sees row j ⟺ j ≤ i < end[j], position[i] − position[j] < window.
//
// A workgroup owns ROWS = 4·QUADS key rows of one key head and walks over the rows from its first to the last that sees one
// of its keys, in blocks of 64: first a thread is a query (p and ds of all keys), then a column of dk and dv.
const QUADS: u32 = 4u;
const COLUMNS: u32 = 1u;
const ROWS: u32 = QUADS * 4u;
const QUERIES: u32 = 64u;
const FOUR: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

struct Params { n_heads: u32, n_kv_heads: u32, e: u32, scale: f32, window: u32, t: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> d_o: array<f32>;
// lse and δ one after the other: [2, T, H].
@group(0) @binding(4) var<storage, read> lse_delta: array<f32>;
// positions [T], ends [T], then of each block of 64 rows: largest end, lowest and highest position [3, ⌈T/64⌉].
@group(0) @binding(5) var<storage, read> forest: array<u32>;
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;

var<workgroup> k_tile: array<vec4<f32>, COLUMNS * 64u * QUADS>; // [e][quad]: four keys side by side
var<workgroup> v_tile: array<vec4<f32>, COLUMNS * 64u * QUADS>;
var<workgroup> p_tile: array<vec4<f32>, QUERIES * QUADS>; // [query][quad]
var<workgroup> ds_tile: array<vec4<f32>, QUERIES * QUADS>;
// Of the keys, the same for all threads: not in registers, which the sums need.
var<workgroup> positions: array<vec4<u32>, QUADS>;
var<workgroup> ends: array<vec4<u32>, QUADS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.z;
    let share = p.n_heads / p.n_kv_heads;
    let key0 = (group.y * groups.x + group.x) * ROWS;
    if key0 >= p.t {
        return;
    }
    let key_last = min(key0 + ROWS, p.t) - 1u;

    for (var s = lane; s < p.e * QUADS; s += 64u) {
        let key = min(vec4<u32>(key0 + (s % QUADS) * 4u) + FOUR, vec4<u32>(key_last));
        let at = (key * p.n_kv_heads + kv_head) * p.e + s / QUADS;
        k_tile[s] = vec4<f32>(k[at.x], k[at.y], k[at.z], k[at.w]) * p.scale;
        v_tile[s] = vec4<f32>(v[at.x], v[at.y], v[at.z], v[at.w]);
    }
    var acc_k: array<vec4<f32>, QUADS * COLUMNS>;
    var acc_v: array<vec4<f32>, QUADS * COLUMNS>;
    if lane < QUADS {
        let key = min(vec4<u32>(key0 + lane * 4u) + FOUR, vec4<u32>(key_last));
        positions[lane] = vec4<u32>(forest[key.x], forest[key.y], forest[key.z], forest[key.w]);
        let end = key + p.t;
        ends[lane] = vec4<u32>(forest[end.x], forest[end.y], forest[end.z], forest[end.w]);
    }
    for (var a = 0u; a < QUADS * COLUMNS; a++) {
        acc_k[a] = vec4<f32>();
        acc_v[a] = vec4<f32>();
    }
    var last_end = forest[p.t + key0];
    var position_high = forest[key0];
    for (var key = key0 + 1u; key <= key_last; key++) {
        last_end = max(last_end, forest[p.t + key]);
        position_high = max(position_high, forest[key]);
    }
    let n_blocks = (p.t + QUERIES - 1u) / QUERIES;
    workgroupBarrier();

    for (var block = key0 / QUERIES; block * QUERIES < last_end; block++) {
        let block_low = forest[2u * p.t + n_blocks + block];
        if block_low > position_high && block_low - position_high >= p.window {
            continue;
        }
        let n_queries = min(QUERIES, p.t - block * QUERIES);
        let i = min(block * QUERIES + lane, p.t - 1u);
        let exists = lane < n_queries;
        let position = forest[i];
        for (var g = 0u; g < share; g++) {
            // A thread is a query.
            let head = i * p.n_heads + kv_head * share + g;
            var scores: array<vec4<f32>, QUADS>;
            var dp: array<vec4<f32>, QUADS>;
            for (var a = 0u; a < QUADS; a++) {
                scores[a] = vec4<f32>();
                dp[a] = vec4<f32>();
            }
            for (var e = 0u; e < p.e; e++) {
                let qv = vec4<f32>(q[head * p.e + e]);
                let dov = vec4<f32>(d_o[head * p.e + e]);
                for (var a = 0u; a < QUADS; a++) {
                    scores[a] = fma(k_tile[e * QUADS + a], qv, scores[a]);
                    dp[a] = fma(v_tile[e * QUADS + a], dov, dp[a]);
                }
            }
            let row_lse = vec4<f32>(lse_delta[head]);
            let row_delta = vec4<f32>(lse_delta[p.t * p.n_heads + head]);
            for (var a = 0u; a < QUADS; a++) {
                let key = min(vec4<u32>(key0 + a * 4u) + FOUR, vec4<u32>(key_last));
                let seen = (key <= vec4<u32>(i)) & (vec4<u32>(i) < ends[a])
                    & (vec4<u32>(position) - positions[a] < vec4<u32>(p.window)) & vec4<bool>(exists);
                let probability = select(vec4<f32>(), exp(scores[a] - row_lse), seen);
                p_tile[lane * QUADS + a] = probability;
                ds_tile[lane * QUADS + a] = probability * (dp[a] - row_delta) * p.scale;
            }
            workgroupBarrier();

            // A thread is a column of dk and dv.
            for (var y = 0u; y < n_queries; y++) {
                let first = ((block * QUERIES + y) * p.n_heads + kv_head * share + g) * p.e;
                for (var c = 0u; c < COLUMNS; c++) {
                    let column = min(lane + c * 64u, p.e - 1u);
                    let qv = vec4<f32>(q[first + column]);
                    let dov = vec4<f32>(d_o[first + column]);
                    for (var a = 0u; a < QUADS; a++) {
                        acc_k[c * QUADS + a] = fma(ds_tile[y * QUADS + a], qv, acc_k[c * QUADS + a]);
                        acc_v[c * QUADS + a] = fma(p_tile[y * QUADS + a], dov, acc_v[c * QUADS + a]);
                    }
                }
            }
            workgroupBarrier();
        }
    }

    for (var a = 0u; a < QUADS; a++) {
        for (var r = 0u; r < 4u; r++) {
            let key = key0 + a * 4u + r;
            if key > key_last {
                continue;
            }
            for (var c = 0u; c < COLUMNS; c++) {
                let column = lane + c * 64u;
                if column < p.e {
                    let out = (key * p.n_kv_heads + kv_head) * p.e + column;
                    dk[out] = acc_k[c * QUADS + a][r];
                    dv[out] = acc_v[c * QUADS + a][r];
                }
            }
        }
    }
}
