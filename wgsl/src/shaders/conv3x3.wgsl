// conv3x3: y = pixel_shuffle(SCALE * relu?(conv3x3(x, w) + b), S) + add?, pad 1; the first reads planes, the last ends in 8 bits
// Shapes  x (IN_GROUPS layers), y (SUB_GROUPS layers, S*H,S*W), add rgba32float with a border | w rows of 3*OUT_GROUPS mat4x4 f32 | rgba (S*H,S*W) rgba8unorm
// Launch  grid (ceil(W/16), ceil(H/(4*HEIGHT)) or ceil(H/(8*HEIGHT)) if TALL, slices)  workgroup 16xHEIGHT, 4 or 8 pixels down and OUT_GROUPS*4 channels a thread  shared 5184 B if TILED
// Limits  any Cin, Cout, each rounded up to a group of 4 channels; OUT_GROUPS 1 to 4; S 1 to 4; w in uniform up to 65536 B; W, H even with HEAD; TILED only with HEIGHT 4, not TALL
// Cost    18*H*W*Cin*Cout flop; 4*H*W*(Cin+Cout) B, and 4*H*W*Cout B more with ADD; half with rgba16float; BASE 160*S*S*H*W flop
// Oracle  model/src/reference/conv3x3.rs, pixel_shuffle.rs, bicubic.rs, yuv_rgb.rs | Cases parity/src/cases/conv3x3.rs

// A layer of an activation holds a group of 4 channels. Pixel (i, j) is at texel (j+1, i+1): the border around the
// picture is zero and is never written, so that no read needs a guard.
struct Size { w: u32, h: u32 }

override IN_GROUPS: u32; // of x
override OUT_GROUPS: u32; // computed by a thread
override SUB_GROUPS: u32; // of y; the convolution has S*S times as many, those of a subpixel together
override S: u32; // of the pixel shuffle
override RELU: bool;
override ADD: bool;
override SCALE: f32;
override HEAD: bool; // x is the decoded planes as RGB
override KEEP_RGB: u32; // y has one more layer, RGB: 1 from x, 2 from `add`, where it is one more layer too
override TAIL: bool; // the output is a picture
override BASE: bool; // the tail adds the bicubic upscale of RGB, one more layer of x
override MEAN_R: f32; // added by the tail
override MEAN_G: f32;
override MEAN_B: f32;
// How, not what:
override HEIGHT: u32 = 4u;
override TILED: bool; // x goes through workgroup memory: for GPUs
override TALL: bool; // 8 pixels a thread, not 4: for adapters in software
override WEIGHTS: u32; // 0 from uniform, 1 from storage, 2 from a texture: what such an adapter reads best

// In less precision `Shader::of` puts another part between such marks: conv3x3.f16.wgsl, conv3x3.coop.wgsl with coop8 or coop16.
// [sums]
alias Real = f32; // what the products of one input group and column of taps are added up in
alias Stored = mat4x4<f32>; // how a matrix of weights lies in a buffer

fn loaded(m: Stored) -> mat4x4<Real> {
    return m;
}

// The sums of a column begin with those before it,
fn begun(sums: mat4x4<f32>) -> mat4x4<Real> {
    return sums;
}

// and so they are all.
fn added(sums: mat4x4<f32>, column: mat4x4<Real>) -> mat4x4<f32> {
    return column;
}
// [sums end]

@group(0) @binding(0) var<uniform> size: Size; // of x
@group(0) @binding(1) var x: texture_storage_2d_array<rgba32float, read>;
// The same weights three times. A slice is what one thread needs: a row whose first matrix has the biases of its output
// groups as columns, then a row for each (input group, column of taps) with a matrix for each (output group, row of
// taps), whose column k multiplies input channel k.
@group(0) @binding(2) var<uniform> weights_uniform: array<Stored, 1024>;
@group(0) @binding(3) var<storage, read> weights_storage: array<Stored>;
@group(0) @binding(4) var weights_texture: texture_storage_2d<rgba32float, read>;
@group(0) @binding(5) var add: texture_2d_array<f32>;
@group(0) @binding(6) var y: texture_storage_2d_array<rgba32float, write>;
@group(0) @binding(7) var rgba: texture_storage_2d<rgba8unorm, write>;
@group(0) @binding(8) var luma: texture_2d<f32>;
@group(0) @binding(9) var cb: texture_2d<f32>;
@group(0) @binding(10) var cr: texture_2d<f32>;
@group(0) @binding(11) var<uniform> input_from_yuv: mat4x4<f32>; // see yuv_rgb.wgsl

