// coop16: tiles of 16 pixels by 16 input channels times tiles of 16 input by 16 output channels, in f16, added up in f32. After
// conv3x3.coop.wgsl.
// Launch  grid (ceil(W/16), ceil(H/4), slices)  workgroup one subgroup, 16x4 pixels of OUT_GROUPS*4 channels  shared 7552 B
const SIDE: u32 = 16u;

alias Pixels = coop_mat16x16<f16, A>;
alias Weights = coop_mat16x16<f16, B>;
alias Products = coop_mat16x16<f32, C>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    var at = first_tile(wid.z);

    // A row each.
    var c0: Products;
    var c1: Products;
    var c2: Products;
    var c3: Products;
    for (var k = 0u; k < depth(); k += 1u) {
        load_pixels(k, wid, index);
        for (var tap = 0u; tap < 9u; tap += 1u) {
            let corner = 16u * (tap / 3u * COLUMNS + tap % 3u);
            let weights = coopLoadT<Weights>(&weight_tiles[at], 16u);
            let p0 = coopLoadT<Pixels>(&pixels[corner + 0u], 16u);
            let p1 = coopLoadT<Pixels>(&pixels[corner + 288u], 16u);
            let p2 = coopLoadT<Pixels>(&pixels[corner + 576u], 16u);
            let p3 = coopLoadT<Pixels>(&pixels[corner + 864u], 16u);
            c0 = coopMultiplyAdd(p0, weights, c0);
            c1 = coopMultiplyAdd(p1, weights, c1);
            c2 = coopMultiplyAdd(p2, weights, c2);
            c3 = coopMultiplyAdd(p3, weights, c3);
            at += 256u;
        }
    }
    coopStoreT(c0, &sums[0u], 16u);
    coopStoreT(c1, &sums[256u], 16u);
    coopStoreT(c2, &sums[512u], 16u);
    coopStoreT(c3, &sums[768u], 16u);
    store_sums(wid, index);
}
