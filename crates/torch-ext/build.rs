//! Compiles the shim against the headers that torch-sys was built with, and tells the linker where libtorch lies.
//!
//! torch-sys hands its library folder to direct dependents as `DEP_TCH_LIBTORCH_LIB`; the headers stand beside it.
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=cpp/shim.cpp");
    println!("cargo:rerun-if-changed=cpp/shim.h");
    let lib =
        PathBuf::from(std::env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names its library folder"));
    let include = lib.parent().expect("the library folder has a parent").join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .flag_if_supported("-O2")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("cpp/shim.cpp")
        .compile("llama_pro_shim");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
