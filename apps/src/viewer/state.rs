//! What a viewer is doing, in one word, from plain facts.

use std::fmt;

use hone_runtime::Rung;
use serde::Serialize;

/// What a viewer is doing. Exactly one holds at any time, and everybody who tells it tells the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On the way to the server.
    Connecting,
    /// The server is there; the stream, or its first picture, is not.
    Waiting,
    /// Bicubic: no weights have come yet.
    NoModel,
    /// Bicubic: there are weights, but the server measured that they do not help on this scene yet.
    Learning,
    /// The network upscales.
    Active,
    /// The network upscales every second frame: this device cannot keep up with more. The frames between show its detail
    /// where nothing moves.
    Reusing,
    /// Bicubic: this device cannot keep up with the network.
    TooSlow,
    /// A picture is missing or damaged: the last good one stands still until a keyframe.
    Damaged,
    /// The connection stands, but no video comes: the last picture stands still.
    Stalled,
    /// No connection; another try follows where the viewer has a window.
    Lost,
}

impl State {
    /// A short sentence for the one who watches.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Connecting => "connecting to the server",
            Self::Waiting => "waiting for the stream",
            Self::NoModel => "no model yet: bicubic",
            Self::Learning => "learning: bicubic is still better",
            Self::Active => "network active",
            Self::Reusing => "device slow: network on every second frame",
            Self::TooSlow => "device too slow for the network: bicubic",
            Self::Damaged => "picture damaged: waiting for a keyframe",
            Self::Stalled => "no video is coming",
            Self::Lost => "connection lost",
        }
    }

    /// Whether what stands on the screen is live: not a picture left over from before.
    pub fn live(self) -> bool {
        matches!(self, Self::NoModel | Self::Learning | Self::Active | Self::Reusing | Self::TooSlow)
    }
}

impl fmt::Display for State {
    /// As in the statistics: `no_model`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::NoModel => "no_model",
            Self::Learning => "learning",
            Self::Active => "active",
            Self::Reusing => "reusing",
            Self::TooSlow => "too_slow",
            Self::Damaged => "damaged",
            Self::Stalled => "stalled",
            Self::Lost => "lost",
        })
    }
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// On the way.
    #[default]
    Connecting,
    /// Connected; the stream has not begun, or is over.
    Waiting,
    /// Its catalog was read.
    Streaming,
    /// Gone.
    Lost,
}

/// All that a [`State`] follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// The connection.
    pub link: Link,
    /// Whether a picture of this stream was shown.
    pub picture: bool,
    /// The server's word on the newest weights, dB over bicubic; none before the first weights.
    pub gain_db: Option<f32>,
    /// What the device affords.
    pub rung: Rung,
    /// Whether a picture is missing and no keyframe has come since.
    pub damaged: bool,
    /// Whether no video has come for a while.
    pub silent: bool,
}

impl Facts {
    /// The state: what is worst is told first.
    pub fn state(&self) -> State {
        match (self.link, self.gain_db) {
            (Link::Connecting, _) => State::Connecting,
            (Link::Lost, _) => State::Lost,
            (Link::Waiting, _) => State::Waiting,
            (Link::Streaming, _) if self.damaged => State::Damaged,
            (Link::Streaming, _) if self.silent && self.picture => State::Stalled,
            (Link::Streaming, _) if !self.picture => State::Waiting,
            (Link::Streaming, None) => State::NoModel,
            (Link::Streaming, Some(gain_db)) if gain_db.is_nan() || gain_db <= 0.0 => State::Learning,
            (Link::Streaming, Some(_)) => match self.rung {
                Rung::Network => State::Active,
                Rung::Reuse => State::Reusing,
                Rung::Bicubic => State::TooSlow,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMING: Facts = Facts {
        link: Link::Streaming,
        picture: true,
        gain_db: Some(0.4),
        rung: Rung::Network,
        damaged: false,
        silent: false,
    };

    #[test]
    fn a_stream_from_its_beginning_to_its_end() {
        let mut facts = Facts::default();
        assert_eq!(facts.state(), State::Connecting);
        facts.link = Link::Waiting;
        assert_eq!(facts.state(), State::Waiting);
        facts.link = Link::Streaming;
        assert_eq!(facts.state(), State::Waiting, "no picture yet");
        facts.picture = true;
        assert_eq!(facts.state(), State::NoModel);
        facts.gain_db = Some(-0.1);
        assert_eq!(facts.state(), State::Learning);
        facts.gain_db = Some(0.2);
        assert_eq!(facts.state(), State::Active);
        facts.rung = Rung::Reuse;
        assert_eq!(facts.state(), State::Reusing);
        facts.rung = Rung::Bicubic;
        assert_eq!(facts.state(), State::TooSlow);
        facts.link = Link::Lost;
        assert_eq!(facts.state(), State::Lost);
    }

    #[test]
    fn the_network_is_active_only_if_all_is_well() {
        assert_eq!(STREAMING.state(), State::Active);
        for facts in [
            Facts { link: Link::Connecting, ..STREAMING },
            Facts { link: Link::Waiting, ..STREAMING },
            Facts { link: Link::Lost, ..STREAMING },
            Facts { picture: false, ..STREAMING },
            Facts { gain_db: None, ..STREAMING },
            Facts { gain_db: Some(0.0), ..STREAMING },
            Facts { gain_db: Some(f32::NAN), ..STREAMING },
            Facts { rung: Rung::Reuse, ..STREAMING },
            Facts { rung: Rung::Bicubic, ..STREAMING },
            Facts { damaged: true, ..STREAMING },
            Facts { silent: true, ..STREAMING },
        ] {
            assert_ne!(facts.state(), State::Active, "{facts:?}");
        }
    }

    #[test]
    fn a_picture_that_stands_still_is_never_called_live() {
        for facts in [
            Facts { damaged: true, ..STREAMING },
            Facts { silent: true, ..STREAMING },
            Facts { link: Link::Lost, ..STREAMING },
            Facts { link: Link::Waiting, ..STREAMING },
        ] {
            assert!(!facts.state().live(), "{facts:?}");
        }
        assert!(STREAMING.state().live());
    }

    #[test]
    fn statistics_and_logs_use_one_word() {
        for state in
            [State::NoModel, State::Reusing, State::TooSlow, State::Lost, State::Active, State::Stalled]
        {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
    }
}