const TILE: u32 = 18u; // 16 pixels and one more on each side
var<workgroup> tile: array<vec4<Real>, 324>;

fn weight(row: u32, k: u32) -> mat4x4<Real> {
    if WEIGHTS == 0u {
        return loaded(weights_uniform[row * 3u * OUT_GROUPS + k]);
    }
    if WEIGHTS == 1u {
        return loaded(weights_storage[row * 3u * OUT_GROUPS + k]);
    }
    return mat4x4(
        vec4<Real>(textureLoad(weights_texture, vec2(4u * k, row))),
        vec4<Real>(textureLoad(weights_texture, vec2(4u * k + 1u, row))),
        vec4<Real>(textureLoad(weights_texture, vec2(4u * k + 2u, row))),
        vec4<Real>(textureLoad(weights_texture, vec2(4u * k + 3u, row))),
    );
}

fn chroma(row: u32, col: u32) -> vec2<f32> {
    return vec2(textureLoad(cb, vec2(col, row), 0).x, textureLoad(cr, vec2(col, row), 0).x);
}

// As yuv_rgb.wgsl; zero outside the picture.
fn converted(i: i32, j: i32) -> vec4<f32> {
    if i < 0 || j < 0 || i >= i32(size.h) || j >= i32(size.w) {
        return vec4(0.0);
    }
    let row = u32(i);
    let col = u32(j);
    let last = vec2(size.w, size.h) / 2u - 1u;
    let near = row / 2u;
    let far = select(max(near, 1u) - 1u, min(near + 1u, last.y), row % 2u == 1u);
    let left = col / 2u;
    let right = min(left + col % 2u, last.x);
    let at_near = 0.5 * (chroma(near, left) + chroma(near, right));
    let at_far = 0.5 * (chroma(far, left) + chroma(far, right));
    let yuv = vec4(textureLoad(luma, vec2(col, row), 0).x, 0.75 * at_near + 0.25 * at_far, 1.0);
    return yuv * input_from_yuv;
}

// Row and column with the border.
fn value(group: u32, row: u32, col: u32) -> vec4<Real> {
    if HEAD {
        return vec4<Real>(converted(i32(row) - 1, i32(col) - 1));
    }
    return vec4<Real>(textureLoad(x, vec2(col, row), group));
}

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

// RGB at (i, j), with the edge repeated.
fn pixel(i: i32, j: i32) -> vec3<f32> {
    let at = clamp(vec2(j, i), vec2(0), vec2(i32(size.w), i32(size.h)) - 1) + 1;
    return textureLoad(x, at, IN_GROUPS).xyz;
}

fn line(i: i32, j: i32, weights: vec4<f32>) -> vec3<f32> {
    return weights.x * pixel(i, j) + weights.y * pixel(i, j + 1) + weights.z * pixel(i, j + 2)
        + weights.w * pixel(i, j + 3);
}

// The bicubic upscale at subpixel `sub` (down, right) of pixel (i, j).
fn upscaled(i: u32, j: u32, sub: vec2<u32>) -> vec3<f32> {
    if S == 1u {
        return pixel(i32(i), i32(j));
    }
    let centre = (vec2<f32>(sub) + 0.5) / f32(S) - 0.5;
    let first = vec2<i32>(floor(centre)) - 1 + vec2<i32>(vec2(i, j));
    let rows = keys(fract(centre.x));
    let cols = keys(fract(centre.y));
    return rows.x * line(first.x, first.y, cols) + rows.y * line(first.x + 1, first.y, cols)
        + rows.z * line(first.x + 2, first.y, cols) + rows.w * line(first.x + 3, first.y, cols);
}

