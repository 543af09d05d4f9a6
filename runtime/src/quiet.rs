//! Drivers that talk.

/// Keeps Mesa from asking a desktop that is not there: with every instance its layer that orders devices connects to
/// Wayland, whose library complains on stderr where `XDG_RUNTIME_DIR` is not set, as on servers. Does nothing where it is
/// set, or where there are other threads: call it first in `main`.
#[allow(unsafe_code, reason = "a setting of the process; checked to be alone")]
pub fn quiet_mesa() {
    let set = |name| std::env::var_os(name).is_some();
    let alone = || std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if cfg!(target_os = "linux") && !set("XDG_RUNTIME_DIR") && !set("NODEVICE_SELECT") && alone() {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
