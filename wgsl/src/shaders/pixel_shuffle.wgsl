// pixel_shuffle: moves channels into space
// Shapes  x (groups of C*S*S,HP,WP) vec4 f32 | y (groups of C,HP',WP') vec4 f32, S*H by S*W pixels
// Launch  grid (ceil(S*W/8), ceil(S*H/8), ceil(C/4))  workgroup 8x8, one pixel of one group a thread
// Limits  any C; S 1 to 4
// Cost    8*S*S*C*H*W B
// Oracle  model/src/reference/pixel_shuffle.rs | Cases parity/src/cases/pixel_shuffle.rs

// Pixel (i, j) of group g is at (g*HP + i+1)*WP + j+1: the border is zero and never written (see conv3x3).
struct Size { w: u32, h: u32, wp: u32, hp: u32 }

override S: u32;
override C: u32;

@group(0) @binding(0) var<uniform> x_size: Size;
@group(0) @binding(1) var<uniform> y_size: Size;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// Channel `c` of output pixel (i, j); zero in the channels that fill up the last group.
fn value(c: u32, i: u32, j: u32) -> f32 {
    if c >= C {
        return 0.0;
    }
    let channel = (c * S + i % S) * S + j % S;
    return x[(channel / 4u * x_size.hp + i / S + 1u) * x_size.wp + j / S + 1u][channel % 4u];
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= y_size.w || id.y >= y_size.h {
        return;
    }
    let c = id.z * 4u;
    let v = vec4(value(c, id.y, id.x), value(c + 1u, id.y, id.x), value(c + 2u, id.y, id.x), value(c + 3u, id.y, id.x));
    y[(id.z * y_size.hp + id.y + 1u) * y_size.wp + id.x + 1u] = v;
}
