//! What the assembler makes of `ptx/` on each card: registers, shared memory, spills, tensor-core instructions.
//!
//! A kernel file states its budget in its header, for every entry and card: `// Budget  registers 128, shared 48 KiB` and,
//! where they are used, `, tensor cores`. Shared memory counts as far as the kernel declares its size; what a launch adds
//! is not seen here.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use crate::{ptx, root, wheels};

/// Cards: A100; RTX 30; RTX 40 and L4; H100. The last one has what `compute_90a` needs.
const CARDS: &[&str] = &["sm_80", "sm_86", "sm_89", "sm_90a"];
const HOPPER: &str = "sm_90a";

/// What one entry may use.
#[derive(Debug, PartialEq)]
struct Budget {
    registers: u32,
    shared_bytes: u32,
    tensor_cores: bool,
}

/// What one entry uses.
#[derive(Debug, Default, PartialEq)]
struct Use {
    registers: u32,
    shared_bytes: u32,
    /// Stack and spills: bytes in local memory.
    local_bytes: u32,
    tensor_core_instructions: usize,
}

/// Assembles all PTX for all cards, prints what each entry uses, and holds it to the budgets.
///
/// # Errors
/// If the tools are not to be had, an entry spills or is over its budget, or lacks tensor-core instructions.
pub fn check() -> Result<()> {
    let root = root();
    let (ptxas, nvdisasm) =
        (wheels::PTXAS.provide()?.join("ptxas"), wheels::NVDISASM.provide()?.join("nvdisasm"));
    let folder = std::env::temp_dir().join(format!("hone-sass-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    println!("{:<34} {:>26} {:>9} {:>13}", "entry", "registers on 80/86/89/90a", "shared B", "tensor instr.");
    let (mut wrong, mut entries) = (Vec::new(), 0);
    for kernel in ptx::kernels(&root)? {
        let budget = budget(&kernel.source).with_context(|| format!("{}.cu", kernel.stem))?;
        let mut by_entry: BTreeMap<String, Vec<Use>> = BTreeMap::new();
        let cards = CARDS.iter().filter(|card| kernel.target == "compute_80" || **card == HOPPER);
        let ptx = root.join(kernel.ptx_path());
        let reports: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> = cards
                .map(|card| (card, scope.spawn(|| assemble(&ptxas, &nvdisasm, &ptx, card, &folder))))
                .collect();
            started.into_iter().map(|(card, thread)| (*card, thread.join())).collect()
        });
        for (card, report) in reports {
            let uses = report.map_err(|_| anyhow!("a thread panicked"))??;
            ensure!(!uses.is_empty(), "{} has no entry", kernel.ptx_path());
            for (entry, used) in uses {
                wrong.extend(budget.overruns(&used).iter().map(|what| format!("{entry} on {card}: {what}")));
                by_entry.entry(entry).or_default().push(used);
            }
        }
        entries += by_entry.len();
        for (entry, uses) in &by_entry {
            let registers: Vec<String> = uses.iter().map(|used| used.registers.to_string()).collect();
            let shared = uses.iter().map(|used| used.shared_bytes).max().unwrap_or(0);
            let tensor = uses.iter().map(|used| used.tensor_core_instructions).min().unwrap_or(0);
            println!("{entry:<34} {:>26} {shared:>9} {tensor:>13}", registers.join("/"));
        }
    }
    std::fs::remove_dir_all(&folder)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{entries} entries, each on its cards: no spills, within the budgets");
    Ok(())
}

impl Budget {
    fn overruns(&self, used: &Use) -> Vec<String> {
        let mut found = Vec::new();
        if used.local_bytes > 0 {
            found.push(format!("{} bytes of local memory", used.local_bytes));
        }
        if used.registers > self.registers {
            found.push(format!("{} registers of {}", used.registers, self.registers));
        }
        if used.shared_bytes > self.shared_bytes {
            found.push(format!("{} bytes of shared memory of {}", used.shared_bytes, self.shared_bytes));
        }
        if self.tensor_cores && used.tensor_core_instructions == 0 {
            found.push("no tensor-core instruction".into());
        }
        found
    }
}

/// The budget in a kernel file's header.
fn budget(source: &str) -> Result<Budget> {
    const FORM: &str =
        "its header needs `// Budget  registers R, shared S KiB`, with `, tensor cores` where used";
    let line = source.lines().find_map(|line| line.strip_prefix("// Budget ")).context(FORM)?;
    let mut parts = line.split(',').map(str::trim);
    let number = |part: Option<&str>, before: &str, after: &str| -> Result<u32> {
        let digits = part.and_then(|part| part.strip_prefix(before)?.strip_suffix(after)).context(FORM)?;
        digits.trim().parse().context(FORM)
    };
    let registers = number(parts.next(), "registers", "")?;
    let shared_bytes = number(parts.next(), "shared", "KiB")? * 1024;
    let rest: Vec<&str> = parts.collect();
    ensure!(rest.is_empty() || rest == ["tensor cores"], FORM);
    Ok(Budget { registers, shared_bytes, tensor_cores: !rest.is_empty() })
}

