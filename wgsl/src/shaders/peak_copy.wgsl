// peak_copy: y = x
// Shapes  x, y (threads) vec4 f32
// Launch  grid (threads/256)  workgroup 256
// Limits  up to 65535 workgroups
// Cost    0 flop; 32*threads B
// Oracle  none: y is x | Cases runtime/src/gpu/peak.rs

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x];
}
