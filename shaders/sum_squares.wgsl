// partial[first_block + b] = Σ x[i]² over block b of 4096 elements.   x: [n]; the host adds the partial sums in f64.
// Each of 64 threads adds every 64th four, then the threads' sums are added as a tree.
struct Params { n: u32, first_block: u32, n_blocks: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.y * groups.x + group.x;
    let last = min((block + 1u) * 1024u, (p.n + 3u) / 4u);
    var sum = vec4<f32>();
    for (var i = block * 1024u + lane; i < last; i += 64u) {
        let exists = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
        let four = select(vec4<f32>(), x[i], exists);
        sum = fma(four, four, sum);
    }
    sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
    workgroupBarrier();
    for (var half = 32u; half > 0u; half >>= 1u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u && block < p.n_blocks {
        partials[p.first_block + block] = sums[0];
    }
}
