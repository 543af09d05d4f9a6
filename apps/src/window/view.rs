//! What the one who watches has chosen to see, and where the picture lies in the window. No window in here.

/// A place or size in the window, in physical pixels.
pub type Pixels = [f32; 2];

/// Smallest and largest magnification of the loupe.
const ZOOM: [f32; 2] = [2.0, 32.0];
/// Side of the loupe, as a share of the window's shorter side.
const LOUPE_SIDE: f32 = 0.4;
/// How far from the divider the pointer still takes hold of it, pixels.
const DIVIDER_REACH: f32 = 14.0;

/// Where the picture lies in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Left upper corner.
    pub origin: Pixels,
    /// Columns and rows.
    pub size: Pixels,
}

impl Fit {
    /// As large as it may be without changing its shape, in the middle.
    pub fn new(window: Pixels, picture: Pixels) -> Self {
        let scale = (window[0] / picture[0].max(1.0)).min(window[1] / picture[1].max(1.0));
        let size = picture.map(|side| (side * scale).round().max(1.0));
        let origin = [0, 1].map(|i| ((window[i] - size[i]) / 2.0).floor());
        Self { origin, size }
    }

    /// The share of the picture's width at column `x` of the window.
    pub fn share(&self, x: f32) -> f32 {
        ((x - self.origin[0]) / self.size[0]).clamp(0.0, 1.0)
    }
}

/// What is chosen.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether the divider is there: bicubic left of it, the network right of it.
    pub compare: bool,
    /// Where, as a share of the picture's width.
    pub divider: f32,
    /// Whether the pointer holds the divider.
    pub dragging: bool,
    /// Whether the loupe is there.
    pub loupe: bool,
    /// Its magnification.
    pub zoom: f32,
    /// Where the pointer is, if it is over the window.
    pub pointer: Option<Pixels>,
    /// Whether the picture stands still.
    pub paused: bool,
    /// Whether the sound is off.
    pub muted: bool,
    /// Whether the statistics are shown.
    pub statistics: bool,
    /// Whether the shortcuts are shown.
    pub help: bool,
    /// Whether the choice of device is shown.
    pub devices: bool,
}

impl Default for View {
    fn default() -> Self {
        Self {
            compare: false,
            divider: 0.5,
            dragging: false,
            loupe: false,
            zoom: 4.0,
            pointer: None,
            paused: false,
            muted: false,
            statistics: false,
            help: false,
            devices: false,
        }
    }
}

impl View {
    /// Whether the pointer is near enough to take hold of the divider.
    pub fn over_divider(&self, fit: &Fit) -> bool {
        let at = fit.origin[0] + self.divider * fit.size[0];
        self.compare && self.pointer.is_some_and(|pointer| (pointer[0] - at).abs() <= DIVIDER_REACH)
    }

    /// Moves the divider by a share of the picture's width.
    pub fn move_divider(&mut self, by: f32) {
        self.divider = (self.divider + by).clamp(0.0, 1.0);
    }

    /// Lets a divider that is held follow the pointer.
    pub fn drag(&mut self, fit: &Fit) {
        if let (true, Some(pointer)) = (self.dragging, self.pointer) {
            self.divider = fit.share(pointer[0]);
        }
    }

    /// Magnifies by so many steps more; less, if negative.
    pub fn zoom_by(&mut self, steps: f32) {
        if steps.is_finite() {
            self.zoom = (self.zoom * 2.0_f32.powf(steps / 2.0)).clamp(ZOOM[0], ZOOM[1]);
        }
    }

    /// The loupe's middle and radius, if it is to be seen.
    pub fn loupe_at(&self, window: Pixels) -> Option<(Pixels, f32)> {
        let radius = LOUPE_SIDE * window[0].min(window[1]) / 2.0;
        self.pointer.filter(|_| self.loupe).map(|pointer| (pointer, radius))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_keeps_its_shape_and_stays_inside() {
        for window in [[1280.0, 720.0], [800.0, 800.0], [300.0, 900.0], [1.0, 1.0], [641.0, 359.0]] {
            for picture in [[1920.0, 1080.0], [256.0, 144.0], [1080.0, 1920.0], [2.0, 8192.0]] {
                let fit = Fit::new(window, picture);
                for i in [0, 1] {
                    assert!(
                        fit.origin[i] >= -1.0 && fit.origin[i] + fit.size[i] <= window[i] + 1.0,
                        "{fit:?}"
                    );
                }
                // One side touches, and the other follows to half a pixel.
                assert!((0..2).any(|i| (fit.size[i] - window[i]).abs() <= 1.0), "{fit:?}");
                let scale = (window[0] / picture[0]).min(window[1] / picture[1]);
                assert!(
                    (0..2).all(|i| (fit.size[i] - (picture[i] * scale).max(1.0)).abs() <= 0.51),
                    "{fit:?}"
                );
            }
        }
        assert_eq!(Fit::new([1000.0, 500.0], [200.0, 100.0]).origin, [0.0, 0.0]);
        assert_eq!(Fit::new([1200.0, 500.0], [200.0, 100.0]).origin, [100.0, 0.0]);
    }

    #[test]
    fn the_divider_is_dragged_within_the_picture() {
        let fit = Fit::new([1200.0, 500.0], [200.0, 100.0]);
        let mut view = View { compare: true, pointer: Some([605.0, 10.0]), ..View::default() };
        assert!(view.over_divider(&fit));
        view.drag(&fit);
        assert_eq!(view.divider, 0.5, "nobody holds it");
        view.dragging = true;
        for (x, share) in [(350.0, 0.25), (0.0, 0.0), (1199.0, 1.0)] {
            view.pointer = Some([x, 10.0]);
            view.drag(&fit);
            assert_eq!(view.divider, share);
        }
        assert!(!View { pointer: Some([700.0, 10.0]), ..View::default() }.over_divider(&fit));
        view.move_divider(-0.3);
        view.move_divider(-5.0);
        assert_eq!(view.divider, 0.0);
    }

    #[test]
    fn the_loupe_magnifies_within_bounds() {
        let mut view = View { loupe: true, ..View::default() };
        assert_eq!(view.loupe_at([100.0, 50.0]), None, "the pointer is elsewhere");
        view.pointer = Some([3.0, 4.0]);
        assert_eq!(view.loupe_at([100.0, 50.0]), Some(([3.0, 4.0], 10.0)));
        view.zoom_by(2.0);
        assert_eq!(view.zoom, 8.0);
        for steps in [1e9, f32::NAN, f32::INFINITY] {
            view.zoom_by(steps);
        }
        assert_eq!(view.zoom, ZOOM[1]);
        view.zoom_by(-1e9);
        assert_eq!(view.zoom, ZOOM[0]);
    }
}
