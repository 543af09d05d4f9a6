// peak_multiply_add: y = sum of 12 values, each 4 * ROUNDS times v * factor + term
// Shapes  y (threads) f32
// Launch  grid (threads/256)  workgroup 256
// Limits  up to 65535 workgroups
// Cost    96*ROUNDS*threads flop; 4*threads B
// Oracle  none: with factor 0.5 and term 1 every value ends at 2 | Cases runtime/src/gpu/peak.rs

struct Terms { factor: f32, term: f32 }

override ROUNDS: u32;

@group(0) @binding(0) var<uniform> terms: Terms; // not constants, so that nothing is computed beforehand
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Three vectors, whose sums do not wait for each other and fit the registers of every adapter.
fn step(v: mat3x4<f32>, factor: vec4<f32>, term: vec4<f32>) -> mat3x4<f32> {
    return mat3x4(fma(v[0], factor, term), fma(v[1], factor, term), fma(v[2], factor, term));
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4(terms.factor);
    let term = vec4(terms.term);
    let first = f32(id.x) + vec4(0.0, 1.0, 2.0, 3.0);
    var v = mat3x4(first, first + 4.0, first + 8.0);
    for (var i = 0u; i < ROUNDS; i += 1u) {
        v = step(v, factor, term);
        v = step(v, factor, term);
        v = step(v, factor, term);
        v = step(v, factor, term);
    }
    y[id.x] = dot(v[0] + v[1] + v[2], vec4(1.0));
}
