//! Which instruction sets this process may use: [`Level`] is the name a person types, [`Isa`] the proof.
//!
//! An [`Isa`] that names an instruction set holds a token that only detection can make, so a function that takes the token
//! needs no further check. Only the command line reads `HEARTH_CPU`; this crate is told a level.

use std::fmt;
use std::str::FromStr;

use crate::error::KernelError;

/// One implementation of every operation. All levels give the same bits; they differ in speed only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The specification: plain loops in the defined order.
    Scalar,
    /// Arrays of lanes that any compiler vectorises as far as the target allows.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// The same and AVX-VNNI, the dot product of bytes without AVX-512.
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL, VNNI, VBMI and VBMI2.
    Avx512,
    /// NEON, which every 64-bit ARM processor has.
    Neon,
    /// NEON and its dot product of bytes.
    NeonDotprod,
    /// NEON, its dot product and its matrix product of bytes.
    NeonI8mm,
}

impl Level {
    /// Every level, slowest first among those of one architecture.
    pub const ALL: [Level; 8] = [
        Level::Scalar,
        Level::Portable,
        Level::Avx2,
        Level::AvxVnni,
        Level::Avx512,
        Level::Neon,
        Level::NeonDotprod,
        Level::NeonI8mm,
    ];

    /// The fastest level this processor can run.
    pub fn best() -> Level {
        Level::available().last().copied().unwrap_or(Level::Scalar)
    }

    /// The levels this processor can run, slowest first.
    pub fn available() -> Vec<Level> {
        Level::ALL
            .into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    /// Whether this processor can run the level.
    pub fn is_available(self) -> bool {
        self.missing_features().is_empty()
    }

    /// The instruction sets that the level needs and this processor lacks, by name.
    pub fn missing_features(self) -> Vec<&'static str> {
        match self {
            Level::Scalar | Level::Portable => Vec::new(),
            Level::Avx2 => detect::missing_avx2(),
            Level::AvxVnni => detect::missing_avxvnni(),
            Level::Avx512 => detect::missing_avx512(),
            Level::Neon => detect::missing_neon(),
            Level::NeonDotprod => detect::missing_neon_dotprod(),
            Level::NeonI8mm => detect::missing_neon_i8mm(),
        }
    }

    /// The name that `HEARTH_CPU` and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::AvxVnni => "avxvnni",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
            Level::NeonDotprod => "neon-dotprod",
            Level::NeonI8mm => "neon-i8mm",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Level, KernelError> {
        Level::ALL
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| KernelError::UnknownLevel {
                name: name.to_owned(),
            })
    }
}

/// Proof that the processor has AVX2, FMA and F16C, and perhaps AVX-VNNI.
#[derive(Debug, Clone, Copy)]
pub struct Avx2 {
    has_vnni: bool,
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Whether the proof extends to AVX-VNNI.
    pub fn has_vnni(self) -> bool {
        self.has_vnni
    }
}

/// Proof that the processor has AVX-512 F, BW, DQ, VL, VNNI, VBMI, VBMI2 and all that [`Avx2`] stands for.
#[derive(Debug, Clone, Copy)]
pub struct Avx512 {
    #[cfg(target_arch = "x86_64")]
    is_amd: bool,
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// Whether AMD made the processor: its vectors of 512 bits have other strengths than Intel's.
    pub fn is_amd(self) -> bool {
        self.is_amd
    }

    /// The same instructions with the choices of another maker's processor.
    #[cfg(test)]
    pub(crate) fn of_other_maker(self) -> Avx512 {
        Avx512 {
            is_amd: !self.is_amd,
        }
    }

    /// Every processor with the AVX-512 level has the AVX2 level.
    pub fn avx2(self) -> Avx2 {
        Avx2 { has_vnni: false }
    }
}

/// Proof that the processor has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

/// Proof that the processor has NEON and the dot product of bytes.
#[derive(Debug, Clone, Copy)]
pub struct NeonDotprod(());

/// Proof that the processor has NEON and the dot product and the matrix product of bytes.
#[derive(Debug, Clone, Copy)]
pub struct NeonI8mm(());

#[cfg(target_arch = "aarch64")]
impl NeonDotprod {
    /// The level is NEON and more.
    pub fn neon(self) -> Neon {
        Neon(())
    }
}

#[cfg(target_arch = "aarch64")]
impl NeonI8mm {
    /// The level is NEON and more.
    pub fn neon(self) -> Neon {
        Neon(())
    }
}

/// A level together with the right to use its instructions.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// See [`Level::Scalar`].
    Scalar,
    /// See [`Level::Portable`].
    Portable,
    /// See [`Level::Avx2`] and [`Level::AvxVnni`].
    Avx2(Avx2),
    /// See [`Level::Avx512`].
    Avx512(Avx512),
    /// See [`Level::Neon`].
    Neon(Neon),
    /// See [`Level::NeonDotprod`].
    NeonDotprod(NeonDotprod),
    /// See [`Level::NeonI8mm`].
    NeonI8mm(NeonI8mm),
}

