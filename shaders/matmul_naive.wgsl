// Rung 1, naive: a thread an output. Every operand is read from memory for every product. Operands and C: matmul_operands.wgsl.
@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y;
    let j = id.x;
    if i >= p.m || j >= p.n {
        return;
    }
    var sum = 0.0;
    for (var l = id.z * p.k_step; l < depth_end(id.z); l++) {
        sum = fma(load_a(i, l), load_b(l, j), sum);
    }
    store(id.z, i, j, sum);
}
