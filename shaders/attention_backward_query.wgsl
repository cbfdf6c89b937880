// Gradient of attention to the queries (T. Dao et al., "FlashAttention", NeurIPS 2022, algorithm 4), by query block:
//   p = e^(scale·q·k − lse),   ds = p · (do·v − δ) · scale,   dq = Σ ds · k   over the keys that a query sees.
// q, do, dq: [T, H, E]; k, v: [T, K, E]; lse, δ: [T, H]. Row i sees row j ⟺ j ≤ i < end[j], position[i] − position[j] < window.
//
// A workgroup owns ROWS = 4·QUADS pairs (query row, head of the group) and walks over the key rows in blocks of 64: first a
// thread is a key (ds of all pairs), then a column of dq. A block that no row of the tile sees is skipped.
const QUADS: u32 = 4u;
const COLUMNS: u32 = 1u;
const ROWS: u32 = QUADS * 4u;
const KEYS: u32 = 64u;
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
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

var<workgroup> q_tile: array<vec4<f32>, COLUMNS * 64u * QUADS>; // [e][quad]: four rows side by side
var<workgroup> do_tile: array<vec4<f32>, COLUMNS * 64u * QUADS>;
var<workgroup> ds_tile: array<vec4<f32>, KEYS * QUADS>; // [key][quad]
// Of the pairs, the same for all threads: not in registers, which the sums need.
var<workgroup> rows: array<vec4<u32>, QUADS>;
var<workgroup> positions: array<vec4<u32>, QUADS>;
var<workgroup> row_lse: array<vec4<f32>, QUADS>;
var<workgroup> row_delta: array<vec4<f32>, QUADS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let kv_head = group.z;
    let share = p.n_heads / p.n_kv_heads;
    let n_pairs = p.t * share;
    let pair0 = (group.y * groups.x + group.x) * ROWS;
    if pair0 >= n_pairs {
        return;
    }
    let pair_last = min(pair0 + ROWS, n_pairs) - 1u;

    for (var s = lane; s < p.e * QUADS; s += 64u) {
        let pair = min(vec4<u32>(pair0 + (s % QUADS) * 4u) + FOUR, vec4<u32>(pair_last));
        let at = ((pair / share) * p.n_heads + kv_head * share + pair % share) * p.e + s / QUADS;
        q_tile[s] = vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]) * p.scale;
        do_tile[s] = vec4<f32>(d_o[at.x], d_o[at.y], d_o[at.z], d_o[at.w]);
    }
    var acc: array<vec4<f32>, QUADS * COLUMNS>;
    if lane < QUADS {
        let pair = min(vec4<u32>(pair0 + lane * 4u) + FOUR, vec4<u32>(pair_last));
        let row = pair / share;
        rows[lane] = row;
        positions[lane] = vec4<u32>(forest[row.x], forest[row.y], forest[row.z], forest[row.w]);
        let lse = row * p.n_heads + kv_head * share + pair % share;
        row_lse[lane] = vec4<f32>(lse_delta[lse.x], lse_delta[lse.y], lse_delta[lse.z], lse_delta[lse.w]);
        let delta = lse + p.t * p.n_heads;
        row_delta[lane] = vec4<f32>(lse_delta[delta.x], lse_delta[delta.y], lse_delta[delta.z], lse_delta[delta.w]);
    }
    for (var a = 0u; a < QUADS * COLUMNS; a++) {
        acc[a] = vec4<f32>();
    }
    let row_first = pair0 / share;
    let row_last = pair_last / share;
    var position_low = forest[row_first];
    for (var row = row_first + 1u; row <= row_last; row++) {
        position_low = min(position_low, forest[row]);
    }
    let n_blocks = (p.t + KEYS - 1u) / KEYS;
    workgroupBarrier();

    for (var block = 0u; block * KEYS <= row_last; block++) {
        let block_end = forest[2u * p.t + block];
        let block_high = forest[2u * p.t + 2u * n_blocks + block];
        if block_end <= row_first || (position_low > block_high && position_low - block_high >= p.window) {
            continue;
        }
        // A thread is a key.
        let j = min(block * KEYS + lane, p.t - 1u);
        let exists = block * KEYS + lane < p.t;
        let key_position = forest[j];
        let key_end = forest[p.t + j];
        let first = (j * p.n_kv_heads + kv_head) * p.e;
        var scores: array<vec4<f32>, QUADS>;
        var dp: array<vec4<f32>, QUADS>;
        for (var a = 0u; a < QUADS; a++) {
            scores[a] = vec4<f32>();
            dp[a] = vec4<f32>();
        }
        for (var e = 0u; e < p.e; e++) {
            let kv = vec4<f32>(k[first + e]);
            let vv = vec4<f32>(v[first + e]);
            for (var a = 0u; a < QUADS; a++) {
                scores[a] = fma(q_tile[e * QUADS + a], kv, scores[a]);
                dp[a] = fma(do_tile[e * QUADS + a], vv, dp[a]);
            }
        }
        for (var a = 0u; a < QUADS; a++) {
            let seen = (vec4<u32>(j) <= rows[a]) & (rows[a] < vec4<u32>(key_end))
                & (positions[a] - vec4<u32>(key_position) < vec4<u32>(p.window)) & vec4<bool>(exists);
            let probability = select(vec4<f32>(), exp(scores[a] - row_lse[a]), seen);
            ds_tile[lane * QUADS + a] = probability * (dp[a] - row_delta[a]) * p.scale;
        }
        workgroupBarrier();

        // A thread is a column of dq.
        let n_keys = min(KEYS, p.t - block * KEYS);
        for (var y = 0u; y < n_keys; y++) {
            let k_first = ((block * KEYS + y) * p.n_kv_heads + kv_head) * p.e;
            for (var c = 0u; c < COLUMNS; c++) {
                let kv = vec4<f32>(k[k_first + min(lane + c * 64u, p.e - 1u)]);
                for (var a = 0u; a < QUADS; a++) {
                    acc[c * QUADS + a] = fma(ds_tile[y * QUADS + a], kv, acc[c * QUADS + a]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var a = 0u; a < QUADS; a++) {
        for (var r = 0u; r < 4u; r++) {
            let pair = pair0 + a * 4u + r;
            if pair > pair_last {
                continue;
            }
            let out = (pair / share) * p.n_heads + kv_head * share + pair % share;
            for (var c = 0u; c < COLUMNS; c++) {
                let column = lane + c * 64u;
                if column < p.e {
                    dq[out * p.e + column] = acc[c * QUADS + a][r];
                }
            }
        }
    }
}
