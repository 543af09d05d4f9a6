//! A network as convolutions alone: each pixel shuffle is done by the convolution before it.

use hone_model::{Arch, Op};

/// `y = pixel_shuffle(scale * relu?(conv3x3(value[src])) , shuffle) + value[add]`. The step at index `i` writes value
/// `i + 1`; value 0 is the picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub layer: usize,
    pub src: usize,
    pub relu: bool,
    pub add: Option<usize>,
    pub scale: f32,
    pub shuffle: usize,
}

/// The steps of a network.
pub(super) fn program(arch: Arch) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // For each value of the ops, the same value here.
    let mut values = vec![0];
    for op in arch.ops() {
        match op {
            Op::Conv3x3 { layer, src, relu, add, scale } => {
                let add = add.map(|add| values[add]);
                steps.push(Step { layer, src: values[src], relu, add, scale, shuffle: 1 });
            }
            Op::PixelShuffle { src, s } => {
                assert!(values[src] == steps.len(), "a shuffle follows its convolution");
                let conv = steps.last_mut().expect("a network begins with a convolution");
                assert!(conv.shuffle == 1 && conv.add.is_none(), "one shuffle, and nothing in between");
                conv.shuffle = s;
            }
        }
        values.push(steps.len());
    }
    steps
}

/// For each value, the index of the last step that reads it.
pub(super) fn last_reads(steps: &[Step]) -> Vec<usize> {
    let mut last = vec![0; steps.len() + 1];
    for (i, step) in steps.iter().enumerate() {
        last[step.src] = i;
        if let Some(add) = step.add {
            last[add] = i;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_part_of_the_convolutions_before_them() {
        let shuffles = |arch: &str| -> Vec<usize> {
            program(arch.parse().unwrap()).iter().map(|step| step.shuffle).collect()
        };
        // head, two of a block, body's last; then the tail, or the upsampler and the last convolution
        assert_eq!(shuffles("live-1x8-x1"), [1, 1, 1, 1, 1]);
        assert_eq!(shuffles("live-1x8-x4"), [1, 1, 1, 1, 4]);
        assert_eq!(shuffles("edsr-1x8-x1"), [1, 1, 1, 1, 1]);
        assert_eq!(shuffles("edsr-1x8-x4"), [1, 1, 1, 1, 2, 2, 1]);
    }

    #[test]
    fn a_value_lives_to_its_last_read() {
        let steps = program("live-1x8-x2".parse().unwrap());
        // head, conv, conv + head, conv + head, tail: the head is read by the fourth step last
        assert_eq!(last_reads(&steps), [0, 3, 2, 3, 4, 0]);
    }
}
