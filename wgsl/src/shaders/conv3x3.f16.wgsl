// f16: four input channels by three taps add up to 12 products in 16 bits, the sum of these is in 32.
alias Real = f16;
// Not a mat4x4<f16>, whose columns are too close for uniform memory.
struct Stored { @align(16) column_0: vec4<f16>, column_1: vec4<f16>, column_2: vec4<f16>, column_3: vec4<f16> }

fn loaded(m: Stored) -> mat4x4<f16> {
    return mat4x4(m.column_0, m.column_1, m.column_2, m.column_3);
}

fn begun(sums: mat4x4<f32>) -> mat4x4<f16> {
    return mat4x4<f16>();
}

fn added(sums: mat4x4<f32>, column: mat4x4<f16>) -> mat4x4<f32> {
    let wide = mat4x4(vec4<f32>(column[0]), vec4<f32>(column[1]), vec4<f32>(column[2]), vec4<f32>(column[3]));
    return sums + wide;
}
