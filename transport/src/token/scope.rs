//! Which streams a token is for.

use super::TokenError;

/// Most segments of a scope's path, the name among them: a relay's own bound is not less.
const SEGMENTS_MAX: usize = 8;

/// Names of streams: exact ones, and beginnings of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<String>);

impl Scope {
    /// Every name.
    pub fn all() -> Self {
        Self(vec!["*".into()])
    }

    /// These names, each with the path of its relay before it, if it is for one; a name that ends with `*` stands for
    /// every name that begins so.
    ///
    /// # Errors
    /// [`TokenError::Scope`].
    pub fn new(names: &[String]) -> Result<Self, TokenError> {
        let good = |path: &String| {
            let mut segments: Vec<_> = path.split('/').collect();
            let name = segments.pop().unwrap_or_default();
            segments.len() < SEGMENTS_MAX
                && segments.iter().all(|segment| crate::moq::check_name(segment).is_ok())
                && match name.strip_suffix('*') {
                    Some("") => true,
                    Some(beginning) => crate::moq::check_name(beginning).is_ok(),
                    None => crate::moq::check_name(name).is_ok(),
                }
        };
        match names.iter().find(|name| !good(name)) {
            Some(bad) => Err(TokenError::Scope(bad.clone())),
            None => Ok(Self(names.to_vec())),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds `name`.
    pub fn covers(&self, name: &str) -> bool {
        self.0.iter().any(|scope| match scope.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == scope,
        })
    }

    /// What it holds below `path`, for a session that a relay keeps to that path.
    pub fn below(&self, path: &str) -> Self {
        let below = |scope: &String| {
            let mut scope = scope.split('/');
            for segment in path.split('/').filter(|segment| !segment.is_empty()) {
                match scope.next() {
                    // All that is below what it holds.
                    None => return Some("*".to_owned()),
                    Some(name) if name == segment => {}
                    Some(name) if name.strip_suffix('*').is_some_and(|start| segment.starts_with(start)) => {}
                    Some(_) => return None,
                }
            }
            let rest: Vec<_> = scope.collect();
            Some(if rest.is_empty() { "*".to_owned() } else { rest.join("/") })
        };
        Self(self.0.iter().filter_map(below).collect())
    }

    /// What it holds, as it was written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Paths of moq-token, below `root`. One that is no scope of ours stays, and covers no name.
    pub(super) fn from_paths(root: &str, paths: &[String]) -> Self {
        let join = |path: &String| match (root.trim_matches('/'), path.trim_matches('/')) {
            ("", "") => "*".to_owned(),
            ("", path) | (path, "") => path.to_owned(),
            (root, path) => format!("{root}/{path}"),
        };
        Self(paths.iter().map(join).collect())
    }

    /// The same as paths of moq-token, each of which holds all that is below it.
    pub(super) fn paths(&self) -> Vec<String> {
        let path = |scope: &String| match scope.as_str() {
            "*" => String::new(),
            scope => scope.strip_suffix("/*").unwrap_or(scope).to_owned(),
        };
        self.0.iter().map(path).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(names: &[&str]) -> Scope {
        Scope::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn bad_scopes_are_named() {
        for bad in
            ["", "/", "a//b", "/a", "a/", "a*b", "**", "a*/b", "a b", ".*", &"a/".repeat(SEGMENTS_MAX + 1)]
        {
            assert!(matches!(Scope::new(&[bad.to_owned()]), Err(TokenError::Scope(_))), "{bad}");
        }
        assert!(scope(&["*"]).covers("x"));
    }

    #[test]
    fn a_session_at_a_path_of_a_relay_has_what_is_below_it() {
        let all = scope(&["live/cam", "live/lobby-*", "in", "x/*", "door"]);
        assert_eq!(all.below("live"), scope(&["cam", "lobby-*"]));
        assert_eq!(all.below("/live/"), scope(&["cam", "lobby-*"]));
        assert_eq!(all.below("live/cam"), scope(&["*"]));
        assert_eq!(all.below("live/lobby-1/deep"), scope(&["*"]));
        assert_eq!(all.below("in"), scope(&["*"]));
        assert_eq!(all.below("x"), scope(&["*"]));
        assert_eq!(all.below(""), all);
        for other in ["liv", "lively", "live/door", "other"] {
            assert!(all.below(other).is_empty(), "{other}");
        }
        assert_eq!(scope(&["*"]).below("any/where"), scope(&["*"]));
    }

    #[test]
    fn a_relay_reads_a_scope_as_it_was_meant() {
        let paths = scope(&["*", "live/*", "live/cam", "cam-*"]).paths();
        assert_eq!(paths, ["", "live", "live/cam", "cam-*"]);
        let read = Scope::from_paths("", &paths);
        assert!(read.below("live").covers("cam") && read.covers("cam-1"));
    }
}
