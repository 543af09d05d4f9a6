//! H.264 encoding with openh264.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, MatrixCoefficients, QpRange,
    RateControlMode, SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;
use openh264_sys2::{ENCODER_OPTION_BITRATE, SBitrateInfo, SPATIAL_LAYER_ALL};

use crate::frame::{Colour, I420, Matrix, Range};
use crate::nal;

/// What to encode and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Mean frame rate, in Hz; the rate control divides the bitrate by it.
    pub fps: f64,
    /// Target bitrate in kbit/s.
    pub bitrate_kbps: u32,
    /// A keyframe opens every group of this many frames.
    pub gop_frames: u32,
    /// Written into the stream.
    pub colour: Colour,
    /// Encoder threads. 1 gives the same bytes on every run.
    pub threads: u16,
}

/// Why a frame was not encoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// openh264 encodes at most 3840x2160 or 2160x3840, from 16x16 on.
    #[error("cannot encode {width}x{height}: openh264 takes even sizes from 16x16 to 3840x2160 or 2160x3840")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A frame rate, bitrate or GOP length outside the codec's range.
    #[error("cannot encode with {name} = {value}: it must be {range}")]
    Setting {
        /// Name of the field of [`Config`].
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range allowed.
        range: &'static str,
    },
    /// The codec refused.
    #[error("openh264 failed to encode ({0})")]
    Codec(String),
}

/// One encoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The access unit as an Annex B byte stream; a keyframe opens with SPS and PPS.
    pub data: Vec<u8>,
    /// Presentation time in microseconds of media time.
    pub pts_us: i64,
    /// Whether decoding can start here.
    pub keyframe: bool,
}

/// An H.264 encoder with a bitrate that can change while it runs. Every picture gives a packet.
pub struct Encoder {
    codec: openh264::encoder::Encoder,
    config: Config,
    started: bool,
}

impl Encoder {
    /// Checks the configuration and sets up the codec.
    ///
    /// # Errors
    /// [`Error`] for a value that the codec cannot take.
    pub fn new(config: &Config) -> Result<Self, Error> {
        check(config)?;
        #[expect(clippy::cast_possible_truncation, reason = "the codec takes f32; 1 to 240 fits")]
        let fps = config.fps as f32;
        let settings = EncoderConfig::new()
            .bitrate(BitRate::from_bps(config.bitrate_kbps * 1000))
            .max_frame_rate(FrameRate::from_hz(fps))
            .rate_control_mode(RateControlMode::Bitrate)
            .skip_frames(false)
            .usage_type(UsageType::CameraVideoRealTime)
            .complexity(Complexity::High)
            .adaptive_quantization(false)
            .background_detection(false)
            .scene_change_detect(true)
            .qp(QpRange::new(0, 51))
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            .intra_frame_period(IntraFramePeriod::from_num_frames(config.gop_frames))
            .num_threads(config.threads)
            .vui(vui(config.colour));
        let codec = openh264::encoder::Encoder::with_api_config(OpenH264API::from_source(), settings)
            .map_err(|error| Error::Codec(error.to_string()))?;
        Ok(Self { codec, config: *config, started: false })
    }

    /// Encodes one picture of media time `pts_us`; `force_keyframe` starts a new group with it.
    ///
    /// # Errors
    /// [`Error::Size`] if the picture is not of the configured size, [`Error::Codec`] if the codec fails.
    pub fn encode(&mut self, image: &I420, pts_us: i64, force_keyframe: bool) -> Result<Packet, Error> {
        if (image.width(), image.height()) != (self.config.width, self.config.height) {
            return Err(Error::Size { width: image.width(), height: image.height() });
        }
        if force_keyframe && self.started {
            self.codec.force_intra_frame();
        }
        let millis = u64::try_from(pts_us.max(0) / 1000).unwrap_or(0);
        let stream = self
            .codec
            .encode_at(&Planes(image), openh264::Timestamp::from_millis(millis))
            .map_err(|error| Error::Codec(error.to_string()))?;
        let keyframe = matches!(stream.frame_type(), FrameType::IDR);
        let data = stream.to_vec();
        self.started = true;
        Ok(Packet { data, pts_us, keyframe })
    }

    /// Changes the target bitrate from the next frame on.
    ///
    /// # Errors
    /// [`Error::Setting`] outside the codec's range, [`Error::Codec`] if the codec refuses.
    pub fn set_bitrate_kbps(&mut self, bitrate_kbps: u32) -> Result<(), Error> {
        check(&Config { bitrate_kbps, ..self.config })?;
        self.config.bitrate_kbps = bitrate_kbps;
        Ok(())
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let (long, short) = (config.width.max(config.height), config.width.min(config.height));
    if long > 3840 || short > 2160 || short < 16 || long % 2 == 1 || short % 2 == 1 {
        return Err(Error::Size { width: config.width, height: config.height });
    }
    Ok(())
}

fn vui(colour: Colour) -> VuiConfig {
    let vui = match colour.matrix {
        Matrix::Bt601 => VuiConfig::bt601(),
        Matrix::Bt709 => VuiConfig::bt709(),
        Matrix::Bt2020 => VuiConfig::bt2020().matrix_coefficients(MatrixCoefficients::Bt2020Ncl),
    };
    vui.full_range(colour.range == Range::Full)
}

/// The picture as the codec's binding wants it.
struct Planes<'a>(&'a I420);

impl YUVSource for Planes<'_> {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.width() as usize, self.0.height() as usize)
    }
    fn strides(&self) -> (usize, usize, usize) {
        let width = self.0.width() as usize;
        (width, width / 2, width / 2)
    }
    fn y(&self) -> &[u8] {
        self.0.y()
    }
    fn u(&self) -> &[u8] {
        self.0.u()
    }
    fn v(&self) -> &[u8] {
        self.0.v()
    }
}
