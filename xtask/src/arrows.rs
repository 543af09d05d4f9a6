//! The arrows that must not be: which room may reach which crate.
//!
//! Read from the resolved graph of `cargo metadata`, so that a crate that comes in through another one counts. A
//! room's own dev-dependencies count as well: a test that crosses a boundary ties the rooms just as much.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo;

/// A room that must not reach some packages, by any path.
struct Forbidden {
    from: &'static str,
    to: &'static [&'static str],
    why: &'static str,
}

/// A package that rooms reach only through some rooms.
struct Only {
    package: &'static str,
    through: &'static [&'static str],
    why: &'static str,
}

const OTHER_ROOMS: &[&str] = &[
    "hone-model",
    "hone-cpu",
    "hone-trainer",
    "hone-wgsl",
    "hone-runtime",
    "hone-kernels",
    "hone-transport",
    "hone-media",
    "hone-apps",
    "hone-parity",
    "hone-ptxsim",
    "hone-ptxsim-libcuda",
];

/// All rooms but those of the interpreter.
const PRODUCT: &[&str] = OTHER_ROOMS.split_at(OTHER_ROOMS.len() - 2).0;

const FORBIDDEN: &[Forbidden] = &[
    Forbidden { from: "hone-model", to: OTHER_ROOMS, why: "everything else answers to it" },
    Forbidden { from: "hone-wgsl", to: OTHER_ROOMS, why: "shaders are plain files, for a browser too" },
    Forbidden { from: "hone-media", to: OTHER_ROOMS, why: "it keeps codecs and hostile input to itself" },
    Forbidden { from: "hone-transport", to: OTHER_ROOMS, why: "a relay never parses weights or video" },
    Forbidden {
        from: "hone-ptxsim",
        to: OTHER_ROOMS,
        why: "it is a tool for any CUDA project and knows nothing of this one",
    },
    Forbidden { from: "hone-ptxsim-libcuda", to: PRODUCT, why: "it stands in for a driver, for any program" },
    Forbidden { from: "hone-runtime", to: &["hone-kernels"], why: "a viewer needs no CUDA" },
    Forbidden {
        from: "hone-trainer",
        to: &["hone-transport", "hone-kernels", "hone-runtime"],
        why: "it has no network and knows its device only as a trait",
    },
];

const ONLY: &[Only] = &[
    Only {
        package: "tokio",
        through: &["hone-transport", "hone-media", "hone-apps"],
        why: "the rest is plain code without a runtime",
    },
    Only {
        package: "wgpu",
        through: &["hone-runtime", "hone-parity", "hone-apps"],
        why: "viewers alone draw with it",
    },
    // The stand-in for the driver is tested with the client that it stands in for.
    Only {
        package: "cudarc",
        through: &["hone-kernels", "hone-ptxsim-libcuda"],
        why: "one room launches CUDA",
    },
];

/// Who depends on whom. Packages are told apart by cargo's id, since a name may occur in several versions.
#[derive(Debug, Default)]
pub struct Graph {
    rooms: BTreeSet<String>,
    names: BTreeMap<String, String>,
    /// What is built whenever the package is.
    edges: BTreeMap<String, Vec<String>>,
    /// What only the package's own tests use.
    dev_edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// The graph of this workspace on this platform. Needs no network once the workspace was built.
    ///
    /// # Errors
    /// If cargo fails or answers in another format.
    pub fn of_workspace() -> Result<Self> {
        let version = cargo().arg("-vV").output().context("cannot run cargo")?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--filter-platform"])
            .arg(host.context("cargo does not name its host")?)
            .output()?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
    }

    /// The graph in the output of `cargo metadata --format-version 1`.
    ///
    /// # Errors
    /// If it has another format.
    pub fn from_metadata(metadata: &Value) -> Result<Self> {
        let list = |value: &Value, what: &str| -> Result<Vec<Value>> {
            Ok(value.as_array().with_context(|| format!("cargo metadata without {what}"))?.clone())
        };
        let text = |value: &Value, what: &str| -> Result<String> {
            Ok(value.as_str().with_context(|| format!("cargo metadata without {what}"))?.to_owned())
        };
        let mut graph = Self::default();
        for package in list(&metadata["packages"], "packages")? {
            graph.names.insert(text(&package["id"], "id")?, text(&package["name"], "name")?);
        }
        for member in list(&metadata["workspace_members"], "workspace_members")? {
            graph.rooms.insert(text(&member, "member")?);
        }
        for node in list(&metadata["resolve"]["nodes"], "resolve.nodes")? {
            let id = text(&node["id"], "node id")?;
            for dependency in list(&node["deps"], "deps")? {
                let to = text(&dependency["pkg"], "pkg")?;
                let kinds = list(&dependency["dep_kinds"], "dep_kinds")?;
                let only_dev = kinds.iter().all(|kind| kind["kind"] == "dev");
                let edges = if only_dev { &mut graph.dev_edges } else { &mut graph.edges };
                edges.entry(id.clone()).or_default().push(to);
            }
        }
        ensure!(graph.rooms.iter().all(|id| graph.names.contains_key(id)), "a member is not a package");
        Ok(graph)
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    /// What a package uses, in its own tests too if `dev`.
    fn uses(&self, id: &str, dev: bool) -> impl Iterator<Item = &String> {
        let tests = self.dev_edges.get(id).filter(|_| dev);
        self.edges.get(id).into_iter().chain(tests).flatten()
    }

    /// The shortest path from a room to a package called `to`, as names; no package on it is called as in `closed`.
    fn path(&self, room: &str, to: &str, closed: &[&str]) -> Option<Vec<&str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let start = self.names.get_key_value(room)?.0.as_str();
        let mut frontier = vec![start];
        while !frontier.is_empty() {
            let mut reached = Vec::new();
            for from in frontier {
                for id in self.uses(from, from == start) {
                    let name = self.name(id);
                    if id == start || came_from.contains_key(id.as_str()) || closed.contains(&name) {
                        continue;
                    }
                    came_from.insert(id, from);
                    if name == to {
                        let back = std::iter::successors(Some(id.as_str()), |id| came_from.get(id).copied());
                        let mut path: Vec<&str> = back.map(|id| self.name(id)).collect();
                        path.reverse();
                        return Some(path);
                    }
                    reached.push(id.as_str());
                }
            }
            frontier = reached;
        }
        None
    }
}

