//! `kernels/cu/*.cu` to `ptx/`, and the manifest that ties them together.
//!
//! NVRTC answers with the same bytes in every run and every folder, so PTX in the tree can be held to its sources.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{root, wheels};

const SOURCES: &str = "kernels/cu";
const HEADER: &str = "kernels/cu/gpu.cuh";
const MANIFEST: &str = "ptx/manifest.json";
const BASELINE: &str = "compute_80";
/// What a source may name in its first line, `// Target compute_90a`, instead of the baseline.
const TARGETS: &[&str] = &[BASELINE, "compute_90a"];

/// One kernel file.
pub struct Kernel {
    /// Its name without `.cu`.
    pub stem: String,
    /// The architecture that it is compiled for.
    pub target: &'static str,
    /// Its text.
    pub source: String,
}

impl Kernel {
    /// Where its PTX is, from the root.
    pub fn ptx_path(&self) -> String {
        format!("ptx/{}/{}.ptx", self.target, self.stem)
    }

    fn flags(&self) -> Vec<String> {
        vec![format!("--gpu-architecture={}", self.target), "--std=c++17".into()]
    }

    /// Its line of the manifest.
    fn entry(&self, header: &str, ptx: &str) -> Value {
        json!({
            "compiler": format!("NVRTC {}", wheels::NVRTC.version()),
            "flags": self.flags(),
            "source_sha256": sha256(&self.source),
            "gpu_cuh_sha256": sha256(header),
            "ptx": self.ptx_path(),
            "ptx_sha256": sha256(ptx),
        })
    }
}

/// The kernel files under `root`, by name.
///
/// # Errors
/// If one cannot be read or names an unknown target.
pub fn kernels(root: &Path) -> Result<Vec<Kernel>> {
    let mut found = Vec::new();
    for name in names(&root.join(SOURCES), ".cu")? {
        let path = format!("{SOURCES}/{name}.cu");
        let source = read(root, &path)?;
        let target = match source.lines().next().unwrap_or_default().strip_prefix("// Target ") {
            None => BASELINE,
            Some(wanted) => TARGETS
                .iter()
                .find(|target| **target == wanted.trim())
                .with_context(|| format!("{path}: unknown target {wanted}"))?,
        };
        found.push(Kernel { stem: name, target, source });
    }
    Ok(found)
}

