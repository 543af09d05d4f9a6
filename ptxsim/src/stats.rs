//! What a launch did, in numbers.

use std::collections::BTreeMap;

use crate::module::Kernel;

/// Counts of one launch, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Launches.
    pub launches: u64,
    /// Blocks.
    pub blocks: u64,
    /// Instructions, one per warp.
    pub instructions: u64,
    /// Tensor-core instructions, one per warp: `mma.sync` and `wgmma`.
    pub mma: u64,
    /// Multiplications that those made.
    pub macs: u64,
    /// Cycles that accesses to shared memory take without any bank conflict.
    pub bank_cycles_ideal: u64,
    /// Cycles that they take with the conflicts they have.
    pub bank_cycles: u64,
    /// The same by PTX line: statement, cycles without conflicts, cycles with them.
    pub banks: BTreeMap<u32, (String, u64, u64)>,
}

impl Stats {
    /// Cycles per cycle of an access without bank conflicts; 1 if nothing accessed shared memory.
    pub fn bank_ratio(&self) -> f64 {
        if self.bank_cycles_ideal == 0 {
            1.0
        } else {
            self.bank_cycles as f64 / self.bank_cycles_ideal as f64
        }
    }

    /// Both together.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.launches += other.launches;
        self.blocks += other.blocks;
        self.instructions += other.instructions;
        self.mma += other.mma;
        self.macs += other.macs;
        self.bank_cycles_ideal += other.bank_cycles_ideal;
        self.bank_cycles += other.bank_cycles;
        for (line, (text, ideal, cycles)) in other.banks {
            let entry = self.banks.entry(line).or_insert((text, 0, 0));
            entry.1 += ideal;
            entry.2 += cycles;
        }
        self
    }

    pub(crate) fn add_banks(&mut self, kernel: &Kernel, banks: &[(u64, u64)]) {
        for ((line, text), (ideal, cycles)) in
            kernel.places.iter().zip(banks).filter(|(_, banks)| banks.0 > 0)
        {
            self.bank_cycles_ideal += ideal;
            self.bank_cycles += cycles;
            let entry = self.banks.entry(*line).or_insert_with(|| (text.clone(), 0, 0));
            entry.1 += ideal;
            entry.2 += cycles;
        }
    }
}
