// C[i, j] = α Σ_s partial[s, i, j] (+ C[i, j]), s ascending.   partial: [slices, m, n]; C: [m, n], rows ldc elements apart
// The second half of a product whose depth was cut into slices.
struct Params { m: u32, n: u32, slices: u32, ldc: u32, c_offset: u32, alpha: f32, accumulate: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.m * p.n {
        return;
    }
    var sum = 0.0;
    for (var s = 0u; s < p.slices; s++) {
        sum += partial[s * p.m * p.n + i];
    }
    let at = p.c_offset + (i / p.n) * p.ldc + i % p.n;
    if p.accumulate == 1u {
        c[at] = fma(p.alpha, sum, c[at]);
    } else {
        c[at] = p.alpha * sum;
    }
}
