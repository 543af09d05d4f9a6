//! The codec parameters that its binding does not offer.

use std::ffi::c_void;
use std::ptr::from_mut;

use openh264::encoder::Encoder;
use openh264_sys2::{
    ENCODER_OPTION, ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT,
    LEVEL_UNKNOWN, PRO_HIGH, RC_BITRATE_MODE, SBitrateInfo, SEncParamExt, SM_FIXEDSLCNUM_SLICE,
    SPATIAL_LAYER_0,
};

use super::Error;

/// Fastest frame rate that openh264's rate control knows, in Hz.
pub(super) const MAX_CODEC_FPS: f64 = 60.0;

/// CABAC in place of CAVLC.
const CABAC: i32 = 1;

/// An option's number together with the C type of its value.
trait CodecOption {
    const NUMBER: ENCODER_OPTION;
    type Value;
}

struct Parameters;
impl CodecOption for Parameters {
    const NUMBER: ENCODER_OPTION = ENCODER_OPTION_SVC_ENCODE_PARAM_EXT;
    type Value = SEncParamExt;
}

struct Bitrate;
impl CodecOption for Bitrate {
    const NUMBER: ENCODER_OPTION = ENCODER_OPTION_BITRATE;
    type Value = SBitrateInfo;
}

struct MaxBitrate;
impl CodecOption for MaxBitrate {
    const NUMBER: ENCODER_OPTION = ENCODER_OPTION_MAX_BITRATE;
    type Value = SBitrateInfo;
}

#[derive(Clone, Copy)]
enum Access {
    Get,
    Set,
}

fn access<O: CodecOption>(codec: &mut Encoder, access: Access, value: &mut O::Value) -> Result<(), Error> {
    let pointer = from_mut(value).cast::<c_void>();
    // SAFETY: arguments are the option's number and a pointer to its value. `CodecOption` pairs each number
    // with the C type that openh264 2.6 reads or writes for it (`CWelsH264SVCEncoder::SetOption` and
    // `GetOption`), so `pointer` is valid for that size, aligned and exclusively borrowed for the call; the
    // codec copies the value and keeps no pointer. The callers, all in this module, run after
    // `Encoder::new` encoded its first picture, which initialised the codec; before that it refuses options.
    let status = unsafe {
        let api = codec.raw_api();
        match access {
            Access::Get => api.get_option(O::NUMBER, pointer),
            Access::Set => api.set_option(O::NUMBER, pointer),
        }
    };
    if status == 0 { Ok(()) } else { Err(Error::Codec(format!("option {} gives {status}", O::NUMBER))) }
}

/// Sets what the binding cannot, and restarts the codec with it.
pub(super) fn tune(codec: &mut Encoder, threads: u16, max_bps: f64) -> Result<(), Error> {
    let mut parameters = SEncParamExt::default();
    access::<Parameters>(codec, Access::Get, &mut parameters)?;
    parameters.iRCMode = RC_BITRATE_MODE;
    parameters.iEntropyCodingModeFlag = CABAC;
    parameters.iMaxBitrate = whole(max_bps);
    let layer = &mut parameters.sSpatialLayers[0];
    layer.uiProfileIdc = PRO_HIGH;
    layer.uiLevelIdc = LEVEL_UNKNOWN;
    // The binding sets the maximum to the target, above which the rate control could not go.
    layer.iMaxSpatialBitrate = whole(max_bps);
    if threads > 1 {
        layer.sSliceArgument.uiSliceMode = SM_FIXEDSLCNUM_SLICE;
        layer.sSliceArgument.uiSliceNum = threads.into();
    }
    access::<Parameters>(codec, Access::Set, &mut parameters)
}

/// Raises the highest bitrate that [`set_bitrate`] may ask for.
pub(super) fn set_max_bitrate(codec: &mut Encoder, bps: f64) -> Result<(), Error> {
    let mut info = SBitrateInfo { iLayer: SPATIAL_LAYER_0, iBitrate: whole(bps) };
    access::<MaxBitrate>(codec, Access::Set, &mut info)
}

/// Sets what the codec's own rate control aims at from the next frame on.
pub(super) fn set_bitrate(codec: &mut Encoder, bps: f64) -> Result<(), Error> {
    let mut info = SBitrateInfo { iLayer: SPATIAL_LAYER_0, iBitrate: whole(bps) };
    access::<Bitrate>(codec, Access::Set, &mut info)
}

fn whole(bps: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the configuration bounds it at 150 Mbit/s")]
    let whole = bps as i32;
    whole
}