fn keep_rgb(v: vec4<f32>, i: u32, j: u32) {
    if i < size.h && j < size.w {
        textureStore(y, vec2(j, i) + 1u, SUB_GROUPS, v);
    }
}

fn store(sum: vec4<f32>, group: u32, i: u32, j: u32) {
    if group >= SUB_GROUPS * S * S || i >= size.h || j >= size.w {
        return;
    }
    var v = sum;
    if RELU {
        v = max(v, vec4(0.0));
    }
    v *= SCALE;
    if ADD {
        v += textureLoad(add, vec2(j, i) + 1u, group, 0);
    }
    let sub = vec2(group / SUB_GROUPS / S, group / SUB_GROUPS % S);
    let at = vec2(j, i) * S + sub.yx;
    if TAIL {
        var rgb = v.xyz + vec3(MEAN_R, MEAN_G, MEAN_B);
        if BASE {
            rgb += upscaled(i, j, sub);
        }
        // Rounded here: a store may be off by more than half a code value.
        let codes = floor(clamp(rgb, vec3(0.0), vec3(1.0)) * 255.0 + 0.5);
        textureStore(rgba, at, vec4(codes / 255.0, 1.0));
    } else {
        textureStore(y, at + 1u, group % SUB_GROUPS, v);
        if KEEP_RGB == 2u && group == 0u {
            keep_rgb(textureLoad(add, vec2(j, i) + 1u, SUB_GROUPS, 0), i, j);
        }
    }
}

// [convolution]
// What is around one column of pixels: rows above, of and below it, of one input group at one column of taps.
struct Strip {
    v0: vec4<Real>, v1: vec4<Real>, v2: vec4<Real>, v3: vec4<Real>, v4: vec4<Real>,
    v5: vec4<Real>, v6: vec4<Real>, v7: vec4<Real>, v8: vec4<Real>, v9: vec4<Real>,
}

// Sums of one output group: columns are the pixels of this thread, the upper four and, if TALL, the lower four.
struct Sums { upper: mat4x4<f32>, lower: mat4x4<f32> }

fn multiply_add(acc: vec4<Real>, v: vec4<Real>, m: mat4x4<Real>) -> vec4<Real> {
    let a = fma(vec4(v.x), m[0], acc);
    let b = fma(vec4(v.y), m[1], a);
    let c = fma(vec4(v.z), m[2], b);
    return fma(vec4(v.w), m[3], c);
}

fn tap(acc: mat4x4<Real>, v: mat4x4<Real>, m: mat4x4<Real>) -> mat4x4<Real> {
    return mat4x4(
        multiply_add(acc[0], v[0], m),
        multiply_add(acc[1], v[1], m),
        multiply_add(acc[2], v[2], m),
        multiply_add(acc[3], v[3], m),
    );
}

// Written out, not looped: indexed by a variable, the pixels would leave the registers.
fn taps(sums: Sums, v: Strip, row: u32, k: u32) -> Sums {
    let top = weight(row, k);
    let middle = weight(row, k + 1u);
    let bottom = weight(row, k + 2u);
    var out = sums;
    var column = tap(begun(sums.upper), mat4x4(v.v0, v.v1, v.v2, v.v3), top);
    column = tap(column, mat4x4(v.v1, v.v2, v.v3, v.v4), middle);
    column = tap(column, mat4x4(v.v2, v.v3, v.v4, v.v5), bottom);
    out.upper = added(sums.upper, column);
    if TALL {
        column = tap(begun(sums.lower), mat4x4(v.v4, v.v5, v.v6, v.v7), top);
        column = tap(column, mat4x4(v.v5, v.v6, v.v7, v.v8), middle);
        column = tap(column, mat4x4(v.v6, v.v7, v.v8, v.v9), bottom);
        out.lower = added(sums.lower, column);
    }
    return out;
}

fn biased(bias: vec4<Real>) -> Sums {
    let column = vec4<f32>(bias);
    let columns = mat4x4(column, column, column, column);
    return Sums(columns, columns);
}

