// coop8: tiles of 8 pixels by 8 input channels times tiles of 8 input by 8 output channels, in f16, added up in f32. A workgroup
// is one subgroup and computes 16x4 pixels of OUT_GROUPS*4 channels.
override SUBGROUP: u32; // threads in a subgroup

alias Pixels = coop_mat8x8<f16, A>;
alias Weights = coop_mat8x8<f16, B>;
alias Products = coop_mat8x8<f32, C>;

const COLUMNS: u32 = 18u; // 16 pixels and one more on each side

// A slice: biases, then a tile for each (8 input channels, tap, 8 output channels), a row an input channel.
@group(0) @binding(12) var<storage, read> weight_tiles: array<f16>;

var<workgroup> pixels: array<f16, 864>; // 6 rows of 18, 8 channels each
var<workgroup> sums: array<f32, 1024>; // 4 rows of 16, 16 channels each

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let top = wid.y * 4u;
    let left = wid.x * 16u;
    let depth = (IN_GROUPS + 1u) / 2u;
    let width = (OUT_GROUPS + 1u) / 2u;
    let biases = wid.z * 8u * width * (1u + 72u * depth);
    var at = biases + 8u * width;

    var c000: Products;
    var c001: Products;
    var c010: Products;
    var c011: Products;
    var c100: Products;
    var c101: Products;
    var c110: Products;
    var c111: Products;
    var c200: Products;
    var c201: Products;
    var c210: Products;
    var c211: Products;
    var c300: Products;
    var c301: Products;
    var c310: Products;
    var c311: Products;
    for (var k = 0u; k < depth; k += 1u) {
        workgroupBarrier(); // the pixels of the channels before have been read
        for (var p = index; p < 6u * COLUMNS; p += SUBGROUP) {
            let row = p / COLUMNS;
            let col = p % COLUMNS;
            let first = value(2u * k, top + row, left + col);
            var second = vec4<f16>();
            if 2u * k + 1u < IN_GROUPS {
                second = value(2u * k + 1u, top + row, left + col);
            }
            pixels[8u * p] = first.x;
            pixels[8u * p + 1u] = first.y;
            pixels[8u * p + 2u] = first.z;
            pixels[8u * p + 3u] = first.w;
            pixels[8u * p + 4u] = second.x;
            pixels[8u * p + 5u] = second.y;
            pixels[8u * p + 6u] = second.z;
            pixels[8u * p + 7u] = second.w;
            if KEEP_RGB == 1u && wid.z == 0u && row >= 1u && row <= 4u && col >= 1u && col <= 16u {
                keep_rgb(vec4<f32>(first), top + row - 1u, left + col - 1u);
            }
        }
        workgroupBarrier();
        for (var tap = 0u; tap < 9u; tap += 1u) {
            let corner = 8u * (tap / 3u * COLUMNS + tap % 3u);
            let left_weights = coopLoadT<Weights>(&weight_tiles[at], 8u);
            let p00 = coopLoadT<Pixels>(&pixels[corner + 0u], 8u);
            let p01 = coopLoadT<Pixels>(&pixels[corner + 64u], 8u);
            let p10 = coopLoadT<Pixels>(&pixels[corner + 144u], 8u);
            let p11 = coopLoadT<Pixels>(&pixels[corner + 208u], 8u);
            let p20 = coopLoadT<Pixels>(&pixels[corner + 288u], 8u);
            let p21 = coopLoadT<Pixels>(&pixels[corner + 352u], 8u);
            let p30 = coopLoadT<Pixels>(&pixels[corner + 432u], 8u);
            let p31 = coopLoadT<Pixels>(&pixels[corner + 496u], 8u);
            c000 = coopMultiplyAdd(p00, left_weights, c000);
            c010 = coopMultiplyAdd(p01, left_weights, c010);
            c100 = coopMultiplyAdd(p10, left_weights, c100);
            c110 = coopMultiplyAdd(p11, left_weights, c110);
            c200 = coopMultiplyAdd(p20, left_weights, c200);
            c210 = coopMultiplyAdd(p21, left_weights, c210);
            c300 = coopMultiplyAdd(p30, left_weights, c300);
            c310 = coopMultiplyAdd(p31, left_weights, c310);
            if OUT_GROUPS > 2u {
                let right_weights = coopLoadT<Weights>(&weight_tiles[at + 64u], 8u);
                c001 = coopMultiplyAdd(p00, right_weights, c001);
                c011 = coopMultiplyAdd(p01, right_weights, c011);
                c101 = coopMultiplyAdd(p10, right_weights, c101);
                c111 = coopMultiplyAdd(p11, right_weights, c111);
                c201 = coopMultiplyAdd(p20, right_weights, c201);
                c211 = coopMultiplyAdd(p21, right_weights, c211);
                c301 = coopMultiplyAdd(p30, right_weights, c301);
                c311 = coopMultiplyAdd(p31, right_weights, c311);
            }
            at += 64u * width;
        }
    }
    coopStoreT(c000, &sums[0u], 16u);
    coopStoreT(c001, &sums[8u], 16u);
    coopStoreT(c010, &sums[128u], 16u);
    coopStoreT(c011, &sums[136u], 16u);
    coopStoreT(c100, &sums[256u], 16u);
    coopStoreT(c101, &sums[264u], 16u);
    coopStoreT(c110, &sums[384u], 16u);
    coopStoreT(c111, &sums[392u], 16u);
    coopStoreT(c200, &sums[512u], 16u);
    coopStoreT(c201, &sums[520u], 16u);
    coopStoreT(c210, &sums[640u], 16u);
    coopStoreT(c211, &sums[648u], 16u);
    coopStoreT(c300, &sums[768u], 16u);
    coopStoreT(c301, &sums[776u], 16u);
    coopStoreT(c310, &sums[896u], 16u);
    coopStoreT(c311, &sums[904u], 16u);
    workgroupBarrier();
    for (var k = index; k < 64u * OUT_GROUPS; k += SUBGROUP) {
        let pixel = k % 64u;
        let group = k / 64u;
        let first = 16u * pixel + 4u * group;
        let bias = biases + 4u * group;
        let sum = vec4(sums[first], sums[first + 1u], sums[first + 2u], sums[first + 3u]);
        let more = vec4(weight_tiles[bias], weight_tiles[bias + 1u], weight_tiles[bias + 2u], weight_tiles[bias + 3u]);
        store(sum + vec4<f32>(more), wid.z * OUT_GROUPS + group, top + pixel / 16u, left + pixel % 16u);
    }
}
