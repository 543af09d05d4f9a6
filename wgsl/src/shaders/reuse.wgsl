// reuse: rgba = round(255 * clamp(bicubic(now) + mean + weight * (shown - bicubic(last) - mean))), the detail of the network's last frame
// Shapes  now, last (1 layer) rgba32float with a border, RGB minus mean | weights (ceil(H/8)+1,ceil(W/8)+1) r32float | shown, rgba (S*H,S*W) rgba8unorm
// Launch  grid (ceil(S*W/8), ceil(S*H/8), 1)  workgroup 8x8, one output pixel a thread
// Limits  any H,W; S 1 to 4
// Cost    about 230*S*S*H*W flop; 32*H*W + 8*S*S*H*W B
// Oracle  model/src/reference/reuse.rs | Cases parity/src/cases/reuse.rs

// Pixel (i, j) is at texel (j+1, i+1) (see conv3x3).
struct Size { w: u32, h: u32 }

override S: u32;
override MEAN_R: f32;
override MEAN_G: f32;
override MEAN_B: f32;

@group(0) @binding(0) var<uniform> size: Size;
@group(0) @binding(1) var now: texture_storage_2d_array<rgba32float, read>;
@group(0) @binding(2) var last: texture_storage_2d_array<rgba32float, read>;
@group(0) @binding(3) var weights: texture_2d<f32>; // see stillness.wgsl
@group(0) @binding(4) var shown: texture_2d<f32>;
@group(0) @binding(5) var rgba: texture_storage_2d<rgba8unorm, write>;

// Weights of the taps at floor-1 to floor+2 for a centre `t` in 0..1 after floor: see bicubic.wgsl.
fn keys(t: f32) -> vec4<f32> {
    let u = 1.0 - t;
    return vec4(
        -0.5 * t * u * u,
        (1.5 * t - 2.5) * t * t + 1.0,
        (1.5 * u - 2.5) * u * u + 1.0,
        -0.5 * u * t * t,
    );
}

// `now - weight * last` at (i, j), with the edge repeated: the upscale is linear, so that one does for both.
fn pixel(i: i32, j: i32, weight: f32) -> vec3<f32> {
    let at = clamp(vec2(j, i), vec2(0), vec2(i32(size.w), i32(size.h)) - 1) + 1;
    let rgb = textureLoad(now, at, 0).xyz;
    if weight == 0.0 {
        return rgb;
    }
    return rgb - weight * textureLoad(last, at, 0).xyz;
}

fn line(i: i32, j: i32, taps: vec4<f32>, weight: f32) -> vec3<f32> {
    return taps.x * pixel(i, j, weight) + taps.y * pixel(i, j + 1, weight) + taps.z * pixel(i, j + 2, weight)
        + taps.w * pixel(i, j + 3, weight);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y;
    let j = id.x;
    if j >= size.w * S || i >= size.h * S {
        return;
    }
    let cell = id.xy / (8u * S);
    let part = (vec2<f32>(id.xy % (8u * S)) + 0.5) / f32(8u * S);
    let above = mix(textureLoad(weights, cell, 0).x, textureLoad(weights, cell + vec2(1u, 0u), 0).x, part.x);
    let below = mix(textureLoad(weights, cell + vec2(0u, 1u), 0).x, textureLoad(weights, cell + 1u, 0).x, part.x);
    let weight = mix(above, below, part.y);

    var rgb: vec3<f32>;
    if S == 1u {
        rgb = pixel(i32(i), i32(j), weight);
    } else {
        // As bicubic.wgsl.
        let centre = (vec2(f32(i % S), f32(j % S)) + 0.5) / f32(S) - 0.5;
        let first = vec2<i32>(floor(centre)) - 1 + vec2<i32>(vec2(i / S, j / S));
        let rows = keys(fract(centre.x));
        let cols = keys(fract(centre.y));
        rgb = rows.x * line(first.x, first.y, cols, weight)
            + rows.y * line(first.x + 1, first.y, cols, weight)
            + rows.z * line(first.x + 2, first.y, cols, weight)
            + rows.w * line(first.x + 3, first.y, cols, weight);
    }
    rgb += (1.0 - weight) * vec3(MEAN_R, MEAN_G, MEAN_B) + weight * textureLoad(shown, id.xy, 0).xyz;
    // Rounded here: a store may be off by more than half a code value.
    let codes = floor(clamp(rgb, vec3(0.0), vec3(1.0)) * 255.0 + 0.5);
    textureStore(rgba, id.xy, vec4(codes / 255.0, 1.0));
}
