// Of y = x · rstd · w:   dx[i, j] = rstd[i] · (dy[i, j]·w[j] − x[i, j] · rstd[i]² · mean_j(dy[i, j]·w[j]·x[i, j])).
// dy, x, dx: [m, d], w: [d], rstd: [m]. A workgroup a row. Added to what is in dx if `accumulate` is 1.
struct Params { m: u32, d: u32, accumulate: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

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
        sum = fma(dy[first + j] * w[j], x[first + j], sum);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    let r = rstd[row];
    let pull = r * r * (sums[0] / f32(p.d));
    for (var j = lane; j < p.d; j += 64u) {
        let own = r * (dy[first + j] * w[j] - x[first + j] * pull);
        if p.accumulate == 1u {
            dx[first + j] += own;
        } else {
            dx[first + j] = own;
        }
    }
}
