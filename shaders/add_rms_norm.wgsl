// s[i, j] = x[i, j] + s[i, j], in place;   rstd[i] = 1 / √(mean_j s[i, j]² + ε);   y[i, j] = s[i, j] · rstd[i] · w[j].
// x, s, y: [m, d], w: [d], rstd: [m]. The residual stream's sum and the norm that reads it; from the sum on, rms_norm.wgsl.
// A workgroup a row, and a thread reads only the sums that it wrote: 64 threads add every 64th square, then a tree adds theirs.
struct Params { m: u32, d: u32, epsilon: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> s: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.m {
        return;
    }
    let first = row * p.d;
    var sum = 0.0;
    for (var j = lane; j < p.d; j += 64u) {
        let value = x[first + j] + s[first + j];
        s[first + j] = value;
        sum = fma(value, value, sum);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    let r = 1.0 / sqrt(sums[0] / f32(p.d) + p.epsilon);
    for (var j = lane; j < p.d; j += 64u) {
        y[first + j] = s[first + j] * r * w[j];
    }
    if lane == 0u {
        rstd[row] = r;
    }
}