/// Every arrow that must not be, in words: the path, and the rule that it breaks.
pub fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for room in &graph.rooms {
        let name = graph.name(room);
        for rule in FORBIDDEN.iter().filter(|rule| rule.from == name) {
            for to in rule.to.iter().filter(|to| **to != name) {
                if let Some(path) = graph.path(room, to, &[]) {
                    found.push(format!("{}: {name} must not use {to}, {}", path.join(" -> "), rule.why));
                }
            }
        }
        for rule in ONLY.iter().filter(|rule| !rule.through.contains(&name)) {
            if let Some(path) = graph.path(room, rule.package, rule.through) {
                let allowed = rule.through.join(", ");
                let path = path.join(" -> ");
                found.push(format!("{path}: {} belongs in {allowed} alone, {}", rule.package, rule.why));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of all names that begin with `hone-`; an arrow is (from, to, kind).
    fn graph(arrows: &[(&str, &str, Option<&str>)]) -> Graph {
        let names: BTreeSet<&str> = arrows.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let packages: Vec<Value> = names.iter().map(|name| json!({ "id": name, "name": name })).collect();
        let members: Vec<&&str> = names.iter().filter(|name| name.starts_with("hone-")).collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = arrows
                    .iter()
                    .filter(|(from, _, _)| from == name)
                    .map(|(_, to, kind)| json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] }))
                    .collect();
                json!({ "id": name, "deps": deps })
            })
            .collect();
        let metadata = json!({
            "packages": packages, "workspace_members": members, "resolve": { "nodes": nodes },
        });
        Graph::from_metadata(&metadata).unwrap()
    }

    #[test]
    fn this_workspace_has_no_forbidden_arrow() {
        let graph = Graph::of_workspace().unwrap();
        assert_eq!(violations(&graph), Vec::<String>::new());
        // The rules are about packages that exist: a renamed room must not slip out of its rule.
        let names: BTreeSet<&str> = graph.names.values().map(String::as_str).collect();
        for rule in FORBIDDEN {
            assert!(
                names.contains(rule.from) && rule.to.iter().all(|to| names.contains(to)),
                "{}",
                rule.from
            );
        }
        for rule in ONLY {
            assert!(names.contains(rule.package), "{}", rule.package);
            assert!(rule.through.iter().all(|room| names.contains(room)), "{}", rule.package);
        }
    }

    #[test]
    fn allowed_arrows_are_silent() {
        let graph = graph(&[
            ("hone-apps", "hone-kernels", None),
            ("hone-kernels", "cudarc", None),
            ("hone-apps", "hone-transport", None),
            ("hone-transport", "tokio", None),
            ("hone-runtime", "wgpu", None),
            ("hone-parity", "hone-runtime", None),
            ("hone-trainer", "hone-model", None),
            ("hone-trainer", "hone-cpu", Some("dev")),
        ]);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }

    #[test]
    fn each_forbidden_arrow_is_found() {
        for (from, to) in [
            ("hone-transport", "hone-model"),
            ("hone-runtime", "hone-kernels"),
            ("hone-trainer", "hone-transport"),
            ("hone-trainer", "hone-kernels"),
            ("hone-trainer", "hone-runtime"),
            ("hone-model", "hone-cpu"),
            ("hone-media", "hone-model"),
            ("hone-trainer", "tokio"),
            ("hone-wgsl", "wgpu"),
            ("hone-cpu", "wgpu"),
            ("hone-runtime", "cudarc"),
            ("hone-apps", "cudarc"),
            ("hone-ptxsim", "hone-kernels"),
            ("hone-ptxsim-libcuda", "hone-model"),
        ] {
            for kind in [None, Some("dev"), Some("build")] {
                let found = violations(&graph(&[(from, to, kind)]));
                assert_eq!(found.len(), 1, "{from} -> {to}, {kind:?}");
                assert!(found[0].starts_with(&format!("{from} -> {to}: ")), "{}", found[0]);
            }
        }
    }

    #[test]
    fn an_arrow_through_other_crates_is_found_with_its_path() {
        let through =
            graph(&[("hone-cpu", "client", None), ("client", "http", None), ("http", "tokio", None)]);
        let found = violations(&through);
        assert!(found[0].starts_with("hone-cpu -> client -> http -> tokio: "), "{found:?}");
        // The tests of a crate that we use are not built with ours.
        assert!(
            violations(&graph(&[("hone-cpu", "client", None), ("client", "tokio", Some("dev"))])).is_empty()
        );
        // A detour over an allowed room does not hide a forbidden room.
        let detour = graph(&[("hone-trainer", "hone-apps", None), ("hone-apps", "hone-transport", None)]);
        assert!(violations(&detour)[0].starts_with("hone-trainer -> hone-apps -> hone-transport: "));
    }

    #[test]
    fn another_format_is_an_error() {
        for metadata in [json!({}), json!({ "packages": [], "workspace_members": ["x"], "resolve": null })] {
            assert!(Graph::from_metadata(&metadata).is_err());
        }
    }
}
