//! The version that programs report.

/// The version of NSQ whose behaviour the programs have, as clients and tools see it.
pub const NSQ_VERSION: &str = "1.3.0";

/// The version of the compiler that built the programs.
pub const RUSTC_VERSION: &str = env!("RUSTC_VERSION");

/// The line that `program` prints for `-version`. Scripts split it at spaces.
pub fn line(program: &str) -> String {
    format!("{program} v{NSQ_VERSION} (built w/rust{RUSTC_VERSION})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_one_word_behind_the_version() {
        let text = line("nsqd");
        let words: Vec<_> = text.split(' ').collect();
        let ["nsqd", "v1.3.0", "(built", compiler] = words[..] else { panic!("{text}") };
        let version = compiler.strip_prefix("w/rust").and_then(|text| text.strip_suffix(')'));
        assert!(version.is_some_and(|text| text.starts_with("1.")), "{text}");
    }
}
