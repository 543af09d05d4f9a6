// coop8: tiles of 8 pixels by 8 input channels times tiles of 8 input by 8 output channels, in f16, added up in f32. After
// conv3x3.coop.wgsl.
// Launch  grid (ceil(W/16), ceil(H/4), slices)  workgroup one subgroup, 16x4 pixels of OUT_GROUPS*4 channels  shared 5824 B
const SIDE: u32 = 8u;

alias Pixels = coop_mat8x8<f16, A>;
alias Weights = coop_mat8x8<f16, B>;
alias Products = coop_mat8x8<f32, C>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    var at = first_tile(wid.z);

    // Of each row, half of its pixels, half of the channels.
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
    for (var k = 0u; k < depth(); k += 1u) {
        load_pixels(k, wid, index);
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
            at += 64u * width();
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
    store_sums(wid, index);
}
