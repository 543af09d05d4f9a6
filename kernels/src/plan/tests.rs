//! Plans without a device: order, fusion, memory.

use super::*;

fn arch(name: &str) -> Arch {
    name.parse().unwrap()
}

/// What a step reads and writes.
fn uses(step: &Step) -> (Vec<Id>, Vec<Id>) {
    let list = |ids: &[Option<Id>]| ids.iter().flatten().copied().collect();
    match *step {
        Step::Conv3x3 { x, y, add, .. } => (list(&[Some(x), add]), vec![y]),
        Step::Conv3x3Grad { gy, gx, add, mask, .. } => (list(&[Some(gy), add, mask]), vec![gx]),
        Step::GradWeights { x, gy, .. } => (vec![x, gy], vec![]),
        Step::Resblock { x, hidden, y, .. } => (vec![x], list(&[hidden, Some(y)])),
        Step::ResblockGrad { gy, x, hidden, gx, .. } => (vec![gy, x, hidden], vec![gx]),
        Step::PixelShuffle { x, y, .. } => (vec![x], vec![y]),
        Step::PixelShuffleGrad { gy, gx, .. } => (vec![gy], vec![gx]),
        Step::Add { a, b, y } => (vec![a, b], vec![y]),
        Step::Loss { tail, grad } => (vec![tail], vec![grad]),
        Step::ReduceGrads(_) => (vec![], vec![]),
    }
}

#[test]
fn no_launch_writes_what_it_reads_and_all_that_is_read_was_written() {
    for family in ["live", "edsr"] {
        for features in [8, 16, 32, 64] {
            for scale in 1..=4 {
                let arch = arch(&format!("{family}-2x{features}-x{scale}"));
                for plan in [Plan::training(arch, 2, 9, 4), Plan::forward(arch, 1, 5, 7)] {
                    let mut written = vec![false; plan.tensors.len()];
                    written[0] = true;
                    for step in &plan.steps {
                        let (reads, writes) = uses(step);
                        assert!(reads.iter().all(|&id| written[id]), "{arch}: {step:?}");
                        assert!(writes.iter().all(|id| !reads.contains(id)), "{arch}: {step:?}");
                        writes.into_iter().for_each(|id| written[id] = true);
                    }
                }
            }
        }
    }
}

#[test]
fn every_layer_is_summed_once() {
    for name in ["live-4x16-x2", "edsr-16x64-x4", "edsr-1x80-x3"] {
        let arch = arch(name);
        let plan = Plan::training(arch, 16, 48, 132);
        let mut offsets: Vec<usize> = plan.sums.iter().flatten().map(|sum| sum.place.layer.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, arch.layers().iter().map(|layer| layer.offset).collect::<Vec<_>>());
        assert!(plan.parts <= PARTS_MAX, "{name}");
    }
}

#[test]
fn blocks_of_16_and_32_channels_are_fused_and_forward_needs_few_tensors() {
    let fused = |name: &str| {
        let plan = Plan::training(arch(name), 2, 16, 4);
        plan.steps.iter().filter(|s| matches!(s, Step::Resblock { .. } | Step::ResblockGrad { .. })).count()
    };
    assert_eq!([fused("live-3x8-x2"), fused("edsr-3x32-x2"), fused("live-3x40-x2")], [6, 6, 0]);
    // Input, head, one of the body in, one out, tail.
    assert!(Plan::forward(arch("live-16x16-x2"), 1, 32, 32).tensors.len() <= 5);
}

#[test]
fn memory_of_a_small_plan_is_what_a_hand_counts() {
    // One pixel of 16 channels: the block's output takes the input's place, the head waits for the skip, the tail takes
    // the block's; then LR and the image.
    let arch = arch("live-1x16-x1");
    assert_eq!(Plan::forward(arch, 1, 1, 1).bytes(), 3 * 32 + 12 + 12);
    assert_eq!(weights_bytes(arch, false), 5 * (4 * 9 * 256 + 64) + 4 * arch.params());
    // Kept: input, head, hidden, block, end, tail. Backward: the tail's gradient, the end's in a new place (the tail's is
    // free again), the block's, then the head's, then the sum with the skip. One part a layer.
    let plan = Plan::training(arch, 1, 1, 1);
    assert_eq!(plan.parts, 5 * (9 * 256 + 16));
    assert_eq!(plan.bytes(), 32 * plan.tensors.len() + 12 + 3 + 4 + 4 * plan.parts);
    assert!(plan.tensors.len() <= 6 + 5, "{:?}", plan.steps);
}
