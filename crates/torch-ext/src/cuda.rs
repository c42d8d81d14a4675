//! Opens libtorch_cuda.so at start, so that the program that links only libtorch_cpu.so finds the GPU.
//!
//! The CUDA library registers its kernels when it is loaded. The linker drops a library that nothing refers to, so it
//! must be opened by hand, before the first tensor is made.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::path::Path;

use crate::Error;

/// Tries to open libtorch_cuda.so: first in `folder` (where libtorch lies), then wherever the loader looks. `Ok` says
/// whether it is open now; its absence is no error, the program then runs on the CPU and says so.
///
/// # Errors
/// The loader's reason, when the library is there and cannot be opened.
pub fn load_cuda(folder: Option<&Path>) -> Result<bool, Error> {
    let by_path = folder.map(|f| f.join("libtorch_cuda.so")).filter(|p| p.exists());
    match by_path.and_then(|p| CString::new(p.into_os_string().into_encoded_bytes()).ok()) {
        Some(name) if open(&name) => Ok(true),
        Some(_) => Err(Error::Argument(reason())),
        None => Ok(open(c"libtorch_cuda.so")),
    }
}

/// What the loader said last, in one line.
fn reason() -> String {
    // SAFETY: dlerror returns null or a NUL-terminated string that stays valid until the next dl call of this thread.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    text.lines().next().unwrap_or("the loader gave no reason").to_owned()
}

fn open(name: &CStr) -> bool {
    const FLAGS: c_int = libc::RTLD_NOW | libc::RTLD_GLOBAL;
    // SAFETY: `name` is NUL-terminated; loading runs the library's own initialisers, which is what it is opened for,
    // and the handle is kept open for the life of the program.
    !unsafe { libc::dlopen(name.as_ptr(), FLAGS) }.is_null()
}
