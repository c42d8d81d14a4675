//! Which wheels libtorch is unpacked from, pinned by digest: PyPI's torch 2.11.0 and the NVIDIA libraries that
//! its libtorch_cpu.so needs even where there is no GPU.
//!
//! The wheels for CPython 3.12 are taken whatever Python is here: only their C++ headers and libraries are used.
//! Linux x86-64 is tested; the wheels of Linux aarch64 and macOS arm64 are pinned the same way and untested, as is
//! running on a GPU.

/// One wheel to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Wheel {
    /// The file name.
    pub(crate) file: String,
    /// Size in bytes: what the progress bar counts against.
    pub(crate) bytes: u64,
    /// SHA-256, 64 hex digits.
    pub(crate) sha256: String,
    /// The members that are unpacked, and where they go.
    pub(crate) members: &'static [Member],
}

impl Wheel {
    /// What pip is asked for, `name==version`: the first two parts of a wheel's file name.
    pub(crate) fn requirement(&self) -> String {
        let mut parts = self.file.split('-');
        let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{}=={version}", name.replace('_', "-"))
    }
}

/// Members of a wheel by pattern (`*` also matches `/`), and their place in the unpacked tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    /// Put into this folder under the bare file name.
    Flat(&'static str, &'static str),
    /// The path with this prefix taken off.
    Strip(&'static str, &'static str),
}

impl Member {
    /// Pattern, kind and operand for unpack.py.
    pub(crate) fn rule(self) -> [&'static str; 3] {
        match self {
            Self::Flat(pattern, folder) => [pattern, "flat", folder],
            Self::Strip(pattern, prefix) => [pattern, "strip", prefix],
        }
    }
}

/// Everything that one variant of libtorch is made of.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    /// The name of the folder in the cache.
    pub(crate) name: &'static str,
    /// Where in that folder `include/` and `lib/` lie.
    pub(crate) inside: &'static str,
    /// Platform tags for pip, the newest first: each wheel was built for another.
    pub(crate) platforms: Vec<String>,
    /// The wheels.
    pub(crate) wheels: Vec<Wheel>,
    /// The wheel's own libtorch.so needs libtorch_cuda.so: write a linker script that names libtorch_cpu.so.
    pub(crate) linker_script: bool,
}

impl Pins {
    /// The bytes to fetch.
    pub(crate) fn bytes(&self) -> u64 {
        self.wheels.iter().map(|wheel| wheel.bytes).sum()
    }
}

/// The pins for a system; none where no wheel is known to fit.
pub(crate) fn pins(os: &str, arch: &str, cuda: bool) -> Option<Pins> {
    let linux = |arch: &str| {
        let tags = ["_2_28", "_2_27", "_2_25", "_2_18", "_2_17", "2014", "_2_12", "2010", "_2_5", "1"];
        tags.iter().map(|tag| format!("manylinux{tag}_{arch}")).collect()
    };
    let name = if cuda { CUDA } else { CPU };
    let (platforms, wheels, inside): (Vec<String>, &[Row], _) = match (os, arch, cuda) {
        ("linux", "x86_64", false) => (linux(arch), &X86_64, ""),
        ("linux", "x86_64", true) => (linux(arch), &X86_64_CUDA, "torch"),
        ("linux", "aarch64", false) => (linux(arch), &AARCH64, ""),
        ("macos", "aarch64", false) => (vec!["macosx_11_0_arm64".to_owned()], &MACOS, ""),
        _ => return None,
    };
    let wheels = wheels.iter().map(|&(file, bytes, sha256, members)| Wheel {
        file: file.to_owned(),
        bytes,
        sha256: sha256.to_owned(),
        members,
    });
    Some(Pins { name, inside, platforms, wheels: wheels.collect(), linker_script: os == "linux" && !cuda })
}

/// The folder of the CPU variant in the cache.
pub(crate) const CPU: &str = "libtorch-2.11.0-cpu";
/// The folder of the CUDA variant in the cache.
pub(crate) const CUDA: &str = "libtorch-2.11.0-cuda";

