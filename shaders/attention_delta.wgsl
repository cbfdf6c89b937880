// δ[i] = Σ_e do[i, e] · o[i, e], i over the n = T·H query heads: what the softmax's backward subtracts.
// do, o: [n, e], lse: [n]; out: lse, then δ: [2, n]
struct Params { n: u32, e: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> d_o: array<f32>;
@group(0) @binding(1) var<storage, read> o: array<f32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse_delta: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.n {
        return;
    }
    var sum = 0.0;
    for (var e = 0u; e < p.e; e++) {
        sum = fma(d_o[i * p.e + e], o[i * p.e + e], sum);
    }
    lse_delta[i] = lse[i];
    lse_delta[p.n + i] = sum;
}
