//! GPUs that are not there: the drivers of Mesa, each before a kernel driver that computes nothing, and how a program is started
//! on one of them.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Whose compiler it is: what it says of a pipeline differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Amd,
    Nvidia,
    Apple,
    Qualcomm,
    Intel,
}

pub struct Device {
    /// As the table names it.
    pub name: &'static str,
    pub what: &'static str,
    pub maker: Maker,
    /// The variable by which the kernel driver that is not there is told what to be, and its value.
    pub says: (&'static str, &'static str),
    /// Compiled for at each change; the others by the whole table.
    pub is_usual: bool,
}

const fn device(name: &'static str, what: &'static str, maker: Maker, says: (&'static str, &'static str)) -> Device {
    Device { name, what, maker, says, is_usual: false }
}

const fn usual(device: Device) -> Device {
    Device { is_usual: true, ..device }
}

pub const DEVICES: [Device; 18] = [
    device("polaris10", "GCN 4, Radeon RX 480", Maker::Amd, ("AMDGPU_GPU_ID", "polaris10")),
    device("vega10", "GCN 5, Radeon RX Vega", Maker::Amd, ("AMDGPU_GPU_ID", "vega10")),
    device("navi10", "RDNA 1, Radeon RX 5700", Maker::Amd, ("AMDGPU_GPU_ID", "navi10")),
    device("navi21", "RDNA 2, Radeon RX 6800", Maker::Amd, ("AMDGPU_GPU_ID", "navi21")),
    usual(device("navi31", "RDNA 3, Radeon RX 7900", Maker::Amd, ("AMDGPU_GPU_ID", "navi31"))),
    device("gfx1201", "RDNA 4, Radeon RX 9070", Maker::Amd, ("AMDGPU_GPU_ID", "gfx1201")),
    device("pascal", "GeForce GTX 10", Maker::Nvidia, ("NOUVEAU_CHIPSET", "0x134")),
    device("turing", "GeForce RTX 20", Maker::Nvidia, ("NOUVEAU_CHIPSET", "0x164")),
    device("ampere", "GeForce RTX 30", Maker::Nvidia, ("NOUVEAU_CHIPSET", "0x174")),
    usual(device("ada", "GeForce RTX 40", Maker::Nvidia, ("NOUVEAU_CHIPSET", "0x194"))),
    device("blackwell", "GeForce RTX 50", Maker::Nvidia, ("NOUVEAU_CHIPSET", "0x1b2")),
    usual(device("m1", "Apple M1", Maker::Apple, ("ASAHI_MESA_DEBUG", ""))),
    device("adreno630", "Adreno 630", Maker::Qualcomm, ("FD_GPU_ID", "630")),
    usual(device("adreno740", "Adreno 740", Maker::Qualcomm, ("FD_GPU_ID", "740"))),
    device("a770", "Xe, Arc A770", Maker::Intel, ("XE_DEVICE", "a770")),
    usual(device("b580", "Xe2, Arc B580", Maker::Intel, ("XE_DEVICE", "b580"))),
    device("tigerlake", "Xe, in the processor", Maker::Intel, ("XE_DEVICE", "tigerlake")),
    device("lunarlake", "Xe2, in the processor", Maker::Intel, ("XE_DEVICE", "lunarlake")),
];

/// Where `tests/compilers/fill.sh` put everything.
pub struct Place(pub PathBuf);

impl Place {
    pub fn worker(&self) -> PathBuf {
        self.0.join("worker/debug/kernel-compilers")
    }

    /// Mesa's version.
    pub fn mesa(&self) -> String {
        let version = std::fs::read_to_string(self.0.join("mesa/root/mesa-version")).expect("Mesa is unpacked");
        version.trim().to_string()
    }

    fn libraries(&self) -> PathBuf {
        self.0.join("mesa/root/usr/lib/x86_64-linux-gnu")
    }

    /// What the worker says of the kernels in `kernels` on a device.
    pub fn compile(&self, device: &Device, kernels: &Path) -> Output {
        let (driver, before) = match device.maker {
            Maker::Amd => ("radeon", self.libraries().join("libamdgpu_noop_drm_shim.so")),
            Maker::Nvidia => ("nouveau", self.libraries().join("libnouveau_noop_drm_shim.so")),
            Maker::Apple => ("asahi", self.libraries().join("libasahi_noop_drm_shim.so")),
            Maker::Qualcomm => ("freedreno", self.libraries().join("libfreedreno_noop_drm_shim.so")),
            Maker::Intel => ("intel", self.0.join("libxe_noop.so")),
        };
        // The driver's description names its library as if it were installed.
        let library = self.libraries().join(format!("libvulkan_{driver}.so"));
        let icd = kernels.join(format!("{}.icd.json", device.name));
        let description = serde_json::json!({
            "file_format_version": "1.0.1",
            "ICD": { "library_path": library, "api_version": "1.4.0" },
        });
        std::fs::write(&icd, description.to_string()).expect("written");
        Command::new(self.0.join("mesa/root/usr/lib64/ld-linux-x86-64.so.2"))
            .args(["--inhibit-cache", "--library-path"])
            .arg(self.libraries())
            .arg("--preload")
            .arg(before)
            .arg(self.worker())
            .arg("pipelines")
            .arg(kernels)
            .env("VK_DRIVER_FILES", icd)
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .env("XDG_RUNTIME_DIR", kernels)
            .env(device.says.0, device.says.1)
            .output()
            .expect("the dynamic loader that came with Mesa")
    }
}