impl Isa {
    /// Checks the processor.
    ///
    /// # Errors
    /// [`KernelError::LevelUnavailable`] with the names of what is missing.
    pub fn new(level: Level) -> Result<Isa, KernelError> {
        let missing = level.missing_features();
        if !missing.is_empty() {
            return Err(KernelError::LevelUnavailable { level, missing });
        }
        Ok(match level {
            Level::Scalar => Isa::Scalar,
            Level::Portable => Isa::Portable,
            Level::Avx2 => Isa::Avx2(Avx2 { has_vnni: false }),
            Level::AvxVnni => Isa::Avx2(Avx2 { has_vnni: true }),
            Level::Avx512 => Isa::Avx512(Avx512 {
                #[cfg(target_arch = "x86_64")]
                is_amd: detect::is_amd(),
            }),
            Level::Neon => Isa::Neon(Neon(())),
            Level::NeonDotprod => Isa::NeonDotprod(NeonDotprod(())),
            Level::NeonI8mm => Isa::NeonI8mm(NeonI8mm(())),
        })
    }

    /// The level proved.
    pub fn level(self) -> Level {
        match self {
            Isa::Scalar => Level::Scalar,
            Isa::Portable => Level::Portable,
            Isa::Avx2(token) if token.has_vnni => Level::AvxVnni,
            Isa::Avx2(_) => Level::Avx2,
            Isa::Avx512(_) => Level::Avx512,
            Isa::Neon(_) => Level::Neon,
            Isa::NeonDotprod(_) => Level::NeonDotprod,
            Isa::NeonI8mm(_) => Level::NeonI8mm,
        }
    }
}

mod detect {
    /// Lists the features of `$name` that `$detected` does not find; the macros of std take literals only. On another
    /// architecture the one thing missing is the architecture; its big-endian form counts as another one.
    macro_rules! missing {
        ($arch:literal, $detected:ident, $($name:tt),*) => {{
            #[cfg(all(target_arch = $arch, target_endian = "little"))]
            {
                let names = [$(($name, std::arch::$detected!($name))),*];
                names
                    .into_iter()
                    .filter_map(|(name, found)| (!found).then_some(name))
                    .collect()
            }
            #[cfg(not(all(target_arch = $arch, target_endian = "little")))]
            {
                vec![$arch]
            }
        }};
    }

    macro_rules! missing_x86 {
        ($($name:tt),*) => { missing!("x86_64", is_x86_feature_detected, $($name),*) };
    }

    macro_rules! missing_arm {
        ($($name:tt),*) => { missing!("aarch64", is_aarch64_feature_detected, $($name),*) };
    }

    pub(super) fn missing_avx2() -> Vec<&'static str> {
        missing_x86!("avx2", "fma", "f16c")
    }

    pub(super) fn missing_avxvnni() -> Vec<&'static str> {
        missing_x86!("avx2", "fma", "f16c", "avxvnni")
    }

    /// Asked once: under a hypervisor the question takes microseconds.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_amd() -> bool {
        static IS_AMD: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
            #[allow(
                unused_unsafe,
                reason = "the intrinsic became safe after our minimum version"
            )]
            // SAFETY: every x86-64 processor has the instruction, and leaf 0.
            let id = unsafe { std::arch::x86_64::__cpuid(0) };
            [id.ebx, id.edx, id.ecx]
                .map(u32::to_le_bytes)
                .as_flattened()
                == b"AuthenticAMD"
        });
        *IS_AMD
    }

    pub(super) fn missing_avx512() -> Vec<&'static str> {
        missing_x86!(
            "avx2",
            "fma",
            "f16c",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512vnni",
            "avx512vbmi",
            "avx512vbmi2"
        )
    }

    pub(super) fn missing_neon() -> Vec<&'static str> {
        missing_arm!("neon")
    }

    pub(super) fn missing_neon_dotprod() -> Vec<&'static str> {
        missing_arm!("neon", "dotprod")
    }

    pub(super) fn missing_neon_i8mm() -> Vec<&'static str> {
        missing_arm!("neon", "dotprod", "i8mm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_names_list_the_known_ones() {
        for level in Level::ALL {
            assert_eq!(level.name().parse::<Level>().expect("own name"), level);
        }
        let message = "sse9"
            .parse::<Level>()
            .expect_err("no such level")
            .to_string();
        assert!(
            message.contains("\"sse9\"") && message.contains("portable"),
            "{message}"
        );
    }

    #[test]
    fn isa_exists_exactly_where_nothing_is_missing() {
        for level in Level::ALL {
            match Isa::new(level) {
                Ok(isa) => assert_eq!(isa.level(), level),
                Err(error) => {
                    let message = error.to_string();
                    for name in level.missing_features() {
                        assert!(message.contains(name), "{message} does not name {name}");
                    }
                }
            }
        }
        assert!(Level::Scalar.is_available() && Level::Portable.is_available());
    }
}