/// Compiles all kernels, or those of the given stems, and writes `ptx/`.
///
/// # Errors
/// If the compiler is not to be had, or a kernel does not compile; what did compile is written all the same.
pub fn write(stems: &[&str]) -> Result<()> {
    let root = root();
    let (all, header) = (kernels(&root)?, read(&root, HEADER)?);
    let unknown = stems.iter().find(|stem| !all.iter().any(|kernel| kernel.stem == **stem));
    ensure!(unknown.is_none(), "no kernel file is called {}", unknown.unwrap_or(&""));
    let wanted: Vec<&Kernel> =
        all.iter().filter(|kernel| stems.is_empty() || stems.contains(&kernel.stem.as_str())).collect();
    let mut entries = if stems.is_empty() { BTreeMap::new() } else { manifest(&root).unwrap_or_default() };
    let mut failed = Vec::new();
    for (kernel, compiled) in wanted.iter().zip(compile(&wanted, &header)?) {
        match compiled {
            Ok(ptx) => {
                let path = root.join(kernel.ptx_path());
                std::fs::create_dir_all(path.parent().context("a PTX file has a folder")?)?;
                std::fs::write(path, &ptx)?;
                entries.insert(kernel.stem.clone(), kernel.entry(&header, &ptx));
            }
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    entries.retain(|stem, _| all.iter().any(|kernel| kernel.stem == *stem));
    for target in TARGETS {
        let folder = root.join("ptx").join(target);
        for name in names(&folder, ".ptx").unwrap_or_default() {
            if !all.iter().any(|kernel| kernel.stem == name && kernel.target == *target) {
                std::fs::remove_file(folder.join(format!("{name}.ptx")))?;
            }
        }
    }
    std::fs::write(root.join(MANIFEST), format!("{:#}\n", json!(entries)))?;
    println!("{} of {} kernel files compiled", wanted.len() - failed.len(), wanted.len());
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Compiles all kernels and compares with what is in the tree, byte by byte.
///
/// # Errors
/// If the compiler is not to be had, or a byte differs.
pub fn check() -> Result<()> {
    let root = root();
    let (all, header) = (kernels(&root)?, read(&root, HEADER)?);
    let mut wrong = stale(&root)?;
    for (kernel, compiled) in all.iter().zip(compile(&all.iter().collect::<Vec<_>>(), &header)?) {
        if compiled?.as_bytes() != std::fs::read(root.join(kernel.ptx_path())).unwrap_or_default() {
            wrong.push(format!("{} is not what the compiler makes of its source", kernel.ptx_path()));
        }
    }
    ensure!(wrong.is_empty(), "{}\nto repair: cargo xtask ptx", wrong.join("\n"));
    println!("{} kernel files: the PTX in the tree is what NVRTC makes of them", all.len());
    Ok(())
}

/// What disagrees between sources, PTX and manifest under `root`, by hashes alone: no compiler is needed.
///
/// # Errors
/// If a file cannot be read.
pub fn stale(root: &Path) -> Result<Vec<String>> {
    let (kernels, header, entries) = (kernels(root)?, read(root, HEADER)?, manifest(root)?);
    let mut wrong = Vec::new();
    for kernel in &kernels {
        let ptx = read(root, &kernel.ptx_path()).unwrap_or_default();
        match entries.get(&kernel.stem) {
            None => wrong.push(format!("{MANIFEST} has no {}", kernel.stem)),
            Some(entry) if *entry != kernel.entry(&header, &ptx) => {
                wrong.push(format!("{}: source, header, flags or PTX are not as in {MANIFEST}", kernel.stem));
            }
            Some(_) => {}
        }
    }
    let strays = entries.keys().filter(|stem| !kernels.iter().any(|kernel| kernel.stem == **stem));
    wrong.extend(strays.map(|stem| format!("{MANIFEST} has {stem}, {SOURCES} has not")));
    for target in std::fs::read_dir(root.join("ptx"))?.flatten().filter(|entry| entry.path().is_dir()) {
        let target = target.file_name().to_string_lossy().into_owned();
        for name in names(&root.join("ptx").join(&target), "")? {
            let path = format!("ptx/{target}/{name}");
            if !kernels.iter().any(|kernel| kernel.ptx_path() == path) {
                wrong.push(format!("{path} belongs to no source"));
            }
        }
    }
    Ok(wrong)
}

/// Each kernel's PTX, or what the compiler said.
fn compile(kernels: &[&Kernel], header: &str) -> Result<Vec<Result<String>>> {
    let jobs: Vec<Value> = kernels
        .iter()
        .map(|kernel| {
            json!({ "name": format!("{}.cu", kernel.stem), "source": kernel.source, "flags": kernel.flags() })
        })
        .collect();
    let request = json!({ "library": wheels::NVRTC.provide()?, "header": header, "jobs": jobs });
    let mut python = Command::new("python3")
        .args(["-c", include_str!("nvrtc.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("python3 is needed to call NVRTC")?;
    python.stdin.take().context("python3 has no stdin")?.write_all(request.to_string().as_bytes())?;
    let output = python.wait_with_output()?;
    if !output.status.success() {
        bail!("NVRTC could not be called");
    }
    let answer: Value = serde_json::from_slice(&output.stdout).context("answer of nvrtc.py")?;
    let version = answer["compiler"].as_str().unwrap_or_default();
    ensure!(wheels::NVRTC.version().starts_with(&format!("{version}.")), "NVRTC says that it is {version}");
    let answers = answer["jobs"].as_array().context("nvrtc.py answers without jobs")?;
    let compiled = kernels.iter().zip(answers).map(|(kernel, job)| {
        let log = job["log"].as_str().unwrap_or_default().trim_matches(['\0', '\n', ' ']);
        let ptx = job["ptx"].as_str().with_context(|| format!("{}.cu: {log}", kernel.stem))?;
        // A warning is an error here: there is no compiler flag for it in this version.
        ensure!(log.is_empty(), "{}.cu: {log}", kernel.stem);
        Ok(ptx.to_owned())
    });
    Ok(compiled.collect())
}

fn manifest(root: &Path) -> Result<BTreeMap<String, Value>> {
    serde_json::from_str(&read(root, MANIFEST)?).with_context(|| format!("{MANIFEST} cannot be read"))
}

/// Names in `folder` that end with `ending`, without it, sorted.
fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(ending).map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_in_the_tree_has_the_hashes_of_the_manifest() {
        assert_eq!(stale(&root()).unwrap(), Vec::<String>::new());
        assert!(!kernels(&root()).unwrap().is_empty());
    }

    #[test]
    fn every_kernel_file_opens_with_its_header() {
        for kernel in kernels(&root()).unwrap() {
            let header: Vec<&str> = kernel.source.lines().take_while(|line| line.starts_with("//")).collect();
            let after = |key: &str| {
                let line = header.iter().find_map(|line| line.strip_prefix(&format!("// {key} ")));
                line.unwrap_or_else(|| panic!("{}.cu: no {key} in its header", kernel.stem))
            };
            for key in ["Shapes", "Launch", "Limits", "Budget", "Cost"] {
                after(key);
            }
            let (oracle, cases) = after("Oracle").split_once("| Cases ").expect("Oracle FILE | Cases FILE");
            // An oracle may be several, `folder/{a,b}.rs`, and say more behind the path.
            let oracle = oracle.split_whitespace().next().unwrap_or_default();
            let (folder, names) = oracle.split_once('{').unwrap_or((oracle, "}"));
            let (names, ending) = names.split_once('}').expect("closing brace");
            let oracles = names.split(',').map(|name| format!("{folder}{name}{ending}"));
            for path in oracles.chain([cases.trim().to_owned()]) {
                assert!(root().join(&path).is_file(), "{}.cu: {path} is not there", kernel.stem);
            }
            assert!(
                header.iter().any(|line| line.starts_with(&format!("// {}", kernel.stem))),
                "{}",
                kernel.stem
            );
        }
    }

    /// A tree of one kernel that agrees with its manifest.
    fn tree(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("hone-ptx-{name}-{}", std::process::id()));
        for folder in ["kernels/cu", "ptx/compute_80"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join(HEADER), "// header").unwrap();
        std::fs::write(root.join("kernels/cu/a.cu"), "// a").unwrap();
        std::fs::write(root.join("ptx/compute_80/a.ptx"), "ptx of a").unwrap();
        let entry = kernels(&root).unwrap()[0].entry("// header", "ptx of a");
        std::fs::write(root.join(MANIFEST), json!({ "a": entry }).to_string()).unwrap();
        root
    }

    #[test]
    fn every_disagreement_is_found() {
        let changes: &[(&str, Option<&str>)] = &[
            ("kernels/cu/a.cu", Some("// changed")),
            ("kernels/cu/a.cu", Some("// Target compute_90a\n")),
            (HEADER, Some("// changed")),
            ("ptx/compute_80/a.ptx", Some("changed")),
            ("ptx/compute_80/a.ptx", None),
            ("kernels/cu/a.cu", None),
            ("kernels/cu/b.cu", Some("// no entry")),
            ("ptx/compute_80/b.ptx", Some("no source")),
            ("ptx/compute_90a/a.ptx", Some("no source of this target")),
            (MANIFEST, Some("{}")),
        ];
        for (i, (path, text)) in changes.iter().enumerate() {
            let root = tree(&format!("{i}"));
            assert_eq!(stale(&root).unwrap(), Vec::<String>::new());
            let path = root.join(path);
            match text {
                Some(text) => {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, text).unwrap();
                }
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_ne!(stale(&root).unwrap(), Vec::<String>::new(), "{path:?}, {text:?}");
            std::fs::remove_dir_all(&root).unwrap();
        }
    }
}
