//! Instruction sets: which one a kernel runs on, chosen at run time. All of them give the same bits.
use crate::error::{Error, Result};
use pulp::{Scalar, Simd, WithSimd};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// One element at a time, with a fused multiply-add by the standard library: any machine.
    Scalar,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, CD, DQ, VL): 16 lanes.
    Avx512,
    /// AArch64: 4 lanes.
    Neon,
}

impl Level {
    /// Levels of this machine, the slowest first.
    pub fn available() -> Vec<Level> {
        [Level::Scalar, Level::Neon, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.is_available()).collect()
    }

    /// The fastest level of this machine.
    pub fn best() -> Level {
        Level::available().last().copied().unwrap_or(Level::Scalar)
    }

    /// As benches and messages write it: scalar, avx2, avx512 or neon.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
        }
    }

    /// Whether this processor has the instructions, asked at run time; scalar code runs on every one.
    pub fn is_available(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => pulp::aarch64::Neon::try_new().is_some(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The level itself if this machine has it.
    pub(crate) fn checked(self) -> Result<Level> {
        if self.is_available() {
            return Ok(self);
        }
        let names: Vec<_> = Level::available().into_iter().map(Level::name).collect();
        Err(Error::Unsupported(format!("this machine has no {}; it has {}", self.name(), names.join(", "))))
    }

    /// Runs `op` compiled for this level. A level that the machine lacks runs as scalar code: the bits are the same.
    #[inline]
    pub(crate) fn run<O: WithSimd>(self, op: O) -> O::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                if let Some(simd) = pulp::x86::V3::try_new() {
                    return Simd::vectorize(simd, op);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                if let Some(simd) = pulp::x86::V4::try_new() {
                    return Simd::vectorize(simd, op);
                }
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => {
                if let Some(simd) = pulp::aarch64::Neon::try_new() {
                    return Simd::vectorize(simd, op);
                }
            }
            _ => {}
        }
        Simd::vectorize(Scalar, op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_the_machine_lacks_is_named() {
        let lacking = [Level::Neon, Level::Avx512, Level::Avx2].into_iter().find(|l| !l.is_available());
        if let Some(level) = lacking {
            let message = level.checked().unwrap_err().to_string();
            assert!(message.contains(level.name()) && message.contains("scalar"), "{message}");
        }
        assert!(Level::best().is_available());
        assert_eq!(Level::available()[0], Level::Scalar);
    }
}
