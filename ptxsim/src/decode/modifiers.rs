//! The modifiers of a statement.

use super::Result;
use crate::error::ParseErrorKind;
use crate::types::Type;

/// The modifiers of a statement; each is to be taken by someone.
pub(super) struct Modifiers<'a>(pub Vec<&'a str>);

impl<'a> Modifiers<'a> {
    pub(super) fn take(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|modifier| *modifier == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    pub(super) fn take_of<T: Copy>(&mut self, names: &[(&str, T)]) -> Option<T> {
        let at = self.0.iter().position(|modifier| names.iter().any(|(name, _)| name == modifier))?;
        let found = self.0.remove(at);
        names.iter().find(|(name, _)| *name == found).map(|(_, value)| *value)
    }

    pub(super) fn need_of<T: Copy>(&mut self, names: &[(&str, T)]) -> Result<T> {
        let all = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|");
        self.take_of(names)
            .ok_or_else(|| ParseErrorKind::Modifier(self.0.first().map_or_else(all, |m| (*m).into())))
    }

    /// The last type.
    pub(super) fn ty(&mut self) -> Result<Type> {
        let at = self.0.iter().rposition(|modifier| Type::from_name(modifier).is_some());
        let at =
            at.ok_or_else(|| ParseErrorKind::Modifier(self.0.last().copied().unwrap_or("a type").into()))?;
        Ok(Type::from_name(self.0.remove(at)).unwrap_or(Type::B32))
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(left) => Err(ParseErrorKind::Modifier((*left).into())),
        }
    }
}