type Row = (&'static str, u64, &'static str, &'static [Member]);

/// The CPU half of a Linux torch wheel. The names that x86-64 has not are aarch64's BLAS and its helpers.
const LINUX: &[Member] = &[
    Member::Strip("torch/include/*", "torch/"),
    Member::Flat("torch/lib/libtorch_cpu.so", "lib"),
    Member::Flat("torch/lib/libc10.so", "lib"),
    Member::Flat("torch/lib/libgomp*.so*", "lib"),
    Member::Flat("torch/lib/libgfortran*.so*", "lib"),
    Member::Flat("torch/lib/libarm_compute*.so*", "lib"),
    Member::Flat("torch/lib/libnvpl_*.so*", "lib"),
];
const MAC: &[Member] = &[
    Member::Strip("torch/include/*", "torch/"),
    Member::Flat("torch/lib/libtorch.dylib", "lib"),
    Member::Flat("torch/lib/libtorch_cpu.dylib", "lib"),
    Member::Flat("torch/lib/libc10.dylib", "lib"),
    Member::Flat("torch/lib/libomp.dylib", "lib"),
];
const CUDART: &[Member] = &[Member::Flat("nvidia/*/lib/libcudart.so.13", "lib")];
const CUPTI: &[Member] = &[Member::Flat("nvidia/*/lib/libcupti.so.13", "lib")];
/// With CUDA the folders keep the places they have in site-packages: the libraries find each other from there by
/// their own run paths, `$ORIGIN/../../nvidia/…`.
const WHOLE: &[Member] = &[
    Member::Strip("torch/include/*", ""),
    Member::Strip("torch/lib/libtorch.so", ""),
    Member::Strip("torch/lib/libtorch_c*.so", ""),
    Member::Strip("torch/lib/libtorch_nvshmem.so", ""),
    Member::Strip("torch/lib/libc10*.so", ""),
    Member::Strip("torch/lib/libcaffe2_nvrtc.so", ""),
    Member::Strip("torch/lib/libgomp*.so*", ""),
];
const NVIDIA: &[Member] = &[Member::Strip("nvidia/*/lib/*.so*", "")];

#[rustfmt::skip]
const X86_64: [Row; 3] = [
    ("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", 530_712_279, "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756", LINUX),
    ("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 2_243_632, "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", CUDART),
    ("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl", 10_715_597, "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", CUPTI),
];

#[rustfmt::skip]
const AARCH64: [Row; 3] = [
    ("torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl", 419_731_115, "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f", LINUX),
    ("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 2_261_060, "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55", CUDART),
    ("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl", 10_310_827, "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151", CUPTI),
];

#[rustfmt::skip]
const MACOS: [Row; 1] = [
    ("torch-2.11.0-cp312-cp312-macosx_11_0_arm64.whl", 80_606_338, "4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34", MAC),
];

/// torch's own list of requirements, without the Python packages and Triton, which the C++ library never calls.
#[rustfmt::skip]
const X86_64_CUDA: [Row; 16] = [
    ("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", 530_712_279, "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756", WHOLE),
    ("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 2_243_632, "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", NVIDIA),
    ("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl", 10_715_597, "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", NVIDIA),
    ("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl", 423_133_236, "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171", NVIDIA),
    ("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", 90_215_200, "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575", NVIDIA),
    ("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl", 366_066_321, "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf", NVIDIA),
    ("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 214_085_489, "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3", NVIDIA),
    ("nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 1_223_672, "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44", NVIDIA),
    ("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl", 59_544_258, "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc", NVIDIA),
    ("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl", 200_941_980, "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112", NVIDIA),
    ("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 145_942_937, "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b", NVIDIA),
    ("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl", 169_884_119, "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd", NVIDIA),
    ("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl", 196_493_177, "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42", NVIDIA),
    ("nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", 40_713_933, "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b", NVIDIA),
    ("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 60_412_546, "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80", NVIDIA),
    ("nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl", 148_047, "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4", NVIDIA),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_can_be_asked_for() {
        for (os, arch, cuda) in [
            ("linux", "x86_64", false),
            ("linux", "x86_64", true),
            ("linux", "aarch64", false),
            ("macos", "aarch64", false),
        ] {
            let pins = pins(os, arch, cuda).unwrap();
            assert_eq!(pins.wheels[0].requirement(), "torch==2.11.0");
            for wheel in &pins.wheels {
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                // pip must be told every platform tag that a pinned wheel carries, or it will not find it.
                let stem = wheel.file.strip_suffix(".whl").unwrap();
                let mut tags = stem.rsplit('-').next().unwrap().split('.');
                assert!(tags.any(|tag| pins.platforms.iter().any(|p| p == tag)), "{}", wheel.file);
            }
        }
        assert!(pins("windows", "x86_64", false).is_none());
        assert!(pins("macos", "aarch64", true).is_none());
    }

    #[test]
    fn a_requirement_has_dashes() {
        let pins = pins("linux", "x86_64", false).unwrap();
        assert_eq!(pins.wheels[1].requirement(), "nvidia-cuda-runtime==13.0.96");
        assert_eq!(pins.bytes(), 543_671_508);
    }
}
