// Of each row x of logits [m, v]:   lse = log Σ eˣ,   logp = x[target] − lse,   entropy = lse − Σ p·x,   argmax (lowest).
// logits: [m, v] from `offset`; targets and results: [rows] from `first_row`. A workgroup a row, two passes over it.
struct Params { m: u32, v: u32, first_row: u32, offset: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> logp: array<f32>;
@group(0) @binding(3) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(4) var<storage, read_write> log_sum_exp: array<f32>;
@group(0) @binding(5) var<storage, read_write> argmax: array<u32>;

const LOWEST: f32 = -3.4028234e38;
var<workgroup> best: array<f32, 128>;
var<workgroup> best_index: array<u32, 128>;
var<workgroup> sums: array<f32, 128>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.m {
        return;
    }
    let first = p.offset + row * p.v;

    // The largest logit and its lowest index.
    var largest = LOWEST;
    var index = p.v;
    for (var j = lane; j < p.v; j += 128u) {
        let x = logits[first + j];
        if x > largest || index == p.v {
            largest = x;
            index = j;
        }
    }
    best[lane] = largest;
    best_index[lane] = index;
    workgroupBarrier();
    for (var half = 64u; half > 0u; half >>= 1u) {
        if lane < half {
            let other = best[lane + half];
            let other_index = best_index[lane + half];
            if other > best[lane] || (other == best[lane] && other_index < best_index[lane]) {
                best[lane] = other;
                best_index[lane] = other_index;
            }
        }
        workgroupBarrier();
    }
    let shift = best[0];

    // Σ e^(x − shift) and Σ e^(x − shift)·(x − shift).
    var sum = 0.0;
    var weighted = 0.0;
    for (var j = lane; j < p.v; j += 128u) {
        let x = logits[first + j] - shift;
        let e = exp(x);
        sum += e;
        if e > 0.0 {
            weighted = fma(e, x, weighted);
        }
    }
    workgroupBarrier();
    sums[lane] = sum;
    best[lane] = weighted;
    workgroupBarrier();
    for (var half = 64u; half > 0u; half >>= 1u) {
        if lane < half {
            sums[lane] += sums[lane + half];
            best[lane] += best[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let log_sum = log(sums[0]);
        let out = p.first_row + row;
        log_sum_exp[out] = shift + log_sum;
        logp[out] = logits[first + targets[out]] - shift - log_sum;
        entropy[out] = log_sum - best[0] / sums[0];
        argmax[out] = best_index[0];
    }
}
