//! Where unsafe code may be.

use std::path::Path;

use anyhow::{Context, Result};

/// Files and folders, from the root, that may hold unsafe code: drivers and a codec in C or C++ behind them, or in front.
const ALLOWED: &[&str] = &["kernels/", "ptxsim/libcuda/", "runtime/", "media/src/encode/raw.rs"];

/// Every line of Rust in the rooms under `root` that holds the keyword and may not, as `file:line`.
///
/// # Errors
/// If a file cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let rooms = root.read_dir().with_context(|| format!("cannot read {}", root.display()))?;
    let rooms = rooms.flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = rooms.filter(|path| path.join("Cargo.toml").is_file()).collect();
    while let Some(folder) = folders.pop() {
        let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !ALLOWED.iter().any(|allowed| name.starts_with(allowed)) {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let lines = lines_with_keyword(&text);
                found.extend(lines.map(|line| format!("{name}:{line}: code that must be safe")));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Numbers of the lines that hold the keyword outside comments and strings.
fn lines_with_keyword(text: &str) -> impl Iterator<Item = usize> {
    let holds = |line: &str| {
        let line = line.replace("'\"'", "").replace("\\\"", "");
        let code = line.split("//").next().unwrap_or_default();
        let outside_strings: String = code.split('"').step_by(2).collect();
        outside_strings.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    text.lines().enumerate().filter(move |(_, line)| holds(line)).map(|(i, _)| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_is_only_where_it_may_be() {
        assert_eq!(violations(&crate::root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_keyword_is_found_and_mentions_are_not() {
        for code in
            ["unsafe { f() }", "    let x = unsafe{*p};", "pub unsafe fn f();", "f('\"'); unsafe impl A {}"]
        {
            assert_eq!(lines_with_keyword(&format!("\n{code}\n")).collect::<Vec<_>>(), [2], "{code}");
        }
        for code in
            ["#![forbid(unsafe_code)]", "// unsafe { f() }", "say(\"unsafe { f() }\");", "not_unsafe();"]
        {
            assert_eq!(lines_with_keyword(code).count(), 0, "{code}");
        }
    }
}