/// What each entry of a PTX file uses on a card.
fn assemble(
    ptxas: &Path,
    nvdisasm: &Path,
    ptx: &Path,
    card: &str,
    folder: &Path,
) -> Result<BTreeMap<String, Use>> {
    let cubin = folder.join(card).with_extension("cubin");
    let arguments = ["-v", "-arch", card, "-o"];
    let output = Command::new(ptxas).args(arguments).arg(&cubin).arg(ptx).output().context("ptxas")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ptxas, {card}: {}", report.trim());
    let mut uses = parse_report(&report)?;
    let output = Command::new(nvdisasm).arg("-c").arg(&cubin).output().context("nvdisasm")?;
    ensure!(output.status.success(), "nvdisasm: {}", String::from_utf8_lossy(&output.stderr).trim());
    count_tensor_cores(&String::from_utf8_lossy(&output.stdout), &mut uses);
    Ok(uses)
}

/// The report of `ptxas -v`, by entry.
fn parse_report(report: &str) -> Result<BTreeMap<String, Use>> {
    let mut uses: BTreeMap<String, Use> = BTreeMap::new();
    let mut entry = String::new();
    for line in report.lines() {
        if let Some(name) = line.split("Compiling entry function '").nth(1) {
            entry = name.split('\'').next().unwrap_or_default().to_owned();
            uses.insert(entry.clone(), Use::default());
        }
        let Some(used) = uses.get_mut(&entry) else { continue };
        // As in `Used 60 registers, used 1 barriers, 5760 bytes smem` and `0 bytes stack frame, 0 bytes spill stores`.
        for part in line.rsplit("Used ").next().unwrap_or_default().split(',') {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match what {
                "registers" => used.registers = number,
                "bytes smem" => used.shared_bytes = number,
                "bytes stack frame" | "bytes spill stores" | "bytes spill loads" => {
                    used.local_bytes += number
                }
                _ => {}
            }
        }
    }
    let silent = uses.iter().find(|(_, used)| used.registers == 0);
    ensure!(
        silent.is_none(),
        "ptxas does not say how many registers {} uses",
        silent.map_or("", |(entry, _)| entry)
    );
    Ok(uses)
}

/// Counts HMMA (mma.sync) and HGMMA (wgmma) in each entry's section of a listing.
fn count_tensor_cores(listing: &str, uses: &mut BTreeMap<String, Use>) {
    let mut entry = String::new();
    for line in listing.lines() {
        if let Some(section) =
            line.trim().strip_prefix(".section\t.text.").or(line.trim().strip_prefix(".section .text."))
        {
            entry = section.split(',').next().unwrap_or_default().to_owned();
        }
        let tensor = line.contains(" HMMA.") || line.contains(" HGMMA.");
        if let Some(used) = uses.get_mut(&entry).filter(|_| tensor) {
            used.tensor_core_instructions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_file_states_a_budget() {
        for kernel in ptx::kernels(&root()).unwrap() {
            budget(&kernel.source).unwrap_or_else(|error| panic!("{}.cu: {error:#}", kernel.stem));
        }
        for wrong in [
            "",
            "// Budget  registers 12",
            "// Budget  registers x, shared 1 KiB",
            "// Budget  registers 1, shared 1 KiB, more",
        ] {
            assert!(budget(wrong).is_err(), "{wrong}");
        }
    }

    const REPORT: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a_k16' for 'sm_80'
ptxas info    : Function properties for a_k16
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 60 registers, used 1 barriers, 5760 bytes smem, 420 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 400 bytes cmem[0]
";
    const LISTING: &str = "\
\t.section\t.text.b,\"ax\",@progbits
        /*0010*/                   FADD R1, R2, R3 ;
\t.section\t.text.a_k16,\"ax\",@progbits
        /*0010*/                   HMMA.16816.F32 R24, R40, R38, R24 ;
        /*0020*/              @P0  HMMA.16816.F32 R24, R40, R38, R24 ;
";

    #[test]
    fn reports_are_read_and_held_to_the_budget() {
        let mut uses = parse_report(REPORT).unwrap();
        count_tensor_cores(LISTING, &mut uses);
        let a = Use { registers: 60, shared_bytes: 5760, local_bytes: 16, tensor_core_instructions: 2 };
        let b = Use { registers: 8, ..Use::default() };
        assert_eq!(uses, BTreeMap::from([("a_k16".into(), a), ("b".into(), b)]));

        let budget = budget("// x\n// Budget  registers 60, shared 6 KiB, tensor cores\n").unwrap();
        assert_eq!(budget, Budget { registers: 60, shared_bytes: 6144, tensor_cores: true });
        assert_eq!(budget.overruns(&uses["a_k16"]), ["16 bytes of local memory"]);
        assert_eq!(budget.overruns(&uses["b"]), ["no tensor-core instruction"]);
        let greedy = Use { registers: 61, shared_bytes: 6145, local_bytes: 0, tensor_core_instructions: 1 };
        assert_eq!(budget.overruns(&greedy).len(), 2);
        assert!(parse_report("ptxas info : Compiling entry function 'a' for 'sm_80'").is_err());
    }
}
