// y[i] = √(Σ_j x[i, j]²), the Euclidean norm of each row.   x: [m, n], y: [m]
// A workgroup a row: 64 threads add every 64th square, then a tree adds the threads' sums.
struct Params { m: u32, n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

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
    var sum = 0.0;
    for (var j = lane; j < p.n; j += 64u) {
        let value = x[row * p.n + j];
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
    if lane == 0u {
        y[row] = sqrt(sums[0]);
    }
}
