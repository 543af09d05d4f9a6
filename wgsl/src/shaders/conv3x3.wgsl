// conv3x3: y = SCALE * relu?(conv3x3(x, w) + b) + add?, pad 1
// Shapes  x (IN_GROUPS,HP,WP) vec4 f32 | w (slices,1+9*IN_GROUPS*OUT_GROUPS) mat4x4 f32 | add, y (GROUPS,HP,WP) vec4 f32
// Launch  grid (ceil(W/16), ceil(H/16), slices)  workgroup 16x4, four pixels down and OUT_GROUPS*4 channels a thread  shared 5184 B
// Limits  any Cin, Cout, each rounded up to a group of 4 channels; OUT_GROUPS 1 to 4; w in uniform up to 65536 B; HP >= 16*ceil(H/16)+2, WP likewise
// Cost    18*H*W*Cin*Cout flop; 4*H*W*(Cin+Cout) B, and 4*H*W*Cout B more with ADD
// Oracle  model/src/reference/conv3x3.rs | Cases parity/src/cases/conv3x3.rs

// A group is 4 channels of one pixel. Pixel (i, j) of group g is at (g*HP + i+1)*WP + j+1: the border
// around the picture is zero and is never written, so that no read needs a guard.
struct Size { w: u32, h: u32, wp: u32, hp: u32 }

override IN_GROUPS: u32; // of x
override OUT_GROUPS: u32; // computed by a thread
override GROUPS: u32; // of y
override RELU: bool;
override ADD: bool;
override SCALE: f32;
override WEIGHTS_IN_UNIFORM: bool;

@group(0) @binding(0) var<uniform> size: Size;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// The same weights twice: uniform memory is the faster of the two, but holds 64 KB at most. A slice
// is what one thread needs: first a matrix whose columns are the biases of its output groups, then
// for each (input group, tap, output group) a matrix whose column k multiplies input channel k.
@group(0) @binding(2) var<uniform> weights_uniform: array<mat4x4<f32>, 1024>;
@group(0) @binding(3) var<storage, read> weights_storage: array<mat4x4<f32>>;
@group(0) @binding(4) var<storage, read> add: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

const TILE: u32 = 18u; // 16 pixels and one more on each side
var<workgroup> tile: array<vec4<f32>, 324>;

fn weight(i: u32) -> mat4x4<f32> {
    if WEIGHTS_IN_UNIFORM {
        return weights_uniform[i];
    }
    return weights_storage[i];
}

fn multiply_add(acc: vec4<f32>, v: vec4<f32>, m: mat4x4<f32>) -> vec4<f32> {
    let a = fma(vec4(v.x), m[0], acc);
    let b = fma(vec4(v.y), m[1], a);
    let c = fma(vec4(v.z), m[2], b);
    return fma(vec4(v.w), m[3], c);
}

// Columns are the four pixels of this thread: one output group in `acc`, one input group in `v`.
fn tap(acc: mat4x4<f32>, v: mat4x4<f32>, m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(
        multiply_add(acc[0], v[0], m),
        multiply_add(acc[1], v[1], m),
        multiply_add(acc[2], v[2], m),
        multiply_add(acc[3], v[3], m),
    );
}

fn store(acc: vec4<f32>, group: u32, i: u32, j: u32) {
    if group >= GROUPS || i >= size.h || j >= size.w {
        return;
    }
    let at = (group * size.hp + i + 1u) * size.wp + j + 1u;
    var v = acc;
    if RELU {
        v = max(v, vec4(0.0));
    }
    v *= SCALE;
    if ADD {
        v += add[at];
    }
    y[at] = v;
}

fn store_column(acc: mat4x4<f32>, group: u32, i: u32, j: u32) {
    store(acc[0], group, i, j);
    store(acc[1], group, i + 1u, j);
    store(acc[2], group, i + 2u, j);
    store(acc[3], group, i + 3u, j);
}

@compute @workgroup_size(16, 4)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_id) lid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let top = wid.y * 16u;
    let left = wid.x * 16u;
    var at = wid.z * (1u + 9u * IN_GROUPS * OUT_GROUPS);

    let bias = weight(at);
    at += 1u;
    var a0 = mat4x4(bias[0], bias[0], bias[0], bias[0]);
    var a1 = mat4x4(bias[1], bias[1], bias[1], bias[1]);
    var a2 = mat4x4(bias[2], bias[2], bias[2], bias[2]);
    var a3 = mat4x4(bias[3], bias[3], bias[3], bias[3]);

    for (var group = 0u; group < IN_GROUPS; group += 1u) {
        workgroupBarrier(); // the tile of the group before has been read
        for (var k = index; k < TILE * TILE; k += 64u) {
            tile[k] = x[(group * size.hp + top + k / TILE) * size.wp + left + k % TILE];
        }
        workgroupBarrier();
        for (var kx = 0u; kx < 3u; kx += 1u) {
            let corner = lid.y * 4u * TILE + lid.x + kx;
            let v0 = tile[corner];
            let v1 = tile[corner + TILE];
            let v2 = tile[corner + 2u * TILE];
            let v3 = tile[corner + 3u * TILE];
            let v4 = tile[corner + 4u * TILE];
            let v5 = tile[corner + 5u * TILE];
            // Written out, not looped: indexed by a variable, the pixels would leave the registers.
            // The branches are on constants, so that each pipeline keeps only its own groups.
            var v = mat4x4(v0, v1, v2, v3);
            a0 = tap(a0, v, weight(at));
            if OUT_GROUPS > 1u {
                a1 = tap(a1, v, weight(at + 1u));
            }
            if OUT_GROUPS > 2u {
                a2 = tap(a2, v, weight(at + 2u));
            }
            if OUT_GROUPS > 3u {
                a3 = tap(a3, v, weight(at + 3u));
            }
            at += OUT_GROUPS;
            v = mat4x4(v1, v2, v3, v4);
            a0 = tap(a0, v, weight(at));
            if OUT_GROUPS > 1u {
                a1 = tap(a1, v, weight(at + 1u));
            }
            if OUT_GROUPS > 2u {
                a2 = tap(a2, v, weight(at + 2u));
            }
            if OUT_GROUPS > 3u {
                a3 = tap(a3, v, weight(at + 3u));
            }
            at += OUT_GROUPS;
            v = mat4x4(v2, v3, v4, v5);
            a0 = tap(a0, v, weight(at));
            if OUT_GROUPS > 1u {
                a1 = tap(a1, v, weight(at + 1u));
            }
            if OUT_GROUPS > 2u {
                a2 = tap(a2, v, weight(at + 2u));
            }
            if OUT_GROUPS > 3u {
                a3 = tap(a3, v, weight(at + 3u));
            }
            at += OUT_GROUPS;
        }
    }

    let first = wid.z * OUT_GROUPS;
    let i = top + lid.y * 4u;
    let j = left + lid.x;
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
