// Attention over a forest, one pass with a running softmax (T. Dao et al., "FlashAttention", NeurIPS 2022, algorithm 1;
// the rescaling by rows of M. Milakov and N. Gimelshein, 2018):
//   s = scale · q·k,   o = Σ e^(s − lse) v,   lse = log Σ e^s   over the keys that a query sees.
// q, o: [T, H, E]; k, v: [S, K, E]; lse: [T, H]. The query row at position `pos` of a run sees the key rows
// path_rows[path_offset + x] for x in max(0, pos + 1 − window) ..= pos.
//
// A workgroup owns ROWS = 4·QUADS rows of one run and one key head. A row is a pair (query, head of the group), so that the
// query heads that share a key head share its loads, in decoding too. It walks over the keys in blocks of 64:
// first a thread is a key (scores of all rows), then a thread is a column of the output (o += probabilities · v).
//
// Worked example: two tokens, one head of e = 3, scale 1, both queries (1, 0, 0); k = (0, 0, 0), (ln 3, 0, 0); v = (4, 8, 0), (8, 0, 4).
// One run, so one tile: 0 (first row), 0 (first pair), 2 (pairs), 0 (position), 0 (its path in path_rows = 0, 1). As a thread is a
// key, thread 0 finds the scores 0 and 0 of the two pairs, thread 1 finds ln 3 for both; pair 0 does not see key 1: HIDDEN. row_max
// becomes 0 and ln 3, the tile e^0, 0 and e^(−ln 3) = ⅓, 1. As a thread is a column, thread 0 adds 1 · 4 for pair 0, ⅓ · 4 + 1 · 8
// for pair 1; the sums are 1 and 4/3, so o = (4, 8, 0), (7, 2, 3) and lse = 0 + ln 1, ln 3 + ln 4/3 = ln 4.
const QUADS: u32 = 4u;
const COLUMNS: u32 = 1u;
const ROWS: u32 = QUADS * 4u;
const KEYS: u32 = 64u;
const FOUR: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

