// What the gradients of attention share that take one (query row, key row) pair at a time: attention_plain_backward_… and
// attention_tiled_backward_….   p = e^(scale·q·k − lse),   ds = p · (do·v − δ) · scale
// q, do: [T, H, E]; k, v: [T, K, E]; lse, δ: [T, H].
struct Params { n_heads: u32, n_kv_heads: u32, e: u32, scale: f32, window: u32, t: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> d_o: array<f32>;
// lse and δ one after the other: [2, T, H].
@group(0) @binding(4) var<storage, read> lse_delta: array<f32>;
// positions [T], ends [T], then what other kernels read.
@group(0) @binding(5) var<storage, read> forest: array<u32>;

/// Row i sees row j ⟺ j ≤ i < end[j], position[i] − position[j] < window.
fn sees(i: u32, j: u32) -> bool {
    return j <= i && i < forest[p.t + j] && forest[i] - forest[j] < p.window;
}

/// (p, ds) of query i = row · H + head, and key j = row · K + head. Four entries a round, as in attention_plain.
fn pair(i: u32, j: u32) -> vec2<f32> {
    var score = 0.0;
    var dp = 0.0;
    var e = 0u;
    for (; e + 4u <= p.e; e += 4u) {
        let qe = i * p.e + e;
        let ke = j * p.e + e;
        let four = vec4<f32>(q[qe], q[qe + 1u], q[qe + 2u], q[qe + 3u]) * p.scale;
        score += dot(four, vec4<f32>(k[ke], k[ke + 1u], k[ke + 2u], k[ke + 3u]));
        let of_v = vec4<f32>(v[ke], v[ke + 1u], v[ke + 2u], v[ke + 3u]);
        dp += dot(vec4<f32>(d_o[qe], d_o[qe + 1u], d_o[qe + 2u], d_o[qe + 3u]), of_v);
    }
    for (; e < p.e; e++) {
        score = fma(q[i * p.e + e] * p.scale, k[j * p.e + e], score);
        dp = fma(d_o[i * p.e + e], v[j * p.e + e], dp);
    }
    let probability = exp(score - lse_delta[i]);
    return vec2<f32>(probability, probability * (dp - lse_delta[p.t * p.n_heads + i]) * p.scale);
}
