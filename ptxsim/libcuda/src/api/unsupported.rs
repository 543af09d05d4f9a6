//! What cudarc can call and the stand-in cannot do: an error, since a name that is missing would be a panic there.

use crate::status::{ERROR_NOT_SUPPORTED, Status};

macro_rules! unsupported {
    ($($name:ident)*) => {$(
        /// Not there. Arguments are the caller's to clean up, so that none need be named.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> Status {
            eprintln!(concat!("ptxsim: ", stringify!($name), " is not supported"));
            ERROR_NOT_SUPPORTED
        }
    )*};
}

unsupported! {
    cuCtxCreate_v3 cuCtxDestroy_v2 cuCtxSetFlags cuCtxSetLimit cuCtxGetLimit cuCtxSetCacheConfig cuCtxGetCacheConfig
    cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceSetMemPool
    cuMemPoolCreate cuMemPoolDestroy cuMemPoolTrimTo cuMemPoolGetAttribute cuMemPoolSetAttribute
    cuMemAllocFromPoolAsync cuMemAllocManaged cuMemAdvise cuMemPrefetchAsync cuMemcpyPeerAsync cuStreamAttachMemAsync
    cuImportExternalMemory cuDestroyExternalMemory cuExternalMemoryGetMappedBuffer
    cuLaunchCooperativeKernel cuOccupancyAvailableDynamicSMemPerBlock
    cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
    cuOccupancyMaxPotentialClusterSize cuOccupancyMaxActiveClusters
    cuProfilerStart cuProfilerStop
}
