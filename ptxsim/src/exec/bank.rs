//! Bank conflicts: 32 banks of 4 bytes, one word of each in a cycle; lanes that want the same word share it.

/// Cycles of an access to shared memory by the lanes of `mask`, `bytes` each: at least, and as the addresses are.
///
/// Accesses of 8 bytes go by half warps, those of 16 by quarters, as the device splits them.
pub(super) fn cycles(addresses: &[u64; 32], mask: u32, bytes: u32) -> (u32, u32) {
    let group = (128 / bytes.max(4)) as usize;
    let (mut ideal, mut cycles) = (0, 0);
    for first in (0..32).step_by(group) {
        let lanes = mask >> first & if group == 32 { u32::MAX } else { (1 << group) - 1 };
        if lanes == 0 {
            continue;
        }
        ideal += 1;
        cycles += phase(&addresses[first..first + group], lanes, bytes);
    }
    (ideal, cycles)
}

/// Cycles of up to 128 bytes: the most different words that one bank must give.
#[inline(always)]
fn phase(addresses: &[u64], lanes: u32, bytes: u32) -> u32 {
    let words = (bytes / 4).max(1);
    // Rows seen per bank; only the first is kept apart, since most accesses have but one.
    let mut first = [u32::MAX; 32];
    let mut more: [u32; 32] = [0; 32];
    let mut others = [(0u32, 0u32); 128];
    let mut count = 0usize;
    let mut worst = 1;
    for (lane, address) in addresses.iter().enumerate() {
        if lanes >> lane & 1 == 0 {
            continue;
        }
        let word = (*address / 4) as u32;
        // A wide access fills neighbouring banks of one row alike, so that its first word speaks for all.
        let (bank, row) = (word % 32, word / 32);
        let slot = bank as usize;
        if first[slot] == row {
            continue;
        }
        if first[slot] == u32::MAX {
            first[slot] = row;
            continue;
        }
        if others[..count].contains(&(bank, row)) {
            continue;
        }
        others[count] = (bank, row);
        count += 1;
        more[slot] += 1;
        worst = worst.max(1 + more[slot]);
    }
    // An aligned access of 8 or 16 bytes never straddles rows.
    debug_assert!(words <= 4);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: u32, address: impl Fn(u64) -> u64) -> (u32, u32) {
        cycles(&std::array::from_fn(|lane| address(lane as u64)), u32::MAX, bytes)
    }

    #[test]
    fn conflicts_are_counted_as_in_the_programming_guide() {
        assert_eq!(of(4, |lane| lane * 4), (1, 1));
        // All lanes the same word: a broadcast.
        assert_eq!(of(4, |_| 64), (1, 1));
        // A stride of two words meets each second bank twice; an odd one meets each once.
        assert_eq!(of(4, |lane| lane * 8), (1, 2));
        assert_eq!(of(4, |lane| lane * 12), (1, 1));
        assert_eq!(of(4, |lane| lane * 128), (1, 32));
        // Two halves of a word are one word.
        assert_eq!(of(2, |lane| lane * 2), (1, 1));
        assert_eq!(of(8, |lane| lane * 8), (2, 2));
        assert_eq!(of(16, |lane| lane * 16), (4, 4));
        // Rows of 128 bytes without a swizzle: eight lanes of a phase on the same four banks.
        assert_eq!(of(16, |lane| lane * 128), (4, 32));
        assert_eq!(of(16, |lane| lane * 128 + ((lane % 8) << 4)), (4, 4));
        assert_eq!(cycles(&[0; 32], 0, 4), (0, 0));
    }
}
