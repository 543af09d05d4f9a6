// present: one picture, or two with a divider, fitted into the window; a loupe under the pointer
// Shapes  network, bicubic (h,w) rgba8 R'G'B' | target (H,W) R'G'B'
// Launch  3 vertices, one triangle over the whole target
// Limits  any size; a target that stores linear light is told by `linear`
// Cost    1 texel fetch a pixel, 4 where the picture is made smaller

struct View {
    // Left upper corner and size of the picture in the window, pixels.
    rect: vec4<f32>,
    // Middle, radius and magnification of the loupe, pixels; no loupe with radius 0.
    loupe: vec4<f32>,
    // Share of the picture's width that is bicubic; below 0 there is no divider.
    divider: f32,
    // 1 for a live picture; less for one that stands still and is not to be taken for live.
    light: f32,
    // 1 if the target turns linear light into code values by itself.
    linear: f32,
    unused: f32,
}

@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var network: texture_2d<f32>;
@group(0) @binding(2) var bicubic: texture_2d<f32>;
@group(0) @binding(3) var smooth_sampler: sampler;
@group(0) @binding(4) var sharp_sampler: sampler;

@vertex
fn vertex(@builtin(vertex_index) index: u32) -> @builtin(position) vec4<f32> {
    let corner = vec2<f32>(f32(index & 1u), f32(index >> 1u));
    return vec4<f32>(corner * 4.0 - 1.0, 0.0, 1.0);
}

fn sample(left: bool, magnified: bool, at: vec2<f32>) -> vec3<f32> {
    if magnified {
        // The loupe shows pixels as they are.
        if left { return textureSampleLevel(bicubic, sharp_sampler, at, 0.0).rgb; }
        return textureSampleLevel(network, sharp_sampler, at, 0.0).rgb;
    }
    // A window pixel covers `texels` of the picture: where that is more than one, the mean of four places.
    let texels = vec2<f32>(textureDimensions(network)) / view.rect.zw;
    let apart = select(vec2<f32>(0.0), 0.25 / view.rect.zw, max(texels.x, texels.y) > 1.001);
    var sum = vec3<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        let place = at + apart * (vec2<f32>(f32(i & 1u), f32(i >> 1u)) * 2.0 - 1.0);
        if left {
            sum += textureSampleLevel(bicubic, smooth_sampler, place, 0.0).rgb;
        } else {
            sum += textureSampleLevel(network, smooth_sampler, place, 0.0).rgb;
        }
    }
    return sum / 4.0;
}

@fragment
fn fragment(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    var at = position.xy;
    let away = distance(at, view.loupe.xy);
    let in_loupe = away < view.loupe.z;
    if in_loupe {
        at = view.loupe.xy + (at - view.loupe.xy) / view.loupe.w;
    }
    let place = (at - view.rect.xy) / view.rect.zw;
    var colour = vec3<f32>(0.0);
    if all(place >= vec2<f32>(0.0)) && all(place < vec2<f32>(1.0)) {
        colour = sample(place.x < view.divider, in_loupe, place);
        let grey = vec3<f32>(dot(colour, vec3<f32>(0.2126, 0.7152, 0.0722)));
        colour = mix(grey, colour, view.light) * (0.3 + 0.7 * view.light);
        // The divider keeps its width in the loupe.
        let zoom = select(1.0, view.loupe.w, in_loupe);
        let from_divider = abs(place.x - view.divider) * view.rect.z * zoom;
        if view.divider >= 0.0 && from_divider < 2.5 {
            colour = select(vec3<f32>(0.0), vec3<f32>(1.0), from_divider < 1.5);
        }
    }
    if in_loupe && away > view.loupe.z - 2.0 {
        colour = vec3<f32>(0.9);
    }
    if view.linear > 0.5 {
        colour = select(pow((colour + 0.055) / 1.055, vec3<f32>(2.4)), colour / 12.92, colour <= vec3<f32>(0.04045));
    }
    return vec4<f32>(colour, 1.0);
}
