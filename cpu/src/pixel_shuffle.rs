//! Moves channels into space and back.

use crate::map::Map;

/// (C·s², H, W) -> (C, s·H, s·W). Source: arXiv:1609.05158, eq. 4.
pub fn pixel_shuffle(src: &Map, s: usize, dst: &mut Map) {
    assert_eq!((src.h * s, src.w * s, src.c), (dst.h, dst.w, dst.c * s * s));
    let (channels, width, group) = (dst.c, dst.w, dst.group);
    for (y, row) in dst.rows_mut().enumerate() {
        let src_row = src.padded_row(y / s + 1);
        for c in 0..channels {
            for dx in 0..s {
                let channel = (c * s + y % s) * s + dx;
                let from = &src_row[src.at(channel, 0)..];
                let to = &mut row[(c / group * (width + 2) + dx + 1) * group + c % group..];
                for (to, from) in
                    to.iter_mut().step_by(s * group).zip(from.iter().step_by(src.group)).take(src.w)
                {
                    *to = *from;
                }
            }
        }
    }
}

/// Gradient by the input: (C, s·H, s·W) -> (C·s², H, W).
pub fn pixel_shuffle_grad(grad_y: &Map, s: usize, grad_x: &mut Map) {
    assert_eq!((grad_x.h * s, grad_x.w * s, grad_x.c), (grad_y.h, grad_y.w, grad_y.c * s * s));
    let (channels, width, group) = (grad_x.c, grad_x.w, grad_x.group);
    for (y, row) in grad_x.rows_mut().enumerate() {
        for channel in 0..channels {
            let (c, dy, dx) = (channel / (s * s), channel / s % s, channel % s);
            let from = &grad_y.padded_row(s * y + dy + 1)[grad_y.at(c, dx)..];
            let to = &mut row[(channel / group * (width + 2) + 1) * group + channel % group..];
            for (to, from) in
                to.iter_mut().step_by(group).zip(from.iter().step_by(s * grad_y.group)).take(width)
            {
                *to = *from;
            }
        }
    }
}