fn store_column(sums: Sums, group: u32, i: u32, j: u32) {
    store(sums.upper[0], group, i, j);
    store(sums.upper[1], group, i + 1u, j);
    store(sums.upper[2], group, i + 2u, j);
    store(sums.upper[3], group, i + 3u, j);
    if TALL {
        store(sums.lower[0], group, i + 4u, j);
        store(sums.lower[1], group, i + 5u, j);
        store(sums.lower[2], group, i + 6u, j);
        store(sums.lower[3], group, i + 7u, j);
    }
}

@compute @workgroup_size(16, HEIGHT)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let rows = select(4u, 8u, TALL);
    let top = wid.y * HEIGHT * rows;
    let left = wid.x * 16u;
    let i = top + lid.y * rows;
    let j = left + lid.x;
    var row = wid.z * (1u + 3u * IN_GROUPS);

    let bias = weight(row, 0u);
    row += 1u;
    var a0 = biased(bias[0]);
    var a1 = biased(bias[1]);
    var a2 = biased(bias[2]);
    var a3 = biased(bias[3]);

    for (var group = 0u; group < IN_GROUPS; group += 1u) {
        if TILED {
            workgroupBarrier(); // the tile of the group before has been read
            for (var k = index; k < TILE * TILE; k += 64u) {
                tile[k] = value(group, top + k / TILE, left + k % TILE);
            }
            workgroupBarrier();
        }
        for (var kx = 0u; kx < 3u; kx += 1u) {
            var v: Strip;
            if TILED {
                let corner = lid.y * 4u * TILE + lid.x + kx;
                v.v0 = tile[corner];
                v.v1 = tile[corner + TILE];
                v.v2 = tile[corner + 2u * TILE];
                v.v3 = tile[corner + 3u * TILE];
                v.v4 = tile[corner + 4u * TILE];
                v.v5 = tile[corner + 5u * TILE];
            } else {
                v.v0 = value(group, i, j + kx);
                v.v1 = value(group, i + 1u, j + kx);
                v.v2 = value(group, i + 2u, j + kx);
                v.v3 = value(group, i + 3u, j + kx);
                v.v4 = value(group, i + 4u, j + kx);
                v.v5 = value(group, i + 5u, j + kx);
            }
            if TALL {
                v.v6 = value(group, i + 6u, j + kx);
                v.v7 = value(group, i + 7u, j + kx);
                v.v8 = value(group, i + 8u, j + kx);
                v.v9 = value(group, i + 9u, j + kx);
            }
            if KEEP_RGB == 1u && kx == 1u && wid.z == 0u {
                keep_rgb(vec4<f32>(v.v1), i, j);
                keep_rgb(vec4<f32>(v.v2), i + 1u, j);
                keep_rgb(vec4<f32>(v.v3), i + 2u, j);
                keep_rgb(vec4<f32>(v.v4), i + 3u, j);
                if TALL {
                    keep_rgb(vec4<f32>(v.v5), i + 4u, j);
                    keep_rgb(vec4<f32>(v.v6), i + 5u, j);
                    keep_rgb(vec4<f32>(v.v7), i + 6u, j);
                    keep_rgb(vec4<f32>(v.v8), i + 7u, j);
                }
            }
            // The branches are on constants, so that each pipeline keeps only its own groups.
            a0 = taps(a0, v, row, 0u);
            if OUT_GROUPS > 1u {
                a1 = taps(a1, v, row, 3u);
            }
            if OUT_GROUPS > 2u {
                a2 = taps(a2, v, row, 6u);
            }
            if OUT_GROUPS > 3u {
                a3 = taps(a3, v, row, 9u);
            }
            row += 1u;
        }
    }

    let first = wid.z * OUT_GROUPS;
    store_column(a0, first, i, j);
    if OUT_GROUPS > 1u {
        store_column(a1, first + 1u, i, j);
    }
    if OUT_GROUPS > 2u {
        store_column(a2, first + 2u, i, j);
    }
    if OUT_GROUPS > 3u {
        store_column(a3, first + 3u, i, j);
    }
}
// [convolution end]
