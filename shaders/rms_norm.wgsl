// rstd[i] = 1 / √(mean_j x[i, j]² + ε);   y[i, j] = x[i, j] · rstd[i] · w[j].   x, y: [m, d], w: [d], rstd: [m]
// A workgroup a row: 64 threads add every 64th square, then a tree adds the threads' sums.
struct Params { m: u32, d: u32, epsilon: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>;

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
        sum = fma(x[first + j], x[first + j], sum);
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
        y[first + j] = x[first + j] * r * w[j];
    }
    if lane == 0u {
        rstd[row] = r;
    }
}
