// bicubic: rgba = round(255 * clamp(bicubic(x) + mean)), the frame without the network
// Shapes  x (1 layer) rgba32float with a border, RGB minus mean | rgba (S*H,S*W) rgba8unorm
// Launch  grid (ceil(S*W/8), ceil(S*H/8), 1)  workgroup 8x8, one output pixel a thread
// Limits  S 1 to 4; at S = 1 it is x itself
// Cost    about 160*S*S*H*W flop; 16*H*W + 4*S*S*H*W B
// Oracle  model/src/reference/bicubic.rs | Cases parity/src/cases/bicubic.rs

// Pixel (i, j) is at texel (j+1, i+1) (see conv3x3).
struct Size { w: u32, h: u32 }

override S: u32;
override MEAN_R: f32;
override MEAN_G: f32;
override MEAN_B: f32;

@group(0) @binding(0) var<uniform> size: Size;
@group(0) @binding(1) var x: texture_storage_2d_array<rgba32float, read>;
@group(0) @binding(2) var rgba: texture_storage_2d<rgba8unorm, write>;

// Weights of the taps at floor-1 to floor+2 for a centre `t` in 0..1 after floor: Keys 1981, eq. 15, a = -1/2.
fn keys(t: f32) -> vec4<f32> {
    let u = 1.0 - t;
    return vec4(
        -0.5 * t * u * u,
        (1.5 * t - 2.5) * t * t + 1.0,
        (1.5 * u - 2.5) * u * u + 1.0,
        -0.5 * u * t * t,
    );
}

// The pixel at (i, j), with the edge repeated.
fn pixel(i: i32, j: i32) -> vec3<f32> {
    let at = clamp(vec2(j, i), vec2(0), vec2(i32(size.w), i32(size.h)) - 1) + 1;
    return textureLoad(x, at, 0).xyz;
}

fn line(i: i32, j: i32, weights: vec4<f32>) -> vec3<f32> {
    return weights.x * pixel(i, j) + weights.y * pixel(i, j + 1) + weights.z * pixel(i, j + 2)
        + weights.w * pixel(i, j + 3);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y;
    let j = id.x;
    if j >= size.w * S || i >= size.h * S {
        return;
    }
    var rgb: vec3<f32>;
    if S == 1u {
        rgb = pixel(i32(i), i32(j));
    } else {
        // Pixel centres are aligned: output k of a phase sits at (k + 0.5) / S - 0.5 of the input.
        let centre = (vec2(f32(i % S), f32(j % S)) + 0.5) / f32(S) - 0.5;
        let first = vec2<i32>(floor(centre)) - 1 + vec2<i32>(vec2(i / S, j / S));
        let row_weights = keys(fract(centre.x));
        let col_weights = keys(fract(centre.y));
        rgb = row_weights.x * line(first.x, first.y, col_weights)
            + row_weights.y * line(first.x + 1, first.y, col_weights)
            + row_weights.z * line(first.x + 2, first.y, col_weights)
            + row_weights.w * line(first.x + 3, first.y, col_weights);
    }
    rgb += vec3(MEAN_R, MEAN_G, MEAN_B);
    // Rounded here: a store may be off by more than half a code value.
    let codes = floor(clamp(rgb, vec3(0.0), vec3(1.0)) * 255.0 + 0.5);
    textureStore(rgba, vec2(j, i), vec4(codes / 255.0, 1.0));
}
