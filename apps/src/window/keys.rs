//! What keys do. The help shows this very table.

use winit::keyboard::{Key, NamedKey};

/// What a key, or a button of the overlay, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show or hide the shortcuts.
    Help,
    /// Show or hide the divider between bicubic and network.
    Compare,
    /// Move it to the left.
    DividerLeft,
    /// Move it to the right.
    DividerRight,
    /// Show or hide the loupe.
    Loupe,
    /// Magnify more.
    ZoomIn,
    /// Magnify less.
    ZoomOut,
    /// Let the picture stand still, or go on.
    Pause,
    /// Turn the sound off, or on.
    Mute,
    /// Save both pictures.
    Screenshot,
    /// Show or hide the statistics.
    Statistics,
    /// Show or hide the choice of device.
    Devices,
    /// Fill the screen, or not.
    FullScreen,
    /// Close what is open, or leave the full screen.
    Back,
    /// End the viewer.
    Quit,
}

/// A row of the table: the key as the help names it, what it stands for, and what it does in words.
pub struct Shortcut {
    /// As the help names it.
    pub name: &'static str,
    /// Characters, lower case; empty for a key that has none.
    characters: &'static str,
    named: Option<NamedKey>,
    /// What it asks for.
    pub action: Action,
    /// In words.
    pub meaning: &'static str,
}

const fn row(
    name: &'static str,
    characters: &'static str,
    named: Option<NamedKey>,
    action: Action,
    meaning: &'static str,
) -> Shortcut {
    Shortcut { name, characters, named, action, meaning }
}

/// What a build without sound says of it.
pub const NO_SOUND: &str = "no sound in this build (cargo feature `sound`)";

/// Every shortcut.
pub const SHORTCUTS: &[Shortcut] = &[
    row("?", "?h", Some(NamedKey::F1), Action::Help, "these shortcuts"),
    row("C", "c", None, Action::Compare, "compare: bicubic left, network right"),
    row("Left", "", Some(NamedKey::ArrowLeft), Action::DividerLeft, "move the divider; or drag it"),
    row("Right", "", Some(NamedKey::ArrowRight), Action::DividerRight, "move the divider; or drag it"),
    row("L", "l", None, Action::Loupe, "loupe; or hold the right button"),
    row("+", "+=", None, Action::ZoomIn, "magnify more; or turn the wheel"),
    row("-", "-", None, Action::ZoomOut, "magnify less; or turn the wheel"),
    row("Space", " ", Some(NamedKey::Space), Action::Pause, "pause the picture"),
    row("M", "m", None, Action::Mute, if cfg!(feature = "sound") { "sound off, or on" } else { NO_SOUND }),
    row("S", "s", None, Action::Screenshot, "save both pictures as PNG"),
    row("I", "i", None, Action::Statistics, "statistics"),
    row("G", "g", None, Action::Devices, "choose GPU or CPU"),
    row("F", "f", Some(NamedKey::F11), Action::FullScreen, "full screen; or double-click"),
    row("Esc", "", Some(NamedKey::Escape), Action::Back, "close, or leave full screen"),
    row("Q", "q", None, Action::Quit, "quit"),
];

/// What this key asks for.
pub fn action(key: &Key) -> Option<Action> {
    let hit = |shortcut: &&Shortcut| match key {
        Key::Named(named) => shortcut.named == Some(*named),
        Key::Character(text) => {
            let text = text.to_lowercase();
            !text.is_empty() && text.chars().count() == 1 && shortcut.characters.contains(&text)
        }
        _ => false,
    };
    SHORTCUTS.iter().find(hit).map(|shortcut| shortcut.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_one_meaning_and_each_meaning_a_key() {
        let characters: String = SHORTCUTS.iter().map(|shortcut| shortcut.characters).collect();
        for character in characters.chars() {
            assert_eq!(characters.matches(character).count(), 1, "{character:?}");
        }
        for shortcut in SHORTCUTS {
            assert!(shortcut.named.is_some() || !shortcut.characters.is_empty(), "{}", shortcut.name);
            assert!(SHORTCUTS.iter().filter(|other| other.action == shortcut.action).count() == 1);
        }
        assert_eq!(action(&Key::Character("C".into())), Some(Action::Compare));
        assert_eq!(action(&Key::Character("?".into())), Some(Action::Help));
        assert_eq!(action(&Key::Named(NamedKey::Escape)), Some(Action::Back));
        for nothing in [Key::Character("".into()), Key::Character("x".into()), Key::Named(NamedKey::Tab)] {
            assert_eq!(action(&nothing), None);
        }
    }
}