struct Params { n_heads: u32, n_kv_heads: u32, e: u32, scale: f32, window: u32, n_tiles: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// Per tile: first query row of the run, first pair of the tile in the run, pairs of the run, position of the run's first
// query, where its path starts.
@group(0) @binding(3) var<storage, read> tiles: array<u32>;
@group(0) @binding(4) var<storage, read> path_rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

const LOWEST: f32 = -1.0e30;
const HIDDEN: f32 = -3.0e38;

var<workgroup> q_tile: array<vec4<f32>, COLUMNS * 64u * QUADS>; // [e][quad]: four rows side by side
var<workgroup> tile: array<vec4<f32>, KEYS * QUADS>; // [key][quad]: scores, then probabilities
var<workgroup> key_row: array<u32, KEYS>;
var<workgroup> positions: array<vec4<u32>, QUADS>; // of the rows: not in registers, which the sums need
var<workgroup> part_max: array<f32, 64>;
var<workgroup> row_max: array<f32, ROWS>;
var<workgroup> row_scale: array<f32, ROWS>;

fn four(first: u32) -> vec4<f32> {
    return vec4<f32>(row_max[first], row_max[first + 1u], row_max[first + 2u], row_max[first + 3u]);
}

fn four_scales(first: u32) -> vec4<f32> {
    return vec4<f32>(row_scale[first], row_scale[first + 1u], row_scale[first + 2u], row_scale[first + 3u]);
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
    let kv_head = group.z;
    let share = p.n_heads / p.n_kv_heads;
    let run_start = tiles[index * 5u];
    let pair0 = tiles[index * 5u + 1u];
    let n_pairs = tiles[index * 5u + 2u];
    let first_position = tiles[index * 5u + 3u];
    let path_offset = tiles[index * 5u + 4u];
    let pair_last = min(pair0 + ROWS, n_pairs) - 1u;

    for (var s = lane; s < p.e * QUADS; s += 64u) {
        let pair = min(vec4<u32>(pair0 + (s % QUADS) * 4u) + FOUR, vec4<u32>(pair_last));
        let row = (run_start + pair / share) * p.n_heads + kv_head * share + pair % share;
        let at = row * p.e + s / QUADS;
        q_tile[s] = vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]) * p.scale;
    }
    if lane < ROWS {
        row_max[lane] = LOWEST;
    }

    if lane < QUADS {
        let pair = vec4<u32>(pair0 + lane * 4u) + FOUR;
        positions[lane] = vec4<u32>(first_position) + min(pair, vec4<u32>(pair_last)) / share;
    }
    var sums: array<vec4<f32>, QUADS>;
    var acc: array<vec4<f32>, QUADS * COLUMNS>;
    for (var a = 0u; a < QUADS; a++) {
        sums[a] = vec4<f32>();
    }
    for (var a = 0u; a < QUADS * COLUMNS; a++) {
        acc[a] = vec4<f32>();
    }

    // Blocks start at multiples of 64 positions: what a query adds up, and in which order, depends on its own path only.
    let position_first = first_position + pair0 / share;
    let position_last = first_position + pair_last / share;
    var block = 0u;
    if position_first >= p.window {
        block = (position_first + 1u - p.window) / KEYS * KEYS;
    }
    for (; block <= position_last; block += KEYS) {
        let n_keys = min(KEYS, position_last + 1u - block);
        workgroupBarrier();

        // A thread is a key.
        let x = block + lane;
        let row = path_rows[path_offset + min(x, position_last)];
        key_row[lane] = row;
        var scores: array<vec4<f32>, QUADS>;
        for (var a = 0u; a < QUADS; a++) {
            scores[a] = vec4<f32>();
        }
        let k_first = (row * p.n_kv_heads + kv_head) * p.e;
        for (var e = 0u; e < p.e; e++) {
            let kv = vec4<f32>(k[k_first + e]);
            for (var a = 0u; a < QUADS; a++) {
                scores[a] = fma(q_tile[e * QUADS + a], kv, scores[a]);
            }
        }
        for (var a = 0u; a < QUADS; a++) {
            let seen = (vec4<u32>(x) <= positions[a]) & (positions[a] - vec4<u32>(x) < vec4<u32>(p.window));
            scores[a] = select(vec4<f32>(HIDDEN), scores[a], seen);
            tile[lane * QUADS + a] = scores[a];
        }
        workgroupBarrier();

        // The rows' new maxima: 64 / ROWS threads a row look at a share of the keys each.
        let max_row = lane % ROWS;
        var largest = LOWEST;
        for (var x2 = lane / ROWS; x2 < KEYS; x2 += 64u / ROWS) {
            largest = max(largest, tile[x2 * QUADS + max_row / 4u][max_row % 4u]);
        }
        part_max[lane] = largest;
        workgroupBarrier();
        if lane < ROWS {
            var new_max = row_max[lane];
            for (var x2 = lane; x2 < 64u; x2 += ROWS) {
                new_max = max(new_max, part_max[x2]);
            }
            row_scale[lane] = exp(row_max[lane] - new_max);
            row_max[lane] = new_max;
        }
        workgroupBarrier();
        for (var a = 0u; a < QUADS; a++) {
            tile[lane * QUADS + a] = exp(scores[a] - four(a * 4u));
        }
        workgroupBarrier();

        // A thread is a column of the output (and every thread keeps the sums of all rows).
        for (var a = 0u; a < QUADS; a++) {
            let scale = four_scales(a * 4u);
            sums[a] *= scale;
            for (var c = 0u; c < COLUMNS; c++) {
                acc[c * QUADS + a] *= scale;
            }
        }
        for (var y = 0u; y < n_keys; y++) {
            let v_first = (key_row[y] * p.n_kv_heads + kv_head) * p.e;
            for (var a = 0u; a < QUADS; a++) {
                sums[a] += tile[y * QUADS + a];
            }
            for (var c = 0u; c < COLUMNS; c++) {
                let vv = vec4<f32>(v[v_first + min(lane + c * 64u, p.e - 1u)]);
                for (var a = 0u; a < QUADS; a++) {
                    acc[c * QUADS + a] = fma(tile[y * QUADS + a], vv, acc[c * QUADS + a]);
                }
            }
        }
    }

    for (var a = 0u; a < QUADS; a++) {
        let shift = four(a * 4u);
        for (var r = 0u; r < 4u; r++) {
            let pair = pair0 + a * 4u + r;
            if pair > pair_last {
                continue;
            }
            let out = (run_start + pair / share) * p.n_heads + kv_head * share + pair % share;
            for (var c = 0u; c < COLUMNS; c++) {
                let column = lane + c * 64u;
                if column < p.e {
                    o[out * p.e + column] = acc[c * QUADS + a][r] / sums[a][r];
                }
            }
            if lane == 0u {
                lse[out] = shift[r] + log(sums[a][r]);
            }
        }
    }
}
