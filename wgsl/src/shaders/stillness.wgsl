// stillness: weights = clamp(2 - max |now - last| / STILL_CODES), the maximum over the four cells around each corner of the grid
// Shapes  now, last (H,W) r8unorm luma | weights (ceil(H/8)+1,ceil(W/8)+1) r32float
// Launch  grid (ceil((ceil(W/8)+1)/8), ceil((ceil(H/8)+1)/8), 1)  workgroup 8x8, one corner a thread
// Limits  any H,W; cells of 8x8 pixels
// Cost    about 12*H*W flop; 2*H*W + H*W/16 B, each pixel read by four threads
// Oracle  model/src/reference/stillness.rs | Cases parity/src/cases/stillness.rs

struct Size { w: u32, h: u32 }

override STILL_CODES: f32;

@group(0) @binding(0) var<uniform> size: Size; // of the pictures
@group(0) @binding(1) var now: texture_2d<f32>;
@group(0) @binding(2) var last: texture_2d<f32>;
@group(0) @binding(3) var weights: texture_storage_2d<r32float, write>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let cells = (vec2(size.w, size.h) + 7u) / 8u;
    if any(id.xy > cells) {
        return;
    }
    let first = (max(id.xy, vec2(1u)) - 1u) * 8u;
    let end = min((id.xy + 1u) * 8u, vec2(size.w, size.h));
    var most = 0.0;
    for (var row = first.y; row < end.y; row += 1u) {
        for (var col = first.x; col < end.x; col += 1u) {
            let at = vec2(col, row);
            most = max(most, abs(textureLoad(now, at, 0).x - textureLoad(last, at, 0).x));
        }
    }
    // The texture unit divides samples by 255.
    let weight = clamp(2.0 - 255.0 * most / STILL_CODES, 0.0, 1.0);
    textureStore(weights, id.xy, vec4(weight, 0.0, 0.0, 0.0));
}
