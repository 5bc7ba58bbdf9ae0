//! What graviola's cryptography needs of the processor: it asserts these features, and an error is better than a panic.

use std::io;

/// # Errors
/// Where a feature is missing, with what to do instead: `alternative`.
pub(crate) fn check(what: &str, alternative: &str) -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    let has_all = std::is_x86_feature_detected!("aes")
        && std::is_x86_feature_detected!("pclmulqdq")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("adx")
        && std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let has_all = true;
    if has_all {
        return Ok(());
    }
    let text = format!("{what} needs a processor with AES, PCLMULQDQ, BMI2, ADX and AVX2; {alternative}");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
