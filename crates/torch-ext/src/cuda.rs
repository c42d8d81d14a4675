//! Opens libtorch_cuda.so at start, so that the program that links only libtorch_cpu.so finds the GPU.
//!
//! The CUDA library registers its kernels when it is loaded. The linker drops a library that nothing refers to, so it
//! must be opened by hand, before the first tensor is made.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::path::Path;

/// Tries to open libtorch_cuda.so: first in `folder` (where libtorch lies), then wherever the loader looks. Returns
/// whether it is open now. Its absence is no error: the program then runs on the CPU and says so.
pub fn load_cuda(folder: Option<&Path>) -> bool {
    let by_path = folder.map(|f| f.join("libtorch_cuda.so")).filter(|p| p.exists());
    let by_path = by_path.and_then(|p| CString::new(p.into_os_string().into_encoded_bytes()).ok());
    by_path.is_some_and(|name| open(&name)) || open(c"libtorch_cuda.so")
}

fn open(name: &CStr) -> bool {
    const FLAGS: c_int = libc::RTLD_NOW | libc::RTLD_GLOBAL;
    // SAFETY: `name` is NUL-terminated; loading runs the library's own initialisers, which is what it is opened for,
    // and the handle is kept open for the life of the program.
    !unsafe { libc::dlopen(name.as_ptr(), FLAGS) }.is_null()
}
