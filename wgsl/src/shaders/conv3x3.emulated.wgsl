// Cooperative matrices by plain arithmetic, for adapters that have none: slow, and the same products in the same places. A matrix is
// where it lies; a thread of index i has every SUBGROUP-th sum, from the i-th on.
struct Tile { at: u32, stride: u32 }

alias Products = u32;

var<workgroup> products: array<f32, 1024>;

fn zeros(index: u32, first: Products) -> Products {
    for (var e = index; e < SIDE * SIDE; e += SUBGROUP) {
        products[first + e] = 0.0;
    }
    return first;
}

fn multiplied_and_added(index: u32, p: Tile, w: Tile, first: Products) -> Products {
    for (var e = index; e < SIDE * SIDE; e += SUBGROUP) {
        let row = p.at + p.stride * (e / SIDE);
        let column = w.at + e % SIDE;
        var sum = products[first + e];
        for (var k = 0u; k < SIDE; k += 1u) {
            sum += f32(pixels[row + k]) * f32(weight_tiles[column + w.stride * k]);
        }
        products[first + e] = sum;
    }
    return first;
}

fn put(index: u32, first: Products, at: u32, stride: u32) {
    for (var e = index; e < SIDE * SIDE; e += SUBGROUP) {
        sums[at + stride * (e / SIDE) + e % SIDE] = products[first + e];
    }
}

