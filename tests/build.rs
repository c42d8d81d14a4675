//! Tells the loader where libtorch lies (link arguments reach only the package that prints them), and compiles what tests
//! register with libtorch: native/.
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=native");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.to_string_lossy());
    let Some(include) = Path::new(&lib).parent().map(|parent| parent.join("include")) else { return };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("native/flash_reference.cpp")
        .compile("llama_pro_flash_reference");
}
