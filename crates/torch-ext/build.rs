//! Compiles the shim against the headers that torch-sys was built with, and tells the linker where libtorch lies.
//!
//! torch-sys hands its library folder to direct dependents as `DEP_TCH_LIBTORCH_LIB`; the headers stand beside it. The
//! kernels are compiled once for each instruction set; the program picks one when it runs (cpp/select.cpp).

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    let lib =
        PathBuf::from(std::env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names its library folder"));
    let include = lib.parent().expect("the library folder has a parent").join("include");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    // Weights of the torch side refer to the kernels, so the kernels come later on the linker's line.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .flag_if_supported("-O2")
        // What at::parallel_for is made of: without it every loop would run on one thread.
        .flag("-fopenmp")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files([
            "cpp/shim.cpp",
            "cpp/functions.cpp",
            "cpp/attention.cpp",
            "cpp/meter.cpp",
            "cpp/optimizer.cpp",
            "cpp/select.cpp",
        ])
        .compile("llama_pro_shim");
    if x86 {
        let wide = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"];
        kernels("avx2", &["-mavx2", "-mfma"]);
        kernels("avx512", &wide);
        kernels("avx512bf16", &[wide.as_slice(), &["-mavx512bf16"]].concat());
    }
    decode(&include, x86);
    // libtorch brings the same library, and only one is loaded.
    println!("cargo:rustc-link-lib=gomp");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn kernels(name: &str, flags: &[&str]) {
    let mut build = cc::Build::new();
    // Memory is read as words and as numbers, and 64-byte vectors are passed between inlined functions.
    build
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flags(["-fno-strict-aliasing", "-Wno-psabi", "-fno-math-errno"])
        .flags(flags);
    build.file(format!("cpp/kernels_{name}.cpp")).compile(&format!("llama_pro_kernels_{name}"));
}

/// Cached inference on the CPU: what calls libtorch, then the kernels it refers to, once for each instruction set.
fn decode(include: &Path, x86: bool) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .flag_if_supported("-O2")
        // What at::parallel_for is made of: without it every loop would run on one thread.
        .flag("-fopenmp")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .file("cpp/decode.cpp")
        .compile("llama_pro_decode");
    let kernels = |level: &str, lanes: u32, tile: u32, flags: &[&str]| {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(3).flag("-Wno-psabi").flags(flags);
        build.define("LP_LEVEL", level);
        build.define("LANES", lanes.to_string().as_str()).define("TILE", tile.to_string().as_str());
        build.file("cpp/decode_kernels.cpp").compile(&format!("llama_pro_decode_{level}"));
    };
    kernels("generic", 4, 4, &[]);
    if x86 {
        kernels("avx2", 8, 4, &["-mavx2", "-mfma"]);
        let flags = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma"];
        kernels("avx512", 16, 8, &flags);
    }
}
