// yuv_rgb: decoded 4:2:0 planes to RGB at luma size, for bicubic.wgsl; the matrix may subtract a mean; the quantiser as fourth channel
// Shapes  luma (H,W) | cb, cr (H/2,W/2) r8unorm | rgb (1 layer) rgba32float with a border, the fourth channel the same everywhere
// Launch  grid (ceil(W/8), ceil(H/8), 1)  workgroup 8x8, one pixel a thread
// Limits  W, H even
// Cost    about 40*H*W flop; 1.5*H*W + 16*H*W B
// Oracle  model/src/reference/yuv_rgb.rs | Cases parity/src/cases/yuv_rgb.rs

// Pixel (i, j) is at texel (j+1, i+1): the border is zero and never written (see conv3x3).
struct Size { w: u32, h: u32 }

@group(0) @binding(0) var<uniform> size: Size;
@group(0) @binding(1) var luma: texture_2d<f32>;
@group(0) @binding(2) var cb: texture_2d<f32>;
@group(0) @binding(3) var cr: texture_2d<f32>;
// Rows R, G, B and quantiser over (Y, Cb, Cr, 1), for samples that the texture unit has divided by 255.
@group(0) @binding(4) var<uniform> input_from_yuv: mat4x4<f32>;
@group(0) @binding(5) var rgb: texture_storage_2d_array<rgba32float, write>;

fn chroma(row: u32, col: u32) -> vec2<f32> {
    return vec2(textureLoad(cb, vec2(col, row), 0).x, textureLoad(cr, vec2(col, row), 0).x);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= size.w || id.y >= size.h {
        return;
    }
    // Chroma sits on even luma columns and between luma rows (ITU-T H.264 annex E, chroma_sample_loc_type 0).
    let last = vec2(size.w, size.h) / 2u - 1u;
    let near = id.y / 2u;
    let far = select(max(near, 1u) - 1u, min(near + 1u, last.y), id.y % 2u == 1u);
    let left = id.x / 2u;
    let right = min(left + id.x % 2u, last.x);
    let at_near = 0.5 * (chroma(near, left) + chroma(near, right));
    let at_far = 0.5 * (chroma(far, left) + chroma(far, right));
    let c = 0.75 * at_near + 0.25 * at_far;

    let yuv = vec4(textureLoad(luma, id.xy, 0).x, c, 1.0);
    textureStore(rgb, id.xy + 1u, 0, yuv * input_from_yuv);
}
