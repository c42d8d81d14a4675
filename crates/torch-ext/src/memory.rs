//! How much memory tensors take: on a GPU from its allocator, on the CPU from the reports of libtorch's allocator.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use crate::ffi::{self, Error};

/// Most bytes that tensors on a GPU have taken at once since the program started.
///
/// # Errors
/// No such GPU.
pub fn peak_bytes(gpu: usize) -> Result<u64, Error> {
    let mut bytes = 0;
    // SAFETY: `bytes` is written before the call returns.
    ffi::check(unsafe { ffi::lp_device_peak(gpu as i64, &mut bytes) })?;
    Ok(bytes.unsigned_abs())
}

/// Counts the bytes of the CPU tensors that this thread makes and frees while it lives. Tensors over mapped files are not
/// among them, nor is what libraries take for themselves.
pub struct MemoryMeter {
    /// Counting belongs to the thread that began it.
    here: PhantomData<*const ()>,
}

impl MemoryMeter {
    /// Begins to count.
    ///
    /// # Errors
    /// Another meter on this thread.
    pub fn start() -> Result<Self, Error> {
        // SAFETY: changes state of this thread alone.
        ffi::check(unsafe { ffi::lp_meter_start() })?;
        Ok(Self { here: PhantomData })
    }

    /// Bytes there are now, and the most there were at once; what was freed but made before the start counts as less.
    ///
    /// # Errors
    /// None on the thread of the meter.
    pub fn read(&self) -> Result<(i64, i64), Error> {
        let (mut now, mut peak) = (0, 0);
        // SAFETY: both are written before the call returns.
        ffi::check(unsafe { ffi::lp_meter_read(&mut now, &mut peak) })?;
        Ok((now, peak))
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        // SAFETY: `start` has pushed what is popped here, on this thread. It cannot fail, and there is nobody to tell.
        let _ = ffi::check(unsafe { ffi::lp_meter_stop() });
    }
}
