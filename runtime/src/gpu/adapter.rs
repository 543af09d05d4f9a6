//! Which adapters there are, and which of them to take.

use wgpu::{Adapter, Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags, Surface};

use crate::{Error, Options, Preference};

/// Which adapter to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterChoice {
    /// Whether the best adapter may be one in software.
    pub allow_software: bool,
    /// This adapter and no other: its index in [`adapters`], or a part of its name in any case.
    pub adapter: Option<String>,
}

impl From<&Options> for AdapterChoice {
    fn from(options: &Options) -> Self {
        let allow_software = options.device == Preference::Gpu { allow_software: true };
        Self { allow_software, adapter: options.adapter.clone() }
    }
}

/// One adapter as a user may choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name, as the driver gives it.
    pub name: String,
    /// The API: `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// Driver and version.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub software: bool,
}

/// All adapters, in the order of their indices.
pub fn adapters() -> Vec<AdapterInfo> {
    let describe = |adapter: &Adapter| {
        let info = adapter.get_info();
        AdapterInfo {
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            name: info.name,
            backend: info.backend.to_str(),
            software: info.device_type == DeviceType::Cpu,
        }
    };
    all(&instance()).iter().map(describe).collect()
}

/// The entry to all APIs that we use: what a window makes its surface with.
pub fn instance() -> Instance {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::PRIMARY;
    descriptor.flags = InstanceFlags::empty();
    Instance::new(descriptor)
}

fn all(instance: &Instance) -> Vec<Adapter> {
    pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY))
}

/// The better adapter has the lower rank; none for one that may not be used.
fn rank(kind: DeviceType, allow_software: bool) -> Option<u8> {
    match kind {
        DeviceType::DiscreteGpu => Some(0),
        DeviceType::IntegratedGpu => Some(1),
        DeviceType::VirtualGpu => Some(2),
        DeviceType::Other => Some(3),
        // lavapipe, SwiftShader and WARP: our own CPU code is several times faster.
        DeviceType::Cpu => allow_software.then_some(4),
    }
}

/// Whether an adapter is the one that the user named.
fn is_named(wanted: &str, index: usize, name: &str) -> bool {
    match wanted.parse::<usize>() {
        Ok(wanted) => wanted == index,
        Err(_) => name.to_lowercase().contains(&wanted.to_lowercase()),
    }
}

/// The best adapter that `choice` allows, and that can draw on `surface` if there is one.
///
/// # Errors
/// [`Error::NoAdapter`], [`Error::NoSuchAdapter`].
pub(super) fn choose(
    instance: &Instance,
    surface: Option<&Surface>,
    choice: &AdapterChoice,
) -> Result<Adapter, Error> {
    let rank = |index: usize, adapter: &Adapter| {
        let info = adapter.get_info();
        if surface.is_some_and(|surface| !adapter.is_surface_supported(surface)) {
            return None;
        }
        match &choice.adapter {
            Some(wanted) => {
                is_named(wanted, index, &info.name).then(|| rank(info.device_type, true)).flatten()
            }
            None => rank(info.device_type, choice.allow_software),
        }
    };
    all(instance)
        .into_iter()
        .enumerate()
        .filter_map(|(index, adapter)| Some((rank(index, &adapter)?, adapter)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, adapter)| adapter)
        .ok_or_else(|| match &choice.adapter {
            Some(name) => Error::NoSuchAdapter { name: name.chars().take(64).collect() },
            None => Error::NoAdapter { software: choice.allow_software },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_named_by_index_or_by_part_of_its_name() {
        assert!(is_named("1", 1, "NVIDIA H100") && !is_named("1", 0, "GPU 1"));
        assert!(is_named("h100", 0, "NVIDIA H100") && !is_named("rtx", 0, "NVIDIA H100"));
    }

    #[test]
    fn each_listed_adapter_can_be_named() {
        let instance = instance();
        for (index, info) in adapters().into_iter().enumerate() {
            for adapter in [index.to_string(), info.name.clone()] {
                let choice = AdapterChoice { allow_software: false, adapter: Some(adapter) };
                assert_eq!(choose(&instance, None, &choice).unwrap().get_info().name, info.name);
            }
        }
        let choice = AdapterChoice { allow_software: true, adapter: Some("no such".into()) };
        assert!(
            matches!(choose(&instance, None, &choice), Err(Error::NoSuchAdapter { name }) if name == "no such")
        );
    }
}
