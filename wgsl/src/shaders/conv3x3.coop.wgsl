// What goes around the products of conv3x3.coop8.wgsl and conv3x3.coop16.wgsl, whose tiles have SIDE rows and columns. A workgroup
// is one subgroup: it computes 16x4 pixels of OUT_GROUPS*4 channels.
override SUBGROUP: u32; // threads in a subgroup

const COLUMNS: u32 = 18u; // 16 pixels and one more on each side

// A slice: biases, then a tile for each (SIDE input channels, tap, SIDE output channels), a row an input channel.
@group(0) @binding(12) var<storage, read> weight_tiles: array<f16>;

var<workgroup> pixels: array<f16, 108u * SIDE>; // 6 rows of 18, SIDE channels each
var<workgroup> sums: array<f32, 1024>; // 4 rows of 16, 16 channels each

// Tiles along the input channels,
fn depth() -> u32 {
    return (4u * IN_GROUPS + SIDE - 1u) / SIDE;
}

// and along the output channels of a slice.
fn width() -> u32 {
    return (4u * OUT_GROUPS + SIDE - 1u) / SIDE;
}

fn first_bias(slice: u32) -> u32 {
    return slice * SIDE * width() * (1u + 9u * SIDE * depth());
}

fn first_tile(slice: u32) -> u32 {
    return first_bias(slice) + SIDE * width();
}

// Input channels SIDE*k to SIDE*(k+1) of the workgroup's pixels and of those around them.
fn load_pixels(k: u32, wid: vec3<u32>, index: u32) {
    workgroupBarrier(); // those of the channels before have been read
    for (var p = index; p < 6u * COLUMNS; p += SUBGROUP) {
        let row = p / COLUMNS;
        let col = p % COLUMNS;
        for (var g = 0u; g < SIDE / 4u; g += 1u) {
            let group = SIDE / 4u * k + g;
            var four = vec4<f16>();
            if group < IN_GROUPS {
                four = value(group, 4u * wid.y + row, 16u * wid.x + col);
            }
            let at = SIDE * p + 4u * g;
            pixels[at] = four.x;
            pixels[at + 1u] = four.y;
            pixels[at + 2u] = four.z;
            pixels[at + 3u] = four.w;
            if KEEP_RGB == 1u && group == 0u && wid.z == 0u && row >= 1u && row <= 4u && col >= 1u && col <= 16u {
                keep_rgb(vec4<f32>(four), 4u * wid.y + row - 1u, 16u * wid.x + col - 1u);
            }
        }
    }
    workgroupBarrier();
}

fn store_sums(wid: vec3<u32>, index: u32) {
    workgroupBarrier();
    for (var k = index; k < 64u * OUT_GROUPS; k += SUBGROUP) {
        let pixel = k % 64u;
        let group = k / 64u;
        let first = 16u * pixel + 4u * group;
        let bias = first_bias(wid.z) + 4u * group;
        let sum = vec4(sums[first], sums[first + 1u], sums[first + 2u], sums[first + 3u]);
        let more = vec4(weight_tiles[bias], weight_tiles[bias + 1u], weight_tiles[bias + 2u], weight_tiles[bias + 3u]);
        store(sum + vec4<f32>(more), wid.z * OUT_GROUPS + group, 4u * wid.y + pixel / 16u, 16u * wid.x + pixel % 16u);
    }
}

